"""Every algorithm for a stack's convolutions against loops, and the choice of the fastest."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mdfa_core.compute import choices, kernels, stacked_conv, tensor_float
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.learning.cuda_graph import CudaGraph
from tests.support.references import convolve, convolve_back, convolve_gradient

R, N, HEIGHT, WIDTH = 3, 2, 8, 6


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("filters", "kernel"), [(4, 3), (1, 2), (2, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("way", stacked_conv.ALGORITHMS)
def test_every_way_is_the_loop(
    way: str, dtype: torch.dtype, stride: int, filters: int, kernel: int, shared: bool
) -> None:
    shapes = (1 if shared else R, N, 3, HEIGHT, WIDTH), (R, filters, 3, kernel, kernel)
    x, w = (random(*shape).to(dtype) for shape in shapes)
    products = stacked_conv.ALGORITHMS[way]
    y = products["convolve"](x, w, stride)
    delta = random(*y.shape).to(dtype)
    back, gradient = products["error"](delta, w, stride, HEIGHT, WIDTH), products["outer"](delta, x, stride, kernel)

    for r in range(R):
        image = x[0 if shared else r].numpy()
        for found, expected in (
            (y, convolve(image, w[r].numpy(), torch.zeros(filters).numpy(), stride)),
            (back, convolve_back(delta[r].numpy(), w[r].numpy(), stride, image.shape)),
            (gradient, convolve_gradient(delta[r].numpy(), image, stride, w[r].shape)),
        ):
            torch.testing.assert_close(found[r], torch.from_numpy(expected).to(dtype))


@pytest.mark.parametrize("shared", [False, True])
def test_channels_last_convolutions_get_pixels_with_their_channels_side_by_side(shared: bool) -> None:
    class Operands(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "convolution" in function.name():
                operands = [a for a in args if isinstance(a, Tensor) and a.stride() != (0,) * a.dim()]
                seen.append([a.is_contiguous(memory_format=torch.channels_last) for a in operands])
            return function(*args, **(kwargs or {}))

    seen: list[list[bool]] = []
    x, w = random(1 if shared else R, N, 3, HEIGHT, WIDTH), random(R, 4, 3, 3, 3)
    products = stacked_conv.ALGORITHMS["channels last"]
    with Operands():
        delta = products["convolve"](x, w, 1)
        products["error"](delta, w, 1, HEIGHT, WIDTH)
        products["outer"](delta, x, 1, 3)
    assert seen == [[True, True], [True, True], [True, True, True]]  # the error's input is a shape without memory


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("way", stacked_conv.ALGORITHMS)
def test_kernels_take_the_chosen_way(way: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of = PRECISIONS[precision]
    x, w, b = (t.to(of.storage) for t in (random(R, N, 3, HEIGHT, WIDTH), random(R, 4, 3, 3, 3), random(R, 4)))
    delta = random(R, N, 4, 3, 2).to(of.storage)

    def products() -> list[Tensor]:
        return [
            kernels.convolve(x, w, b, 2, of),
            kernels.convolve_error(delta, w, 2, HEIGHT, WIDTH, of),
            kernels.convolve_outer(delta, x, 3, 2, of),
        ]

    expected = products()
    asked = []
    monkeypatch.setattr("mdfa_core.compute.replicas.PER_REPLICA_DEVICES", frozenset())
    monkeypatch.setattr(stacked_conv, "fastest_algorithm", lambda product, device: asked.append(product.kind) or way)
    for found, by_turns in zip(products(), expected, strict=True):
        assert found.dtype is of.storage
        torch.testing.assert_close(found, by_turns, rtol=1e-2 if of.mixed else 1e-5, atol=3e-2 if of.mixed else 1e-5)
    assert asked == ["convolve", "error", "outer"]


def test_the_fastest_way_is_measured_once_and_one_that_lacks_memory_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = {"greedy": 0, "modest": 0}

    def way(name: str, error: bool) -> dict[str, object]:
        def convolve(x: Tensor, w: Tensor, stride: int) -> Tensor:
            calls[name] += 1
            if error:
                raise torch.OutOfMemoryError
            return x

        return {"convolve": convolve}

    monkeypatch.setattr(stacked_conv, "ALGORITHMS", {"greedy": way("greedy", True), "modest": way("modest", False)})
    stacked_conv.forget()
    with caplog.at_level(logging.DEBUG, logger="mdfa_core.compute.stacked_conv"):
        for _ in range(3):
            stacked_conv.batched("convolve", random(1, 1, 1, 4, 4), random(2, 1, 1, 2, 2), 1)

    assert calls == {"greedy": 1, "modest": 4 + 3}
    assert len(caplog.records) == 2
    stacked_conv.forget()


def test_a_way_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    right = stacked_conv.ALGORITHMS["by replica"]["convolve"]

    def slow(*operands: Any) -> Tensor:
        time.sleep(0.02)
        return right(*operands)

    def rounded(x: Tensor, w: Tensor, stride: int) -> Tensor:
        return right(tensor_float.rounded(x), tensor_float.rounded(w), stride)

    monkeypatch.setattr(stacked_conv, "ALGORITHMS", {"slow": {"convolve": slow}, "rounded": {"convolve": rounded}})
    operands = random(3, 1, 8, 6, 6).float(), random(3, 4, 8, 3, 3).float(), 1
    with stacked_conv.noting(taken := {}):
        stacked_conv.forget()
        stacked_conv.batched("convolve", *operands)
        assert "'rounded' differs from the other algorithms" in caplog.text
        stacked_conv.batched("convolve", *operands, fp32_precision="tf32")
    assert list(taken.values()) == ["slow", "rounded"]
    stacked_conv.forget()


class TestChoice:
    """The choice on a pretended card; `choices` has its own tests of the file."""

    OPERANDS = (random(1, 1, 1, 4, 4), random(2, 1, 1, 2, 2), 1)

    @pytest.fixture(autouse=True)
    def card(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        monkeypatch.setattr(choices, "place", lambda device, options: "a card")
        monkeypatch.setattr(choices, "_file", lambda: tmp_path / "choices.json")
        stacked_conv.forget()
        yield
        stacked_conv.forget()

    @pytest.fixture
    def measured(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        measured = []
        monkeypatch.setattr(
            stacked_conv, "_measure", lambda product, device: measured.append(str(product)) or "grouped"
        )
        return measured

    def test_a_later_process_does_not_measure(self, measured: list[str]) -> None:
        for _ in range(2):
            stacked_conv.batched("convolve", *self.OPERANDS)
            stacked_conv.forget()  # as a new process
        assert measured == ["convolve 1x1x1x4x4 2x1x1x2x2 1 float64 ieee"]

    @pytest.mark.parametrize("other", [{"fp32_precision": "tf32"}, {"stride": 2}, {"dtype": torch.float32}])
    def test_another_precision_or_shape_is_measured(self, measured: list[str], other: dict[str, Any]) -> None:
        stride, dtype = other.pop("stride", 1), other.pop("dtype", torch.float64)
        stacked_conv.batched("convolve", *self.OPERANDS)
        stacked_conv.batched("convolve", *(t.to(dtype) for t in self.OPERANDS[:2]), stride, **other)
        assert len(set(measured)) == 2

    def test_an_algorithm_that_does_not_exist_is_not_taken(self, measured: list[str]) -> None:
        choices.keep("a card", "convolve 1x1x1x4x4 2x1x1x2x2 1 float64 ieee", "by magic")
        stacked_conv.batched("convolve", *self.OPERANDS)
        assert len(measured) == 1

    def test_threads_measure_one_after_the_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        inside, most = [], []

        def measure(product: stacked_conv.Product, device: torch.device) -> str:
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()
            return "grouped"

        monkeypatch.setattr(stacked_conv, "_measure", measure)
        threads = [threading.Thread(target=stacked_conv.batched, args=("convolve", *self.OPERANDS)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert most == [1]

    def test_the_algorithms_of_a_block_are_noted(self, measured: list[str]) -> None:
        outer: dict[stacked_conv.Product, str] = {}
        inner: dict[stacked_conv.Product, str] = {}
        with stacked_conv.noting(outer):
            with stacked_conv.noting(inner):
                stacked_conv.batched("convolve", *self.OPERANDS)
            stacked_conv.batched("convolve", *self.OPERANDS[:2], 2)
        stacked_conv.batched("convolve", *self.OPERANDS[:2], 3)
        assert stacked_conv.described(inner) == "grouped: convolve 1x1x1x4x4 2x1x1x2x2 1 float64 ieee"
        assert stacked_conv.described(outer) == "grouped: convolve 1x1x1x4x4 2x1x1x2x2 2 float64 ieee"
        assert stacked_conv.described({}) is None


class TestFloat32:
    """cuDNN's float32 is that within, which PyTorch must be told; the setting can be looked at without a GPU."""

    @pytest.fixture(autouse=True)
    def as_pytorch_has_it(self) -> None:
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"

    @staticmethod
    def seen(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None] = lambda: None) -> list[str]:
        """The setting at every call of a way, whoever makes it."""
        found = []

        def way(*_: object) -> Tensor:
            found.append(torch.backends.cudnn.conv.fp32_precision)
            then()
            return torch.zeros(1)

        monkeypatch.setattr(stacked_conv, "ALGORITHMS", {"only": {"convolve": way}})
        stacked_conv.forget()
        return found

    def test_holds_within_and_not_beyond(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.seen(monkeypatch)
        stacked_conv.batched("convolve", random(1, 1, 1, 4, 4), random(2, 1, 1, 2, 2), 1)
        assert set(found) == {"ieee"}
        assert len(found) == 5  # four that are timed and the one asked for
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"

    def test_is_taken_back_after_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> None:
            raise RuntimeError("no")

        self.seen(monkeypatch, fail)
        with pytest.raises(RuntimeError, match="no"):
            stacked_conv.batched("convolve", random(1, 1, 1, 4, 4), random(2, 1, 1, 2, 2), 1)
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"

    def test_holds_until_the_last_thread_has_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        both = threading.Barrier(2, timeout=60)
        first_is_out, after = threading.Event(), []

        def then() -> None:
            both.wait()  # both threads are inside
            if threading.current_thread() is not first:
                assert first_is_out.wait(60)
                after.append(torch.backends.cudnn.conv.fp32_precision)

        def work() -> None:
            stacked_conv.batched("convolve", random(1, 1, 1, 4, 4), random(2, 1, 1, 2, 2), 1)
            if threading.current_thread() is first:
                first_is_out.set()

        self.seen(monkeypatch, then)
        monkeypatch.setattr(stacked_conv, "fastest_algorithm", lambda *_: "only")
        first, second = (threading.Thread(target=work) for _ in range(2))
        for thread in (first, second):
            thread.start()
        for thread in (first, second):
            thread.join(60)
        assert after == ["ieee"]
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"

    @pytest.mark.parametrize("replicas", [1, 2])
    @pytest.mark.parametrize("on_cpu", [False, True])
    def test_holds_in_every_product_that_is_not_a_cpus(
        self, replicas: int, on_cpu: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mdfa_core.compute.replicas.PER_REPLICA_DEVICES", frozenset({"cpu"} if on_cpu else ()))
        x, w, b = (t.float() for t in (random(replicas, N, 3, 8, 6), random(replicas, 4, 3, 3, 3), random(replicas, 4)))
        delta = random(replicas, N, 4, 3, 2).float()
        with _Watching() as watching:
            kernels.convolve(x, w, b, 2, PRECISIONS["float32"])
            kernels.convolve_error(delta, w, 2, 8, 6, PRECISIONS["float32"])
            kernels.convolve_outer(delta, x, 3, 2, PRECISIONS["float32"])
        assert len(watching.seen) >= 3
        assert set(watching.seen) == {"tf32" if on_cpu else "ieee"}


class _Watching(TorchDispatchMode):
    """Notes the setting at every convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "convolution" in function.name():
            self.seen.append(torch.backends.cudnn.conv.fp32_precision)
        return function(*args, **(kwargs or {}))


@pytest.mark.gpu
@pytest.mark.parametrize("replicas", [1, R])
@pytest.mark.parametrize("kind", ["convolve", "error", "outer"])
def test_products_on_a_gpu_have_the_digits_of_float32(kind: str, replicas: int) -> None:
    x, w, b = random(replicas, 64, 32, 16, 16), random(replicas, 64, 32, 3, 3), torch.zeros(replicas, 64)
    delta = random(replicas, 64, 64, 14, 14)

    def product(device: str, dtype: torch.dtype, precision: str) -> Tensor:
        of, (i, v, c, d) = PRECISIONS[precision], (t.to(device, dtype) for t in (x, w, b, delta))
        if kind == "convolve":
            return kernels.convolve(i, v, c, 1, of)
        if kind == "error":
            return kernels.convolve_error(d, v, 1, 16, 16, of)
        return kernels.convolve_outer(d, i, 3, 1, of)

    exact = product("cpu", torch.float64, "float64")
    found = product("cuda", torch.float32, "float32").double().cpu()
    assert ((found - exact).norm() / exact.norm()).item() < 1e-5  # TensorFloat-32 gives 3e-4


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["convolve", "error", "outer"])
@pytest.mark.parametrize("way", stacked_conv.ALGORITHMS)
def test_every_way_on_a_gpu_is_right_also_in_a_graph(way: str, kind: str) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    x, w, delta = random(R, 64, 32, 16, 15), random(R, 33, 32, 3, 3), random(R, 64, 33, 7, 7)
    operands = {"convolve": (x, w, 2), "error": (delta, w, 2, 16, 15), "outer": (delta, x, 2, 3)}[kind]
    exact = stacked_conv.ALGORITHMS["by replica"][kind](*operands)
    there = [o.to(device, torch.float32) if isinstance(o, Tensor) else o for o in operands]

    def product() -> Tensor:
        return stacked_conv.ALGORITHMS[way][kind](*there)

    def record() -> None:
        recorded.copy_(product())

    with tensor_float.float32_products("ieee"):
        plain = product()
        recorded = torch.zeros_like(plain)
        graph = CudaGraph(device)
        graph.record(record)
        graph.replay()
    torch.cuda.synchronize()
    for found in (plain, recorded):
        assert ((found.double().cpu() - exact).norm() / exact.norm()).item() < 1e-5
