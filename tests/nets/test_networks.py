"""Architectures as text, geometries and counts by hand, arrays in, and the forward pass."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from mdfa_core.base.errors import GeometryError, InvalidValue, MdfaError, UnknownName
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.layers import Conv, Dense
from mdfa_core.nets.networks import NETWORKS, Architecture, Network, parse_architecture
from tests.support.references import ARCHITECTURES, batch_of, learner_of, network_of, reference_of, relative

# ------------------------------------------------------------------------------------------------------------ as a text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("fc:128,64", (Dense(128), Dense(64))),
        ("fc:1", (Dense(1),)),
        ("fc:", ()),
        ("conv:96/5/2,96/3", (Conv(96, 5, 2), Conv(96, 3, 1))),
        ("conv:16/3/1+fc:64,8", (Conv(16, 3, 1), Dense(64), Dense(8))),
        ("digits-fc", (Dense(128), Dense(128))),
        ("cifar-fc", (Dense(1024), Dense(1024))),
        ("cifar-conv", (Conv(96, 5, 2), Conv(96, 3, 2), Conv(96, 3, 1))),
    ],
)
def test_texts_that_are_accepted(text: str, hidden: tuple[Dense | Conv, ...]) -> None:
    assert parse_architecture(text) == Architecture(hidden)


@pytest.mark.parametrize("text", ["", "resnet", "fc", "128,128", "conv", "fc:4+conv:3/3/1", "FC:3", "+", None, 3])
def test_texts_of_no_network_are_refused(text: object) -> None:
    with pytest.raises(UnknownName, match=r"unknown network .*cifar-conv"):
        parse_architecture(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["fc:x", "fc:1.5", "fc:0", "fc:-3", "conv:8", "conv:8/3/1/1", "conv:8/0", "conv:8/3/0", "conv:0/3/1", "conv:a/3/1"],
)
def test_texts_with_bad_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_architecture(text)


def test_a_list_of_nothing_is_not_a_net_without_convolutions() -> None:
    with pytest.raises(MdfaError):
        parse_architecture("conv:,")


@pytest.mark.parametrize(
    "hidden", [(Dense(0),), (Dense(True),), (Dense(2.0),), (Conv(1, 1, 0),), (Dense(3), Conv(4, 3, 1))]
)
def test_layers_that_make_no_sense_are_refused(hidden: tuple[Dense | Conv, ...]) -> None:
    with pytest.raises(InvalidValue, match="hidden layer"):
        Architecture(hidden)


SIZES = st.integers(1, 2000)


@hypothesis.given(
    st.lists(st.builds(Conv, SIZES, SIZES, SIZES), max_size=4), st.lists(st.builds(Dense, SIZES), max_size=4)
)
def test_text_and_architecture_are_one_to_one(convolutions: list[Conv], dense: list[Dense]) -> None:
    architecture = Architecture((*convolutions, *dense))
    assert parse_architecture(str(architecture)) == architecture


@pytest.mark.parametrize("name", NETWORKS)
def test_presets_survive_their_text(name: str) -> None:
    assert parse_architecture(str(NETWORKS[name])) == NETWORKS[name]
    assert parse_architecture(NETWORKS[name]) is NETWORKS[name]


# ----------------------------------------------------------------------------------------------------- geometry by hand


def bound(name: str, image: tuple[int, int, int], outputs: int = 1) -> Network:
    return Network(parse_architecture(name), image, outputs, ACTIVATIONS["tanh"])


@pytest.mark.parametrize(
    ("name", "image", "maps"),
    [
        ("cifar-conv", (3, 32, 32), [(96, 14), (96, 6), (96, 4)]),
        ("digits-conv", (1, 8, 8), [(16, 6), (32, 2)]),
        ("imagenet-conv", (3, 224, 224), [(96, 111), (96, 107), (128, 53), (192, 51), (192, 25), (384, 23)]),
        (
            "imagenet-conv-released",
            (3, 224, 224),
            [(96, 54), (96, 26), (128, 22), (128, 10), (192, 8), (192, 3), (384, 1)],
        ),
    ],
)
def test_convolutional_presets(name: str, image: tuple[int, int, int], maps: list[tuple[int, int]]) -> None:
    network = bound(name, image)

    assert [layer.output_shape for layer in network.hidden] == [(filters, size, size) for filters, size in maps]
    filters, size = maps[-1]
    assert network.layers[-1].weight_shape == (1, filters * size * size)
    assert network.layers[-1].fan_in == filters * size * size


def test_parameter_counts_by_hand() -> None:
    cifar = (3, 32, 32)
    assert bound("cifar-fc", cifar).parameter_count == 3072 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 + 1
    assert bound("cifar-conv", cifar, 3).parameter_count == (
        96 * 3 * 25 + 96 + 2 * (96 * 96 * 9 + 96) + 3 * 96 * 4 * 4 + 3
    )
    assert bound("fc:", cifar, 10).parameter_count == 30730
    assert bound("digits-fc", (1, 8, 8)).parameter_count == 64 * 128 + 128 + 128 * 128 + 128 + 128 + 1
    assert bound("conv:2/3/2+fc:5", (1, 8, 7)).parameter_count == 2 * 9 + 2 + (2 * 3 * 3) * 5 + 5 + 5 + 1


def test_weights_have_torchs_layout_and_fan_in_counts_connections() -> None:
    network = bound("conv:4/3/2+fc:5", (2, 8, 7), 3)
    assert [layer.weight_shape for layer in network.layers] == [(4, 2, 3, 3), (5, 4 * 3 * 3), (3, 5)]
    assert [layer.fan_in for layer in network.layers] == [18, 36, 5]
    assert [layer.units for layer in network.layers] == [36, 5, 3]


@pytest.mark.parametrize(
    ("text", "image", "message"),
    [
        ("conv:4/9/1", (1, 8, 8), r"layer 1 .*9×9.* only 8×8"),
        ("conv:4/5/2,4/3/1", (1, 8, 8), r"layer 2 .*3×3.* only 2×2"),
        ("conv:4/4/1", (1, 9, 3), r"layer 1 .*4×4.* only 9×3"),
        ("cifar-conv", (1, 8, 8), r"layer 2 .*3×3.* only 2×2.*use a smaller kernel"),
        ("conv:4/3/1", (64,), r"layer 1 is a convolution.*\(64,\)"),
    ],
)
def test_a_net_that_does_not_fit_names_the_layer_and_the_sizes(text: str, image: tuple[int, ...], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Network(parse_architecture(text), image, 1, ACTIVATIONS["tanh"])


@pytest.mark.parametrize("outputs", [0, -1])
def test_a_net_without_outputs_is_refused(outputs: int) -> None:
    with pytest.raises(InvalidValue, match="at least 1"):
        bound("fc:3", (1, 2, 2), outputs)


def test_a_kernel_as_large_as_the_image_leaves_one_position() -> None:
    assert bound("conv:4/8/3", (1, 8, 8)).hidden[0].output_shape == (4, 1, 1)


# ---------------------------------------------------------------------------------------------------- arrays and images


def test_parameters_from_arrays_with_and_without_replicas() -> None:
    network = network_of("fc:3", image=(1, 2, 2))
    weights = [np.ones((3, 4)), np.ones((1, 3))]

    single = network.parameters_from(weights)
    assert [tuple(t.shape) for t in single.tensors()] == [(1, 3, 4), (1, 3), (1, 1, 3), (1, 1)]
    assert not any(b.any() for b in single.biases)

    stacked = network.parameters_from([np.stack([w, 2 * w]) for w in weights], [np.ones((2, 3)), np.zeros((2, 1))])
    assert torch.equal(stacked.replica(1).weights[0], 2 * single.weights[0])
    assert stacked.replica(0).biases[0].tolist() == [[1.0, 1.0, 1.0]]


def test_parameters_share_nothing_with_the_arrays_they_came_from() -> None:
    network = network_of("fc:3", image=(1, 2, 2))
    weights = [torch.ones(3, 4, dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)]
    made = network.parameters_from(weights)
    made.weights[0].zero_()
    copy = made.clone()
    copy.weights[1].zero_()

    assert weights[0].eq(1).all()
    assert made.weights[1].eq(1).all()


@pytest.mark.parametrize(
    ("weights", "biases", "message"),
    [
        ([np.ones((4, 3)), np.ones((1, 3))], None, r"weights 1 .*\(4, 3\).*\(3, 4\)"),
        ([np.ones((3, 4))], None, "1 arrays .* 2 are needed"),
        ([np.ones((3, 4)), np.ones(3)], None, "weights 2"),
        ([np.ones((3, 4)), np.ones((1, 3))], [np.ones(3), np.ones(3)], "biases 2"),
        ([np.ones((2, 3, 4)), np.ones((1, 3))], None, "different numbers of replicas"),
        ([np.ones((3, 4)), np.ones((1, 3))], [np.ones((2, 3)), np.ones((2, 1))], "different numbers of replicas"),
        ([np.float64(1), np.ones((1, 3))], None, "weights 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(weights: list, biases: list | None, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        network_of("fc:3", image=(1, 2, 2)).parameters_from(weights, biases)


@pytest.mark.parametrize(
    ("architecture", "shape"), [("fc:3", (2, 5, 12)), ("conv:2/2/1", (2, 5, 3, 2, 2)), ("fc:", (2, 5, 12))]
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_bytes_become_numbers_from_0_to_1_in_the_first_layers_shape(
    architecture: str, shape: tuple[int, ...], precision: str
) -> None:
    network = network_of(architecture, image=(3, 2, 2), precision=precision)
    images = torch.arange(120, dtype=torch.uint8).reshape(2, 5, 3, 2, 2)
    images[0, 0, 0, 0, 0] = 255

    inputs = network.inputs_from(images)

    assert tuple(inputs.shape) == shape
    assert inputs.dtype == network.precision.storage
    assert inputs.flatten()[:3].tolist() == pytest.approx([1.0, 1 / 255, 2 / 255])
    assert images[0, 0, 0, 0, 0] == 255


def test_floats_are_taken_as_they_are() -> None:
    images = torch.rand(1, 4, 3, 2, 2, dtype=torch.float64)
    inputs = network_of("fc:3", image=(3, 2, 2)).inputs_from(images)
    assert torch.equal(inputs, images.reshape(1, 4, 12))


# -------------------------------------------------------------------------------------------------------------- forward


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_trace_holds_every_layers_input_and_preactivation(architecture: str, activation: str) -> None:
    network = network_of(architecture, activation=activation, outputs=3)
    learner = learner_of(network, "bp", rates=(0.1, 0.1))
    inputs, _ = batch_of(network, 4, replicas=2)
    forward_pass = network.forward(learner.parameters, inputs)

    for r in range(2):
        reference = reference_of(learner, "bp", activation, "sgd", r)
        logits = reference.forward(inputs[r].numpy())
        assert relative(forward_pass.logits_RNC[r], torch.from_numpy(logits)) < 1e-13
        for ours, theirs in zip(forward_pass.inputs, reference.inputs, strict=True):
            assert relative(ours[r], torch.from_numpy(theirs)) < 1e-13
        for saved, a in zip(forward_pass.saved, reference.preactivations, strict=False):
            expected = torch.from_numpy(a)
            expected = network.activation.function(expected) if network.activation.from_output else expected
            assert relative(saved[r], expected) < 1e-13


def test_a_shared_batch_equals_the_same_batch_given_to_each() -> None:
    network = network_of("conv:3/3/2+fc:4")
    learner = learner_of(network, "bp", rates=(0.1, 0.1, 0.1))
    inputs, _ = batch_of(network, 4)

    shared = network.forward(learner.parameters, inputs)
    given = network.forward(learner.parameters, inputs.expand(3, *inputs.shape[1:]))

    assert torch.equal(shared.logits_RNC, given.logits_RNC)
    assert shared.logits_RNC.shape == (3, 4, 1)


def test_dense_layers_flatten_maps_in_c_order() -> None:
    network = network_of("conv:2/1/1", image=(1, 2, 2), activation="identity")
    read = np.arange(8.0).reshape(1, 8)  # the output weighs filter, row, column in this order
    parameters = network.parameters_from([np.array([1.0, 10.0]).reshape(2, 1, 1, 1), read])
    image = torch.tensor([[[[[1.0, 2.0], [3.0, 4.0]]]]], dtype=torch.float64)

    logit = network.forward(parameters, network.inputs_from(image)).logits_RNC.item()

    assert logit == (0 * 1 + 1 * 2 + 2 * 3 + 3 * 4) + 10 * (4 * 1 + 5 * 2 + 6 * 3 + 7 * 4)
