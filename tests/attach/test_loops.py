"""The loops people write: accumulation, evaluation between steps, autocast, copies, checkpoints, compilation, DDP."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mdfa_core.attach import attach, measure
from mdfa_core.base.errors import GeometryError, InvalidValue
from tests.attach.nets import ATTACHABLE, DIRECT, ResNet, Transformer, matrices, mlp
from tests.support.references import relative

pytestmark = pytest.mark.slow

EVERY = pytest.mark.parametrize("method", ATTACHABLE)
COMPILED = ("fa", "mdfa")
LOSS = nn.BCEWithLogitsLoss()


def batch(examples: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(examples, 4, generator=generator), torch.rand(examples, 1, generator=generator).round()


def gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters()]


def learned(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    model.zero_grad()
    LOSS(model(x), y).backward()
    return gradients(model)


def assert_close(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-6) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert relative(a, b) < tolerance


@EVERY
def test_gradients_accumulate_over_micro_batches(method: str) -> None:
    attached = attach(mlp(), method)
    x, y = batch()
    whole = learned(attached, x, y)
    attached.zero_grad()
    for part in (slice(0, 4), slice(4, 8)):
        (LOSS(attached(x[part]), y[part]) / 2).backward()
    assert_close(gradients(attached), whole)


@EVERY
def test_several_forward_passes_before_one_backward_with_an_evaluation_between(method: str) -> None:
    attached = attach(mlp(), method)
    x, y = batch()
    whole = learned(attached, x, y)
    attached.zero_grad()
    first = attached(x[:4])
    attached.eval()
    with torch.no_grad():
        assert not attached(x).requires_grad
    attached.train()
    second = attached(x[4:])
    ((LOSS(first, y[:4]) + LOSS(second, y[4:])) / 2).backward()
    assert_close(gradients(attached), whole)


@EVERY
def test_a_graph_that_is_kept_gives_the_same_again(method: str) -> None:
    attached = attach(mlp(), method)
    x, y = batch()
    loss = LOSS(attached(x), y)
    loss.backward(retain_graph=True)
    once = gradients(attached)
    loss.backward()
    assert_close(gradients(attached), [2 * tensor for tensor in once])


@EVERY
def test_a_loss_per_example_can_be_weighted_in_backward(method: str) -> None:
    attached = attach(mlp(), method)
    x, y = batch()
    expected = learned(attached, x, y)
    attached.zero_grad()
    each = functional.binary_cross_entropy_with_logits(attached(x), y, reduction="none")
    each.backward(torch.full_like(each, 1 / 8))
    assert_close(gradients(attached), expected)


@EVERY
def test_a_ragged_last_batch(method: str) -> None:
    attached = attach(mlp(), method)
    for examples in (8, 8, 3, 1):
        x, y = batch(examples)
        assert all(tensor.any() for tensor in learned(attached, x, y))


@EVERY
@pytest.mark.parametrize("first", ["no_grad", "inference_mode"])
def test_the_first_call_may_be_an_evaluation(method: str, first: str) -> None:
    model = mlp()
    attached = attach(model, method, seed=3)
    with getattr(torch, first)():
        x, y = batch()
        evaluated = attached(x)
    x, y = batch()
    assert torch.equal(evaluated, model(x))  # weights are held before the first number is computed
    assert_close(learned(attached, x, y), learned(attach(model, method, seed=3), x, y))


@EVERY
def test_the_output_may_be_overwritten(method: str) -> None:
    attached = attach(mlp(), method)
    x, y = batch()
    expected = learned(attached, x, y)
    attached.zero_grad()
    LOSS(attached(x).mul_(1.0), y).backward()
    assert_close(gradients(attached), expected)


@EVERY
def test_attaching_changes_neither_output_nor_random_numbers_nor_buffers(method: str) -> None:
    model = ResNet()
    x = torch.randn(6, 2, 5, 5)
    attached = attach(model, method, blocks=["first", "second"])
    state = torch.random.get_rng_state()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    attached.prepare((x,), {})
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    attached.eval()
    assert torch.equal(attached(x), model(x))


@EVERY
def test_the_model_itself_is_as_it_was_before(method: str) -> None:
    model = mlp()
    attached = attach(model, method)
    x, y = batch()
    learned(attached, x, y)
    plain = copy.deepcopy(attached).release()
    assert isinstance(plain, nn.Sequential)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in plain.modules())
    assert all(torch.equal(a, b) for a, b in zip(learned(model, x, y), learned(plain, x, y), strict=True))
    assert list(model.state_dict()) == [f"{n}.{kind}" for n in (0, 2, 4) for kind in ("weight", "bias")]


@EVERY
def test_the_rule_is_switched_by_attaching_again(method: str) -> None:
    model = mlp()
    attached = [attach(model, name, seed=1) for name in ATTACHABLE]
    x, y = batch()
    attach(model, "mdfa", example=x)  # the weights as the strictest of them wants them
    alone = learned(attach(copy.deepcopy(model), method, seed=1), x, y)
    assert_close(learned(attached[ATTACHABLE.index(method)], x, y), alone)


# ------------------------------------------------------------------------------------------------- precision and copies


@EVERY
def test_bfloat16_autocast(method: str) -> None:
    attached = attach(ResNet(), method, blocks=["first", "second"])
    x, y = torch.randn(6, 2, 5, 5), batch(6)[1]
    expected = learned(attached, x, y)
    attached.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = attached(x)
        loss = LOSS(output, y)
    loss.backward()
    assert output.dtype is torch.bfloat16
    assert all(b.dtype is torch.float32 for b in attached.feedback)
    bias_before_a_normalisation = 1  # has no gradient but rounding
    for number, (a, b) in enumerate(zip(gradients(attached), expected, strict=True)):
        if number - 1 != bias_before_a_normalisation:
            assert relative(a, b) < 0.15


@EVERY
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_numbers_of_another_kind(method: str, dtype: torch.dtype) -> None:
    attached = attach(mlp(), method, example=batch()[0]).to(dtype)
    x, y = (tensor.to(dtype) for tensor in batch())
    for tensor in learned(attached, x, y):
        assert tensor.dtype is dtype
        assert tensor.any()
    assert all(b.dtype is dtype for b in attached.feedback)


@EVERY
def test_a_gradient_scaler(method: str) -> None:
    attached = attach(mlp(), method)
    x, y = batch()
    expected = learned(attached, x, y)
    attached.zero_grad()
    optimizer = torch.optim.SGD(attached.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(LOSS(attached(x), y)).backward()
    scaler.unscale_(optimizer)
    assert_close(gradients(attached), expected)
    scaler.step(optimizer)
    if method == "mdfa":
        assert min(weight.min() for weight in matrices(attached)[1:]) >= 0


@EVERY
@pytest.mark.parametrize("called", [False, True])
def test_a_deep_copy_learns_the_same_and_shares_nothing(method: str, called: bool) -> None:
    attached = attach(ResNet(), method, blocks=["first", "second"])
    x, y = torch.randn(6, 2, 5, 5), batch(6)[1]
    if called:
        attached(x)
    twin = copy.deepcopy(attached)
    assert all(torch.equal(a, b) for a, b in zip(learned(attached, x, y), learned(twin, x, y), strict=True))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert all(parameter.any() for name, parameter in attached.named_parameters() if name.endswith("weight"))


@EVERY
@pytest.mark.parametrize("called", [False, True])
def test_a_saved_state_brings_its_feedback_along(method: str, called: bool) -> None:
    x, y = batch()
    attached = attach(mlp(), method, seed=1, example=x)
    again = attach(mlp(), method, seed=2, example=x if called else None)
    stream = io.BytesIO()
    torch.save(attached.state_dict(), stream)
    stream.seek(0)

    again.load_state_dict(torch.load(stream, weights_only=True))

    assert all(torch.equal(a, b) for a, b in zip(learned(attached, x, y), learned(again, x, y), strict=True))
    assert list(again.state_dict()) == [
        *(f"model.{n}.{kind}" for n in (0, 2, 4) for kind in ("weight", "bias")),
        *(f"feedback.{n}" for n in range(len(attached.feedback))),
    ]


def test_feedback_of_another_shape_is_refused() -> None:
    x, _ = batch()
    narrow = attach(mlp(width=3), "dfa", example=x).state_dict()
    wide = attach(mlp(width=5), "dfa")
    wide.feedback.load_state_dict(
        {name.removeprefix("feedback."): b for name, b in narrow.items() if name.startswith("feedback.")}
    )
    with pytest.raises(GeometryError, match=r"feedback 0 was loaded with the shape \(1, 3\), but the model needs"):
        wide(x)


@pytest.mark.parametrize("called", [False, True])
def test_feedback_of_another_rule_is_refused(called: bool) -> None:
    """DFA's has both signs: with it mDFA's guarantee would be an untruth."""
    x, _ = batch()
    saved = attach(mlp(), "dfa", example=x).state_dict()
    with pytest.raises(InvalidValue, match="feedback 0 has numbers below 0, and the rule needs them ≥ 0"):
        attach(mlp(), "mdfa", example=x if called else None).load_state_dict(saved)


def test_more_feedback_than_there_are_blocks_is_refused() -> None:
    x, _ = batch()
    saved = attach(mlp(), "dfa", example=x).state_dict()
    saved["feedback.2"] = torch.zeros(1, 5)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "feedback.2"'):
        attach(mlp(), "dfa", example=x).load_state_dict(saved)
    later = attach(mlp(), "dfa")
    later.load_state_dict(saved)
    with pytest.raises(GeometryError, match="3 feedbacks were loaded, but the model needs 2"):
        later(x)


def test_feedback_that_was_loaded_is_where_and_what_the_model_is() -> None:
    x, y = batch()
    saved = attach(mlp(), "dfa", example=x).state_dict()
    attached = attach(mlp().double(), "dfa")
    attached.load_state_dict(saved)
    LOSS(attached(x.double()), y.double()).backward()
    assert {b.dtype for b in attached.feedback} == {torch.float64}


def test_a_whole_model_can_be_pickled() -> None:
    x, y = batch()
    attached = attach(mlp(), "mdfa", example=x)
    stream = io.BytesIO()
    torch.save(attached, stream)
    stream.seek(0)
    again = torch.load(stream, weights_only=False)
    assert all(torch.equal(a, b) for a, b in zip(learned(attached, x, y), learned(again, x, y), strict=True))


def test_feedback_is_no_parameter_and_never_changes() -> None:
    x, y = batch()
    attached = attach(mlp(), "mdfa", example=x)
    before = [b.clone() for b in attached.feedback]
    optimizer = torch.optim.Adam(attached.parameters(), 0.1, weight_decay=0.1)
    for _ in range(3):
        learned(attached, x, y)
        optimizer.step()
    assert [name for name, _ in attached.named_parameters() if "feedback" in name] == []
    assert all(torch.equal(a, b) for a, b in zip(attached.feedback, before, strict=True))


# ------------------------------------------------------------------------------------------------------- what models do


@EVERY
def test_frozen_blocks_stay_frozen_and_the_others_learn(method: str) -> None:
    model = mlp()
    model[0].requires_grad_(False)
    attached = attach(model, method)
    x, y = batch()
    LOSS(attached(x), y).backward()
    assert model[0].weight.grad is None
    assert model[2].weight.grad.any()
    assert model[4].weight.grad.any()


@EVERY
def test_tied_weights_are_told_from_both_places(method: str) -> None:
    model = nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 7, bias=False))
    model[3].weight = model[0].weight
    attached = attach(model, method, axis=-1)
    tokens = torch.randint(0, 7, (5, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = functional.cross_entropy(attached(tokens).flatten(0, 1), tokens.flatten())
    loss.backward()
    assert model[0].weight.grad.any()


class Auxiliary(nn.Module):
    """A dictionary of outputs, the first of which is the one that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 3), nn.Linear(3, 1)

    def forward(self, x: Tensor, *, scale: float = 1.0) -> dict[str, Any]:
        h = torch.tanh(self.body(x)) * scale
        return {"logits": self.head(h), "hidden": h, "note": "text"}


@EVERY
def test_outputs_in_a_dictionary_and_inputs_by_keyword(method: str) -> None:
    model = Auxiliary()
    attached = attach(model, method, blocks=[model.body])
    x, y = batch()
    output = attached(x, scale=0.5)
    assert list(output) == ["logits", "hidden", "note"]
    assert output["note"] == "text"
    LOSS(output["logits"], y).backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.second = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
        self.head = nn.Linear(5, 1)
        self.saving = True

    def forward(self, x: Tensor) -> Tensor:
        for block in (self.first, self.second):
            x = checkpoint(block, x, use_reentrant=False) if self.saving else block(x)
        return self.head(x)


@pytest.mark.parametrize("method", [*DIRECT, "bp", "fa", "usf", "frsf", "kp"])
def test_activation_checkpoints(method: str) -> None:
    """Layers run again in the backward pass, where a rule that replaces W has to replace it, too."""
    model = Checkpointed()
    x, y = batch()
    attached = attach(model, method, blocks=["first", "second"], example=x)

    def of_two_passes() -> list[Tensor]:
        attached.zero_grad()
        outputs = attached(x), attached(2 * x)
        measure(attached, (x, y), LOSS)
        sum(LOSS(output, y) for output in outputs).backward()
        return gradients(attached)

    saving = of_two_passes()
    model.saving = False
    assert_close(saving, of_two_passes())


def test_activation_checkpoints_are_refused_if_every_pass_draws() -> None:
    attached = attach(Checkpointed(), "brsf", blocks=["first", "second"])
    with pytest.raises(InvalidValue, match=r"a rule that draws new feedback in every pass \(brsf\) cannot run layers"):
        learned(attached, *batch())


def test_a_model_in_use_in_another_thread_is_refused() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if threading.current_thread() is not threading.main_thread():
                entered.set()
                leave.wait(60)
            return x

    attached = attach(nn.Sequential(nn.Linear(4, 3), Slow(), nn.Linear(3, 1)), "dfa", example=batch()[0])
    thread = threading.Thread(target=attached, args=(batch()[0],))
    thread.start()
    entered.wait(60)
    try:
        with pytest.raises(InvalidValue, match="in another forward pass"):
            attached(batch()[0])
    finally:
        leave.set()
        thread.join()
    assert attached(batch()[0]).requires_grad


def test_a_forward_pass_that_fails_leaves_the_model_usable() -> None:
    attached = attach(mlp(), "dfa", example=batch()[0])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        attached(torch.zeros(2, 3))
    assert attached(batch()[0]).requires_grad


def test_layerwise_inputs_left_over_from_a_failed_pass_do_no_harm() -> None:
    attached = attach(mlp(), "fa")
    x, y = batch()
    expected = learned(attached, x, y)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        attached(torch.zeros(2, 3))
    assert_close(learned(attached, x, y), expected)


# ---------------------------------------------------------------------------------------- compilation and two processes


def every_net() -> dict[str, tuple[Callable[[], nn.Module], Tensor, dict[str, Any]]]:
    return {
        "mlp": (mlp, batch()[0], {}),
        "resnet": (ResNet, torch.randn(8, 2, 5, 5), {"blocks": ["first", "second"]}),
        "transformer": (
            lambda: Transformer(1, pooled=True),
            torch.randint(0, 7, (8, 4)),
            {"blocks": ["blocks.0", "blocks.1"], "axis": -1},
        ),
    }


@pytest.mark.parametrize(
    ("name", "method"),
    [*(("mlp", method) for method in ATTACHABLE), *((name, m) for name in ("resnet", "transformer") for m in COMPILED)],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # dynamo's own
def test_a_compiled_model_learns_the_same(name: str, method: str) -> None:
    make, x, settings = every_net()[name]
    attached = attach(make(), method, **settings, example=x)
    y = batch()[1]
    expected = learned(attached, x, y)
    torch.compiler.reset()
    compiled = torch.compile(attached, backend="aot_eager", fullgraph=True)
    optimizer = torch.optim.SGD(attached.parameters(), 0.1)
    # The bias of an attention's keys, or before a normalisation, has no gradient but rounding.
    for parameter, tensor, reference in zip(attached.parameters(), learned(compiled, x, y), expected, strict=True):
        assert torch.allclose(tensor, reference, rtol=1e-4, atol=1e-7), parameter.shape
    optimizer.step()
    learned(compiled, x, y)
    compiled.eval()
    with torch.no_grad():
        assert torch.allclose(compiled(x), attached(x), atol=1e-6)


@pytest.mark.parametrize("method", [*COMPILED, "usf"])  # a rule that replaces W, one that goes past it, and signs
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")  # dynamo's own
def test_compiled_parts_of_a_model_learn_the_same(method: str) -> None:
    x, y = batch()
    plain = nn.Sequential(
        nn.Sequential(nn.Linear(4, 5), nn.Tanh()), nn.Sequential(nn.Linear(5, 5), nn.Tanh()), nn.Linear(5, 1)
    )
    expected = learned(attach(copy.deepcopy(plain), method), x, y)
    torch.compiler.reset()
    inside = nn.Sequential(*(torch.compile(block, backend="aot_eager") for block in plain))
    for _ in range(2):
        assert_close(learned(attach(inside, method), x, y), expected, 1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_the_default_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    x, y = batch()
    attached = attach(mlp(), "mdfa", example=x)
    expected = learned(attached, x, y)
    torch.compiler.reset()
    try:
        found = learned(torch.compile(attached), x, y)
    except torch._inductor.exc.InductorError as error:
        pytest.skip(f"needs a C++ compiler that torch.compile can use: {str(error).splitlines()[0]}")
    assert_close(found, expected, 1e-5)


def test_data_parallel_on_one_device_is_the_model_and_its_replicas_are_refused() -> None:
    x, y = batch()
    attached = attach(mlp(), "dfa", example=x)
    expected = learned(attached, x, y)
    assert_close(learned(nn.DataParallel(attached), x, y), expected)
    with pytest.raises(InvalidValue, match="use DistributedDataParallel"):
        attached._replicate_for_data_parallel()


WORKER = """
import sys
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from mdfa_core.attach import attach, measure

rank, meeting, out, methods = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
results = {}
for method, known in ((method, known) for method in methods for known in (False, True)):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 1))
    x, y = torch.randn(8, 4), torch.randn(8, 1)
    attached = attach(net, method, example=x if known else None)
    model = DistributedDataParallel(attached)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    part = slice(4 * rank, 4 * rank + 4)
    for _ in range(2):
        optimizer.zero_grad()
        first, second = model(x[part]), model(x[part])  # feedback is written anew between the two
        nn.functional.mse_loss((first + second) / 2, y[part]).backward()
        optimizer.step()
    results[method, known] = [p.detach() for p in net.parameters()] + [p.grad for p in net.parameters()]
torch.save(results, f"{out}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def found_by_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, bool], list[Tensor]]]:
    """What each of two processes has after two steps: parameters and gradients, by method and known shapes."""
    folder, root = tmp_path_factory.mktemp("two"), Path(__file__).parents[2]
    script = folder / "worker.py"
    script.write_text(WORKER)
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(rank), folder / "meeting", folder, *ATTACHABLE],
            cwd=root,
            env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PATH": ""},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("known", [False, True])
@EVERY
def test_two_processes_learn_what_one_does(
    method: str, known: bool, found_by_two: list[dict[tuple[str, bool], list[Tensor]]]
) -> None:
    torch.manual_seed(0)
    net = mlp()
    x, y = torch.randn(8, 4), torch.randn(8, 1)
    attached = attach(net, method, example=x)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        functional.mse_loss(attached(x), y).backward()
        optimizer.step()
    expected = [p.detach() for p in net.parameters()] + gradients(net)
    for found in found_by_two:
        assert_close(found[method, known], expected, 1e-5)
