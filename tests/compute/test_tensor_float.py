"""TensorFloat-32: the rounding against exact fractions, products on all paths, and PyTorch's settings on a GPU."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mdfa_core import Experiment, Run
from mdfa_core.base.errors import DeviceError
from mdfa_core.compute import kernels, tensor_float
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.compute.tensor_float import float32_products, rounded
from tests.support.references import batch_of, learner_of, network_of, relative
from tests.support.references import tensor_float as exactly_rounded

TF32, FLOAT32 = PRECISIONS["tf32"], PRECISIONS["float32"]
LARGEST = float(np.finfo(np.float32).max)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]

numbers = st.floats(width=32)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def round_one(number: float) -> float:
    return rounded(torch.tensor([number])).item()


# ------------------------------------------------------------------------------------------------------------ rounding


@given(numbers)
def test_rounding_is_exact(number: float) -> None:
    found, exact = round_one(number), exactly_rounded(number)
    assert found == exact or (math.isnan(found) and math.isnan(exact))
    assert math.isnan(found) or math.copysign(1, found) == math.copysign(1, number)


@given(numbers)
def test_rounding_twice_is_rounding_once(number: float) -> None:
    once = round_one(number)
    assert round_one(once) == once or math.isnan(number)


@given(finite, finite)
def test_rounding_keeps_the_order(a: float, b: float) -> None:
    assert round_one(min(a, b)) <= round_one(max(a, b))


@given(st.floats(min_value=2.0**-126, max_value=2.0**127, width=32))
def test_the_relative_error_is_at_most_2_to_the_minus_11(number: float) -> None:
    assert abs(round_one(number) - number) <= 2.0**-11 * number
    assert round_one(-number) == -round_one(number)


def test_rounding_is_that_of_the_bits_at_every_exponent() -> None:
    """What `cvt.rna.tf32.f32` does to the bits, in NumPy, for mantissas around every tie."""
    ends = np.array(
        [0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF, 0x2FFF, 0x3000, 0x3001, 0x7FEFFF, 0x7FF000, 0x7FFFFF], np.uint64
    )
    exponents = np.arange(255, dtype=np.uint64) << np.uint64(23)
    bits = (exponents[:, None] + ends).ravel()
    bits = np.concatenate([bits, bits | np.uint64(1 << 31)])
    expected = ((bits + np.uint64(0x1000)) & np.uint64(0xFFFFE000)).astype(np.uint32)
    found = rounded(torch.from_numpy(bits.astype(np.uint32).view(np.float32)))
    assert np.array_equal(found.numpy().view(np.uint32), expected)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1 + 2**-11, 1 + 2**-10),  # a tie goes away from zero, not to the even neighbour 1
        (-1 - 2**-11, -1 - 2**-10),
        (1 + 2**-11 - 2**-23, 1.0),
        (2 - 2**-11, 2.0),  # a carry into the exponent
        (LARGEST, math.inf),
        (-LARGEST, -math.inf),
        ((2 - 2**-10) * 2.0**127, (2 - 2**-10) * 2.0**127),  # the largest TensorFloat-32
        (math.inf, math.inf),
        (2.0**-149, 0.0),
        (2.0**-136, 2.0**-136),  # its smallest subnormal
        (3 * 2.0**-138, 2.0**-136),
    ],
)
def test_numbers_at_the_edges(number: float, expected: float) -> None:
    assert round_one(number) == expected == exactly_rounded(number)


def test_every_nan_stays_one() -> None:
    bits = torch.tensor([0x7F800001, 0x7F800FFF, 0x7FFFFFFF, -1, -0x7FFFFF], dtype=torch.int32)
    assert rounded(bits.view(torch.float32)).isnan().all()


def test_rounding_changes_neither_the_tensor_nor_its_memory_order() -> None:
    last = torch.randn(2, 3, 4, 5, 6).permute(0, 1, 4, 2, 3)
    before = last.clone()
    assert rounded(last).stride() == last.stride()
    assert torch.equal(last, before)
    assert torch.equal(rounded(last[:, ::2]), rounded(last)[:, ::2])


# ------------------------------------------------------------------------------------------------------------ products


def near_integers(*shape: int) -> tuple[Tensor, Tensor]:
    """Numbers that TensorFloat-32 rounds to integers, whether it rounds or truncates; and these integers.

    All sums of products of the integers are exact in float32, in any order.
    """
    generator = torch.Generator().manual_seed(sum(shape))
    whole = torch.randint(-4, 5, shape, generator=generator).float()
    return whole * (1 + 2**-12), whole


@pytest.fixture(params=["per replica", "batched"])
def paths(request: pytest.FixtureRequest) -> None:
    """The paths of a CPU, and those of a GPU on the CPU."""
    if request.param == "batched":
        request.getfixturevalue("batched_replicas")


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("sizes", [(4, 6, 5), (64, 512, 256)])  # the second is large
@pytest.mark.usefixtures("paths")
def test_dense_products_are_those_of_rounded_operands(sizes: tuple[int, int, int], replicas: int) -> None:
    examples, inputs, outputs = sizes
    (x, x_), (w, w_), (d, d_) = (
        near_integers(replicas, *shape) for shape in ((examples, inputs), (outputs, inputs), (examples, outputs))
    )
    b = near_integers(replicas, outputs)[1]
    changed, factors = torch.zeros_like(w), [-0.5] * replicas
    kernels.add_outer_(changed, d, x, factors, TF32, equal=True)
    tiled = torch.empty_like(w)
    for index, tile in kernels.outer_tiles(d, x, TF32):
        tiled[index] = tile

    assert torch.equal(kernels.affine(x, w, b, TF32), x_ @ w_.mT + b[:, None])
    assert torch.equal(kernels.product(d, w, TF32), d_ @ w_)
    assert torch.equal(kernels.outer(d, x, TF32), d_.mT @ x_)
    assert torch.equal(tiled, d_.mT @ x_)
    assert torch.equal(changed, -0.5 * (d_.mT @ x_))
    assert not torch.equal(kernels.affine(x, w, b, FLOAT32), x_ @ w_.mT + b[:, None])  # rounding shows


def test_updates_at_different_factors_are_rounded_as_on_a_gpu() -> None:
    (x, x_), (d, d_), factors = near_integers(3, 4, 6), near_integers(3, 4, 5), [-0.5, 1.0, -2.0]
    folded = torch.tensor(factors).reshape(3, 1, 1)
    for fold in (None, folded):
        w = torch.ones(3, 5, 6)
        kernels.add_outer_(w, d, x, factors, TF32, equal=False, folded=fold)
        assert torch.equal(w, 1 + folded * (d_.mT @ x_))


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.usefixtures("paths")
def test_convolutions_are_those_of_rounded_operands(replicas: int) -> None:
    (x, x_), (w, w_), (d, d_) = (
        near_integers(replicas, *shape) for shape in ((2, 3, 8, 6), (4, 3, 3, 3), (2, 4, 3, 2))
    )
    b = torch.zeros(replicas, 4)
    found = [
        (
            kernels.convolve(i, v, b, 2, of),
            kernels.convolve_error(e, v, 2, 8, 6, of),
            kernels.convolve_outer(e, i, 3, 2, of),
        )
        for of, i, v, e in ((TF32, x, w, d), (FLOAT32, x_, w_, d_), (FLOAT32, x, w, d))
    ]
    for ours, integers, unrounded in zip(*found, strict=True):
        assert torch.equal(ours, integers)
        assert not torch.equal(ours, unrounded)


@pytest.mark.parametrize("net", ["fc:7,5", "conv:4/3/2+fc:5"])
@pytest.mark.parametrize("method", ["bp", "mdfa"])
def test_a_step_is_a_step_of_rounded_operands(method: str, net: str) -> None:
    """A CPU's paths and a GPU's, which round in other places, agree to float32's accuracy."""
    found = []
    for batched in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if batched:
                patch.setattr("mdfa_core.compute.replicas.PER_REPLICA_DEVICES", frozenset())
                patch.setattr("mdfa_core.compute.stacked_conv.fastest_algorithm", lambda *of: "unfolded")
            network = network_of(net, image=(2, 8, 8), precision="tf32")
            learner = learner_of(network, method, rates=(0.1, 0.1, 0.1))
            learner.step(*batch_of(network, 10, replicas=3))
        found.append(torch.cat([tensor.flatten() for tensor in learner.parameters.tensors()]))
    assert relative(found[0], found[1]) < 1e-6


# ------------------------------------------------------------------------------------------ PyTorch's settings for CUDA

READERS = {
    "matmul": lambda: torch.backends.cuda.matmul.fp32_precision,
    "conv": lambda: torch.backends.cudnn.conv.fp32_precision,
    "older matmul": lambda: torch.backends.cuda.matmul.allow_tf32,
    "older conv": lambda: torch.backends.cudnn.allow_tf32,
    "older name": torch.get_float32_matmul_precision,
}
CHOICES = {
    "PyTorch's": lambda: None,
    "older tf32": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "older ieee": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "newer tf32": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "newer ieee": lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
}


def set_to(kind: str) -> str:
    """The newer setting; PyTorch computes float32 products as `ieee` if it has `none`."""
    value: str = READERS[kind]()
    return "ieee" if value == "none" else value


def settings() -> dict[str, Any]:
    """Every setting that can be read; an older one is an error after some newer ones."""
    found = {}
    for name, read in READERS.items():
        with suppress(RuntimeError):
            found[name] = read()
    return found


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    """PyTorch's defaults, before and after."""
    before = settings()
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.fp32_precision = "none"
    assert settings() == before


@pytest.mark.parametrize("mode", ["ieee", "tf32"])
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.usefixtures("fresh_settings")
def test_settings_hold_within_and_are_the_users_afterwards(choice: str, mode: str) -> None:
    CHOICES[choice]()
    before = settings()
    for error in (None, ValueError):
        with suppress(ValueError), float32_products(mode), float32_products(mode):
            assert {set_to(kind) for kind in ("matmul", "conv")} == {mode}
            if error is not None:
                raise error
        assert settings() == before


def test_one_thread_cannot_want_both() -> None:
    with float32_products("ieee"), pytest.raises(RuntimeError, match="tf32 within ieee"), float32_products("tf32"):
        pass
    with float32_products("tf32"):  # and nothing is left behind
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"
        with float32_products("tf32"):
            pass
        with (
            pytest.raises(RuntimeError, match="ieee within tf32"),
            float32_products("ieee"),
        ):  # also after a block within
            pass


@pytest.mark.usefixtures("fresh_settings")
def test_a_setting_that_says_the_same_already_is_left_alone() -> None:
    with float32_products("ieee"):
        assert (READERS["matmul"](), READERS["older matmul"]()) == ("none", False)


@pytest.mark.usefixtures("fresh_settings")
def test_threads_that_want_different_settings_take_turns() -> None:
    before, wrong, done = settings(), [], []

    def work(mode: str) -> None:
        for _ in range(200):
            with float32_products(mode):
                if torch.backends.cudnn.conv.fp32_precision != mode:
                    wrong.append(mode)
        done.append(mode)

    threads = [threading.Thread(target=work, args=(mode,)) for mode in ("ieee", "tf32", "ieee", "tf32")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == ["ieee", "ieee", "tf32", "tf32"]
    assert not wrong
    assert settings() == before


def test_nobody_overtakes_a_thread_that_wants_the_other() -> None:
    entered: list[str] = []

    def enter(mode: str) -> threading.Thread:
        def work() -> None:
            with float32_products(mode):
                entered.append(mode)

        thread = threading.Thread(target=work)
        thread.start()
        end = time.monotonic() + 60
        while not (float32_products._waiting[mode] or entered) and time.monotonic() < end:
            time.sleep(0.001)
        return thread

    with float32_products("ieee"):
        threads = [enter("tf32"), enter("ieee")]
        assert entered == []
    for thread in threads:
        thread.join(60)
    assert entered == ["tf32", "ieee"]


def test_threads_that_want_the_same_are_inside_together() -> None:
    both = threading.Barrier(2, timeout=60)
    met = []

    def work() -> None:
        with float32_products("tf32"):
            met.append(both.wait())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(met) == [0, 1]


class _Watching(TorchDispatchMode):
    """Notes PyTorch's setting at every product."""

    KINDS = ("mm", "bmm", "addmm", "baddbmm", "convolution")

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[str]] = {"matmul": set(), "conv": set()}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.name().removeprefix("aten::").partition(".")[0].rstrip("_")
        if "convolution" in name:
            self.seen["conv"].add(set_to("conv"))
        elif name in self.KINDS:
            self.seen["matmul"].add(set_to("matmul"))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("rates", [(0.1,), (0.1, 0.1), (0.1, 0.2)])
@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.usefixtures("batched_replicas", "fresh_settings")
def test_every_product_of_a_step_that_is_not_a_cpus_has_the_setting(
    precision: str, rates: tuple[float, ...], optimizer: str
) -> None:
    torch.set_float32_matmul_precision("high" if precision == "float32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "float32"
    before, mode = settings(), PRECISIONS[precision].fp32_precision
    network = network_of("conv:4/3/2,5/2/1+fc:6", image=(2, 8, 8), outputs=2, precision=precision)
    for method in ("bp", "mdfa"):
        learner = learner_of(network, method, optimizer=optimizer, rates=rates)
        inputs, labels = batch_of(network, 10, replicas=len(rates))
        with _Watching() as watching:
            learner.step(inputs, labels)
        assert watching.seen == {"matmul": {mode}, "conv": {mode}}
    assert settings() == before


@pytest.mark.usefixtures("fresh_settings")
def test_a_cpus_products_leave_the_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_float._Float32Products, "_set", lambda self: pytest.fail("the settings were touched"))
    network = network_of("conv:4/3/2+fc:6", image=(2, 8, 8), precision="tf32")
    learner_of(network, "mdfa", rates=(0.1, 0.2)).step(*batch_of(network, 10, replicas=2))


# ------------------------------------------------------------------------------------------------- devices without it


@pytest.mark.parametrize(
    ("precision", "capability", "hip", "override", "message"),
    [
        ("tf32", (7, 5), None, "", "tf32 was asked for, but Some Card has none.*8.0"),
        ("tf32", (9, 4), "6.2", "", "tf32 was asked for, but Some Card has none"),
        ("tf32", (8, 0), None, "0", "NVIDIA_TF32_OVERRIDE is 0.*choose precision float32"),
        ("float32", (8, 0), None, "1", "NVIDIA_TF32_OVERRIDE is 1.*choose precision tf32"),
        ("tf32", (8, 0), None, "", None),
        ("tf32", (9, 0), None, "1", None),
        ("float32", (7, 5), None, "0", None),
        ("bfloat16", (7, 5), None, "1", None),
    ],
)
def test_a_card_that_would_compute_something_else_is_refused(
    precision: str,
    capability: tuple[int, int],
    hip: str | None,
    override: str,
    message: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some Card")
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    kernels.check_device(precision, torch.device("cpu"))
    if message is None:
        kernels.check_device(precision, torch.device("cuda:0"))
    else:
        with pytest.raises(DeviceError, match=message):
            kernels.check_device(precision, torch.device("cuda:0"))


@pytest.mark.parametrize("precision", ["float64", "tf32"])
def test_metal_has_neither(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(DeviceError, match=f"{precision} was asked for, but Metal GPUs have none: use float32"):
        Run(Experiment(precision=precision), device="mps")


# --------------------------------------------------------------------------------------------------------------- a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("kind", ["affine", "product", "outer", "convolve", "error", "convolve_outer"])
def test_products_on_a_gpu_are_those_of_rounded_operands(kind: str, replicas: int) -> None:
    """Nearer to the CPU's emulation than float32 is, or, if the card truncates, within its bound."""

    def random(*shape: int) -> Tensor:
        return torch.randn(replicas, *shape, generator=torch.Generator().manual_seed(sum(shape)))

    dense = {"x": random(64, 512), "w": random(256, 512), "d": random(64, 256)}
    images = {"x": random(64, 32, 16, 16), "w": random(64, 32, 3, 3), "d": random(64, 64, 14, 14)}

    def product(device: str, precision: str, magnitude: bool = False) -> Tensor:
        of = PRECISIONS[precision]
        tensors = dense if kind in ("affine", "product", "outer") else images
        x, w, d = ((t.abs() if magnitude else t).to(device, of.storage) for t in tensors.values())
        bias = torch.zeros(w.shape[:2], dtype=w.dtype, device=device)
        results = {
            "affine": lambda: kernels.affine(x, w, bias, of),
            "product": lambda: kernels.product(d, w, of),
            "outer": lambda: kernels.outer(d, x, of),
            "convolve": lambda: kernels.convolve(x, w, bias, 1, of),
            "error": lambda: kernels.convolve_error(d, w, 1, 16, 16, of),
            "convolve_outer": lambda: kernels.convolve_outer(d, x, 3, 1, of),
        }
        return results[kind]().double().cpu()

    exact, size = product("cpu", "float64"), product("cpu", "float64", magnitude=True)
    found, emulated, full = product("cuda", "tf32"), product("cpu", "tf32"), product("cuda", "float32")
    assert bool(((found - exact).abs() <= 2.1 * 2.0**-10 * size).all())
    assert (full - exact).norm() / exact.norm() < 1e-5
    rounding = ((emulated - exact).norm() / exact.norm()).item()
    assert 0.5 * rounding < ((found - exact).norm() / exact.norm()).item() < 4 * rounding
