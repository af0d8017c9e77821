"""Initializers: bounds and moments by formula, the text they are named by, and what seeds promise."""

from __future__ import annotations

import math

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from mdfa_core.base.errors import InvalidValue, MdfaError, UnknownName
from mdfa_core.nets.initializers import CONVENTIONS, INITIALIZERS, Initializer, Normal, ScaledUniform, Zeros, parse
from mdfa_core.rules.methods import METHODS
from tests.support.references import network_of

FAN_IN = 16
SHAPE = (100, 200)


def draw(
    initializer: Initializer,
    *,
    nonnegative: bool = False,
    convention: str = "paper",
    fan_in: int = FAN_IN,
    seed: int = 0,
    shape: tuple[int, ...] = SHAPE,
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return initializer.draw(shape, fan_in, generator, nonnegative=nonnegative, convention=convention)


# -------------------------------------------------------------------------------------------------------- distributions


@pytest.mark.parametrize(
    ("convention", "nonnegative", "lower", "upper"),
    [
        ("paper", False, -3 / math.sqrt(FAN_IN), 3 / math.sqrt(FAN_IN)),
        ("paper", True, 1e-3, 3 / math.sqrt(FAN_IN)),
        ("released", False, -3 * FAN_IN**0.25, 3 * FAN_IN**0.25),
        ("released", True, 0.0, 3 * FAN_IN**0.25),
    ],
)
def test_scaled_uniform_fills_its_interval_evenly(
    convention: str, nonnegative: bool, lower: float, upper: float
) -> None:
    values = draw(ScaledUniform(3.0), nonnegative=nonnegative, convention=convention)

    width = upper - lower
    assert lower <= values.min().item() < lower + 1e-3 * width
    assert upper - 1e-3 * width < values.max().item() <= upper
    assert values.mean().item() == pytest.approx((lower + upper) / 2, abs=0.01 * width)
    assert values.std().item() == pytest.approx(width / math.sqrt(12), rel=0.02)


def test_the_released_bound_of_a_cifar_input_is_the_documented_one() -> None:
    wide = draw(ScaledUniform(1.0), fan_in=3072, convention="released").abs().max().item()
    narrow = draw(ScaledUniform(1.0), fan_in=3072, convention="paper").abs().max().item()

    assert wide == pytest.approx(7.4, abs=0.05)
    assert narrow == pytest.approx(0.018, abs=0.0002)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_normal_has_its_moments_and_its_mono_variant_is_the_absolute_value(convention: str) -> None:
    values = draw(Normal(0.3), convention=convention)
    assert values.mean().item() == pytest.approx(0, abs=0.01)
    assert values.std().item() == pytest.approx(0.3, rel=0.02)
    assert (values.abs() < 0.3).double().mean().item() == pytest.approx(0.6827, abs=0.01)

    assert torch.equal(draw(Normal(0.3), nonnegative=True, convention=convention), values.abs())


@pytest.mark.parametrize("nonnegative", [False, True])
def test_zeros_are_zeros(nonnegative: bool) -> None:
    assert not draw(Zeros(), nonnegative=nonnegative).any()


@pytest.mark.parametrize("initializer", [make() for make in INITIALIZERS.values()], ids=list(INITIALIZERS))
@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_draw_is_float64_of_its_shape_repeatable_and_of_the_right_sign(
    initializer: Initializer, nonnegative: bool, convention: str
) -> None:
    values = draw(initializer, nonnegative=nonnegative, convention=convention, shape=(4, 3, 2, 2))

    assert (values.dtype, values.shape) == (torch.float64, (4, 3, 2, 2))
    assert torch.equal(values, draw(initializer, nonnegative=nonnegative, convention=convention, shape=(4, 3, 2, 2)))
    if not isinstance(initializer, Zeros):
        assert not torch.equal(
            values, draw(initializer, nonnegative=nonnegative, convention=convention, shape=(4, 3, 2, 2), seed=1)
        )
    if nonnegative:
        assert (values >= 0).all()


def test_a_uniform_whose_bound_is_not_above_its_lower_bound_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"uniform:0\.01 with 10000 incoming connections .* choose a larger scale"):
        draw(ScaledUniform(0.01), nonnegative=True, fan_in=10000)

    assert draw(ScaledUniform(0.01), nonnegative=False, fan_in=10000).abs().max() <= 1e-4


# ---------------------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zeros", Zeros()),
        ("uniform", ScaledUniform(1.0)),
        ("uniform:2", ScaledUniform(2.0)),
        ("U(1)", ScaledUniform(1.0)),
        ("normal", Normal(0.1)),
        ("normal:0.05", Normal(0.05)),
        ("N(0.1)", Normal(0.1)),
        (" normal : 1e-3 ", Normal(1e-3)),
        ("Normal:1", Normal(1.0)),
        (Normal(0.7), Normal(0.7)),
    ],
)
def test_parse_accepts(text: str | Initializer, expected: Initializer) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "ones", "gauss:1", "normal:", "normal 1", "N(1", ":1", 3, None])
def test_parse_refuses_unknown_names_and_says_the_known(text: object) -> None:
    with pytest.raises(UnknownName, match="normal:STD, uniform:SCALE, zeros"):
        parse(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "normal:0",
        "normal:-1",
        "uniform:nan",
        "uniform:inf",
        "normal:x",
        "U(-1)",
        "uniform:1e999",
        "normal:1:2",
        "zeros:1",
    ],
)
def test_parse_refuses_numbers_that_are_not_positive(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse(text)


@hypothesis.given(st.floats(min_value=1e-6, max_value=1e6), st.sampled_from([ScaledUniform, Normal]))
def test_text_and_initializer_are_one_to_one(number: float, kind: type[ScaledUniform] | type[Normal]) -> None:
    initializer = kind(number)
    assert parse(str(initializer)) == initializer


@pytest.mark.parametrize(
    ("initializer", "text"), [(Zeros(), "zeros"), (ScaledUniform(1.0), "uniform:1"), (Normal(0.1), "normal:0.1")]
)
def test_texts_are_short(initializer: Initializer, text: str) -> None:
    assert str(initializer) == text
    assert parse(text) == initializer


# ----------------------------------------------------------------------------------------------------- seeds and layers


def weights(method: str, *, seed: int = 0, init: str = "normal:0.5", architecture: str = "fc:6,6,6") -> list:
    network = network_of(architecture, image=(1, 2, 3))
    made = METHODS[method].initial_parameters(network, parse(init), seed=seed, convention="paper", floor=1e-6)
    return [w[0] for w in made.weights]


def feedback(method: str, *, seed: int = 0, init: str = "normal:1", architecture: str = "fc:6,6,6", **of) -> list:
    network = network_of(architecture, **{"image": (1, 2, 3), **of})
    return [b[0] for b in METHODS[method].initial_feedback(network, parse(init), seed=seed, convention="paper")]


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_gives_the_same_weights_again_and_another_others(method: str) -> None:
    for make in (weights, feedback):
        first, again, other = make(method), make(method), make(method, seed=1)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_layers_and_purposes_draw_independently(method: str) -> None:
    drawn = [w.abs().flatten() for w in weights(method, init="normal:1")[:3] + feedback(method)]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            shared = min(len(one), len(other))
            assert not torch.equal(one[:shared], other[:shared])


@pytest.mark.parametrize("architecture", ["fc:6,6,6", "conv:2/2/1+fc:3", "fc:"])
@pytest.mark.parametrize("init", ["normal:0.5", "uniform:1", "zeros"])
def test_methods_of_one_seed_start_from_the_same_weights(architecture: str, init: str) -> None:
    reference = weights("bp", architecture=architecture, init=init)
    for method in METHODS:
        constraint = METHODS[method].constraint
        ours = weights(method, architecture=architecture, init=init)
        for number, (w, expected) in enumerate(zip(ours, reference, strict=True)):
            if not constraint.covers(number):
                assert torch.equal(w, expected), (method, number)
            elif init == "normal:0.5":  # the constraint's variant of the same numbers
                assert torch.equal(w, expected.abs().clamp(min=1e-6)), (method, number)


def test_dfa_and_mdfa_of_one_seed_have_the_same_feedback_up_to_sign() -> None:
    for free, held in zip(feedback("dfa"), feedback("mdfa"), strict=True):
        assert torch.equal(free.abs(), held)
        assert (free < 0).any()


@pytest.mark.parametrize("method", METHODS)
def test_biases_start_at_zero(method: str) -> None:
    network = network_of("conv:2/2/1+fc:3")
    made = METHODS[method].initial_parameters(network, parse("normal:1"), seed=0, convention="paper", floor=0.0)
    assert not any(b.any() for b in made.biases)


@pytest.mark.parametrize("init", ["normal:1", "uniform:1"])
@pytest.mark.parametrize("method", ["fa", "dfa", "mdfa"])
def test_zeros_are_refused_for_feedback_and_only_for_it(method: str, init: str) -> None:
    with pytest.raises(InvalidValue, match="deliver no error"):
        feedback(method, init="zeros")

    assert all(b.any() for b in feedback(method, init=init))
    assert feedback("bp", init="zeros") == []


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_net_needs_no_feedback(method: str) -> None:
    assert feedback(method, architecture="fc:", init="normal:1") == []


@pytest.mark.parametrize(
    ("method", "fans"),
    [
        # conv 2×1×2×2 on 1×40×50, conv 30×2×3×3, dense 700, dense 7 outputs; see Transport.feedback
        ("fa", [30 * 9, 700, 7]),
        ("dfa", [7, 7, 7]),
        ("mdfa", [7, 7, 7]),
    ],
)
def test_uniform_feedback_is_bounded_by_the_connections_into_each_unit(method: str, fans: list[int]) -> None:
    made = feedback(method, init="uniform:1", architecture="conv:2/2/4,30/3/4+fc:700", image=(1, 40, 50), outputs=7)

    for b, fan in zip(made, fans, strict=True):
        assert 0.95 / math.sqrt(fan) < b.abs().max().item() <= 1 / math.sqrt(fan)


def test_uniform_weights_are_bounded_by_the_layers_incoming_connections() -> None:
    network = network_of("conv:16/5/2,30/3/2+fc:50", image=(3, 16, 16), outputs=40)
    made = METHODS["bp"].initial_parameters(network, parse("uniform:2"), seed=0, convention="paper", floor=0.0)

    for w, fan in zip(made.weights, [3 * 25, 16 * 9, 30 * 2 * 2, 50], strict=True):
        assert 0.98 * 2 / math.sqrt(fan) < w.abs().max().item() <= 2 / math.sqrt(fan)


def test_every_refusal_is_one_of_the_packages_errors() -> None:
    for text in ("ones", "normal:-1", "zeros:3"):
        with pytest.raises(MdfaError):
            parse(text)
