"""The benchmark runs, counts correctly and gives clear errors. No test judges the speed of this machine."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import gpu, peers, tables
from mdfa_core import ACTIVATIONS, METHODS, OPTIMIZERS, Network, bench
from mdfa_core.base.errors import DeviceError, InvalidValue, MdfaError, MissingPackage, UnknownName
from mdfa_core.base.machine import cores
from mdfa_core.bench import (
    BENCHMARKS,
    Settings,
    document,
    jax_steps,
    measure,
    profile,
    profile_table,
    table,
    workload_of,
)
from mdfa_core.bench import benchmarks as registered
from mdfa_core.bench.benchmarks import Aim, BenchmarkResult
from mdfa_core.bench.floor import (
    Bandwidth,
    Floor,
    Host,
    Work,
    bytes_moved,
    floor_of,
    forced_gemm,
    measure_host,
    multiply_adds,
    products,
)
from mdfa_core.bench.report import shown, shown_comparison, shown_spread
from mdfa_core.bench.timing import Blocks, Spread, fastest, interleaved, ratios
from mdfa_core.bench.workloads import CONV, DIGITS_FC, FC, Workload
from mdfa_core.cli import main
from mdfa_core.compute import kernels, stacked_conv
from mdfa_core.learning import cuda_graph
from mdfa_core.nets.networks import parse_architecture
from mdfa_core.rules import FREE, Method, Transport
from tests.support.cpu_graph import CpuGraph

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("bench")]

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name("mdfa")
FLOAT32 = kernels.PRECISIONS["float32"]
HAS_JAX = importlib.util.find_spec("jax") is not None
HOST = Host(1, 2e9, "a product", (Bandwidth(100, 8e9), Bandwidth(1000, 3e9), Bandwidth(10000, 4e9)))
"""Two operations take a nanosecond; sets below 1000 bytes are fast, and the set of 1000 bytes was disturbed."""


def python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=500)


# --------------------------------------------------------------------------------------------------------- every row


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the real command prints and writes, with a few steps of every row."""
    folder = tmp_path_factory.mktemp("bench")
    command = [PROGRAM, "bench", "--quick", "--threads", "1", "--json", "bench.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=500)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, json.loads((folder / "bench.json").read_text(encoding="utf-8"))


def test_every_row_is_in_the_table_and_in_the_file(benchmark: tuple[str, dict[str, Any]]) -> None:
    printed, content = benchmark

    assert [row["name"] for row in content["rows"]] == list(BENCHMARKS)
    for name in BENCHMARKS:
        assert re.search(rf"^{name}  .*\d", printed, re.MULTILINE), name
    assert max(map(len, printed.splitlines())) <= 120
    assert "--quick" in printed.splitlines()[-1]


def test_the_table_keeps_its_width_where_the_measured_is_extreme(benchmark: tuple[str, dict[str, Any]]) -> None:
    """As on a machine with much beside: every comparison of the real rows at its widest."""
    content = copy.deepcopy(benchmark[1])
    for row in content["rows"]:
        values = {"ratio": (10.04, 9.985, 15.55), "gain": (12.34, 10.25, 99.94), "loss": (-1.234, -5.678, -1.052)}
        row["compared"] |= dict(zip(("median", "low", "high"), values[row["kind"]], strict=True))
        row |= {"aim": {"bound": 0.05, "at_least": row["kind"] == "gain"}, "met": False}
        if row["other_name"].startswith("autograd ") and row["unit"] == "s":
            row["other_name"] = "autograd NHWC plain"

    assert max(map(len, table(content).splitlines())) <= 120


def test_the_file_says_what_was_measured_and_how(benchmark: tuple[str, dict[str, Any]]) -> None:
    _, content = benchmark

    assert content["format"] == 2
    assert content["command"] == "mdfa bench --threads 1 --quick"
    assert (content["threads"], content["precision"]) == (1, "float32")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", content["date"])
    assert content["versions"]["torch"] == torch.__version__
    assert {"mdfa", "python", "numpy", "mkl", "onednn"} < set(content["versions"])
    assert content["machine"]["cores"] == cores()
    assert content["gemm"]["served"] == ("onednn" if kernels.uses_onednn() else "addmm")
    assert [host["threads"] for host in content["host"]] == [1]
    for host in content["host"]:
        assert host["flops"] > 0
        assert all(bandwidth["rate"] > 0 for bandwidth in host["bandwidths"])
    for row in content["rows"]:
        assert {"name", "measured", "unit", "ours", "other", "other_name", "kind", "compared"} < set(row)
        for spread in (row["ours"], row["other"]):
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]
        assert row["compared"]["low"] <= row["compared"]["median"] <= row["compared"]["high"]
        assert (row["met"] is None) == (row["aim"] is None)


def test_rows_hold_the_details_their_reader_needs(benchmark: tuple[str, dict[str, Any]]) -> None:
    rows = {row["name"]: row["details"] for row in benchmark[1]["rows"]}

    assert set(rows["conv-mdfa-sgd"]["variants"]) == {
        "this project",
        "NCHW fused",
        "NCHW plain",
        "NHWC fused",
        "NHWC plain",
        *(["JAX"] if HAS_JAX else []),
    }
    assert [cost["replicas"] for cost in rows["digits-replicas"]["cost per replica"]] == [1, 2, 4, 8, 16, 32]
    assert rows["fc-replicas"]["replicas"] == 8
    assert rows["digits-probe"]["probes a second"] > 0
    assert (
        rows["memory-sgd"]["from the first step on"]["ours"] > rows["memory-sgd"]["bytes of one copy of the parameters"]
    )


def test_tables_and_figures_are_made_from_the_files(benchmark: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    result, text = tmp_path / "r.json", tmp_path / "d.md"
    result.write_text(json.dumps(benchmark[1]), encoding="utf-8")
    parts = "between".join("\nold\n".join(tables.marks(part)) for part in tables.PARTS)
    text.write_text(f"before\n{parts}\nafter\n", encoding="utf-8")
    files = (result, tables.TWO_THREADS, tables.GPU_RESULT)

    tables.main(files, text, tmp_path)

    written = text.read_text(encoding="utf-8")
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert "\nold\n" not in written
    for name in BENCHMARKS:
        assert f"| `{name}` |" in written
    assert (tmp_path / "replicas.svg").read_text(encoding="utf-8").count("<circle") == 10
    steps = (tmp_path / "steps.svg").read_text(encoding="utf-8")
    assert steps.count("<circle") == 13  # twelve rows, and the legend
    assert steps.count("80-16-16-1, BP, SGD, one by one") == 1
    tables.main(files, text, tmp_path)
    assert text.read_text(encoding="utf-8") == written


def test_tables_and_figures_are_those_of_the_committed_results() -> None:
    files = (tables.RESULT, tables.TWO_THREADS, tables.GPU_RESULT)
    contents = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    text = tables.DOCUMENT.read_text(encoding="utf-8")
    assert tables.written(text, contents) == text
    for name, picture in tables.pictures(contents).items():
        assert (tables.IMAGES / name).read_text(encoding="utf-8") == picture, name


def test_the_page_shows_every_figure() -> None:
    page = (ROOT / "docs/results/performance.md").read_text(encoding="utf-8")
    for name in ("steps.svg", "replicas.svg", "replicas-gpu.svg"):
        assert f"(../images/{name})" in page


def test_the_document_explains_every_row() -> None:
    text = (ROOT / "docs/contributing/notes/benchmark.md").read_text(encoding="utf-8")
    for name in BENCHMARKS:
        assert f"`{name}`" in text


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "nope"], ["unknown benchmark 'nope'", *BENCHMARKS]),
        (["--only", "fc-replicas,nope"], ["unknown benchmark 'nope'"]),
        (["--only", ","], ["unknown benchmark ''"]),
        (["--threads", "0"], ["threads is 0", f"from 1 to {cores()}"]),
        (["--threads", str(cores() + 1)], [f"threads is {cores() + 1}", f"{cores()} cores"]),
        (["--precision", "float8"], ["unknown precision 'float8'", "bfloat16"]),
        (["--device", "abacus"], ["unknown device 'abacus'"]),
        (["--json", "absent/bench.json"], ["absent/bench.json cannot be written"]),
        (["--json", "."], ["cannot be written"]),
        (["--profile", "--only", "fc-replicas"], ["to profile 'fc-replicas'", "fc-mdfa-sgd"]),
        (["--profile", "--json", "bench.json"], ["leave --json out"]),
        (["--threads", "two"], ["'two' is not a valid integer"]),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    arguments: list[str], said: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--quick", *arguments])
    out, err = capfd.readouterr()

    assert (caught.value.code, out) == (2, "")
    assert re.fullmatch(r"mdfa: [^\n]+\n", err), err
    for text in said:
        assert text in err


def test_a_path_the_engine_does_not_know_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.GEMM_VARIABLE, "abacus")
    with pytest.raises(InvalidValue, match="MDFA_GEMM"):
        Settings()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_a_gpu_that_is_not_here_is_refused() -> None:
    with pytest.raises(DeviceError, match="no CUDA device"):
        Settings(device="cuda")


def test_an_unknown_row_is_refused_before_the_first_is_measured() -> None:
    with pytest.raises(UnknownName):
        measure(["fc-mdfa-sgd", "nope"], Settings(quick=True))


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    list(measure(["digits-mdfa-sgd"], Settings(quick=True, threads=1)))
    assert torch.get_num_threads() == before


# ----------------------------------------------------------------------------------------- other settings, the profile


def test_other_precisions_have_no_aim(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--quick", "--threads", "1", "--only", "digits-mdfa-sgd", "--precision", "bfloat16"])
    out, _ = capfd.readouterr()
    assert caught.value.code == 0
    assert "1 threads, bfloat16" in out
    assert "met" not in out


@pytest.mark.parametrize(
    ("settings", "judged"), [({"threads": 2}, True), ({"threads": 1}, False), ({"threads": 2, "quick": True}, False)]
)
def test_aims_are_judged_with_two_threads_and_all_steps(
    settings: dict[str, Any], judged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mdfa_core.base.machine.cores", lambda: 2)
    assert registered._aim(Settings(**settings), Aim(0.5)) == (Aim(0.5) if judged else None)


@pytest.mark.parametrize(("failure", "code"), [(MdfaError("it is broken"), 2), (KeyboardInterrupt(), 130)])
def test_rows_that_were_measured_are_kept_where_a_later_one_fails(
    failure: BaseException,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def measured(names: list[str], settings: Settings) -> Iterator[BenchmarkResult]:
        yield from measure(names[:1], settings)
        raise failure

    monkeypatch.setattr(bench, "measure", measured)
    file = tmp_path / "bench.json"
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--quick", "--threads", "1", "--only", "digits-mdfa-sgd,digits-replicas,", "--json", str(file)])
    out, err = capfd.readouterr()
    assert caught.value.code == code
    assert re.search(r"^digits-mdfa-sgd  .*\d", out, re.MULTILINE)
    assert ("it is broken" in err) == (code == 2)
    assert [row["name"] for row in json.loads(file.read_text(encoding="utf-8"))["rows"]] == ["digits-mdfa-sgd"]


def test_an_empty_item_of_only_is_no_row(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--quick", "--threads", "1", "--only", "digits-mdfa-sgd,"])
    assert caught.value.code == 0


@pytest.mark.parametrize("path", ["addmm", "onednn"])
def test_a_forced_path_is_the_one_that_served(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.GEMM_VARIABLE, path)
    try:
        settings = Settings(quick=True, threads=1)
    except DeviceError:
        pytest.skip("this PyTorch lacks oneDNN's fused operator")
    content = document([], settings, (HOST,), "mdfa bench")
    assert content["gemm"] == {"asked for": path, "served": path}
    assert f"MDFA_GEMM={path}" in table(content)


def test_the_profile_shows_operators_and_shapes(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--quick", "--threads", "1", "--profile", "--only", "digits-mdfa-sgd"])
    out, err = capfd.readouterr()

    assert (caught.value.code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 120
    assert re.search(r"^aten::\S+ .*64×128.* µs +\d+\.\d%$", out, re.MULTILINE)
    assert out.startswith("digits-mdfa-sgd: ")


def test_the_profiles_shares_add_up() -> None:
    operators = profile(workload_of("digits-mdfa-sgd"), Settings(quick=True, threads=1))
    assert sum(operator.share for operator in operators) == pytest.approx(1)
    assert operators == sorted(operators, key=lambda operator: -operator.seconds)
    assert "more" in profile_table("a step", operators, most=2)


# ------------------------------------------------------------------------------------------------------- the floor


def test_multiply_adds_of_the_fc_step_are_those_counted_by_hand() -> None:
    weights = 3072 * 1024 + 1024 * 1024 + 1024 * 1
    assert multiply_adds(FC.build_network(), METHODS["mdfa"], 64) == 64 * (2 * weights + 1 * (1024 + 1024))
    assert multiply_adds(FC.build_network(), METHODS["dfa"], 64) == multiply_adds(
        FC.build_network(), METHODS["mdfa"], 64
    )
    assert multiply_adds(FC.build_network(), METHODS["bp"], 64) == 64 * (2 * weights + 1024 * 1024 + 1024)
    assert multiply_adds(FC.build_network(), METHODS["fa"], 64) == multiply_adds(FC.build_network(), METHODS["bp"], 64)


def test_multiply_adds_of_a_conv_step_are_those_counted_by_hand() -> None:
    # 5×5 images of 2 channels; 3 filters of 2×2, stride 1: 4×4 positions; 4 filters of 2×2, stride 2: 2×2; 2 outputs.
    network = Network(parse_architecture("conv:3/2/1,4/2/2"), (2, 5, 5), 2, ACTIVATIONS["tanh"])
    first, second, last = 16 * (3 * 2 * 2 * 2), 4 * (4 * 3 * 2 * 2), 16 * 2
    assert multiply_adds(network, METHODS["mdfa"], 10) == 10 * (2 * (first + second + last) + 2 * (48 + 16))
    assert multiply_adds(network, METHODS["bp"], 10) == 10 * (2 * (first + second + last) + second + last)


def test_multiply_adds_of_an_unknown_transport_are_refused() -> None:
    class Telepathy(Transport):
        def feedback(self, network: Network) -> tuple[Any, ...]:
            return ()

        def signals(self, *_: Any) -> Any:
            raise AssertionError

    method = Method(title="T", description="", transport=Telepathy(), constraint=FREE)
    with pytest.raises(InvalidValue, match="T's error transport"):
        multiply_adds(DIGITS_FC.build_network(), method, 64)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam"])
@pytest.mark.parametrize("rule", ["bp", "fa", "dfa", "mdfa"])
@pytest.mark.parametrize("widths", [(), (3,), (5, 3)], ids=str)
def test_a_steps_work_is_that_of_loops_that_count(widths: tuple[int, ...], rule: str, optimizer: str) -> None:
    net = "fc:" + ",".join(map(str, widths))
    workload = Workload("tiny", net, (1, 2, 3), rule, optimizer, batch=3)
    multiplied, moved, distinct = counted_by_loops((6, *widths, 1), rule, optimizer, examples=3)
    assert Work.of(workload) == Work(multiplied, 4 * moved, 4 * distinct)

    network = Network(parse_architecture(net), (1, 2, 3), 2, ACTIVATIONS["tanh"])
    multiplied, moved, _ = counted_by_loops((6, *widths, 2), rule, optimizer, examples=4)
    assert multiply_adds(network, METHODS[rule], 4) == multiplied
    assert bytes_moved(network, METHODS[rule], OPTIMIZERS[optimizer], 4) == 4 * moved


def counted_by_loops(sizes: tuple[int, ...], rule: str, optimizer: str, examples: int) -> tuple[int, int, int]:
    """Multiply-adds, numbers read or written, and distinct numbers of a step, counted one by one."""
    multiplied, touched, seen = 0, 0, set()
    layers = range(len(sizes) - 1)

    def touch(*number: object) -> None:
        nonlocal touched
        touched += 1
        seen.add(number)

    for n in range(examples):
        for layer in layers:
            for _ in range(sizes[layer] * sizes[layer + 1]):
                multiplied += 2  # forward pass, update
        for layer in layers[1:]:
            direct = rule in ("dfa", "mdfa")
            for _ in range(sizes[layer] * (sizes[-1] if direct else sizes[layer + 1])):
                multiplied += 1  # the error of the units below
        for i in range(sizes[0]):
            touch("input", n, i)
    for layer in layers:
        for parameter in range((sizes[layer] + 1) * sizes[layer + 1]):
            for _ in ("forward pass", "update reads", "update writes"):
                touch("parameter", layer, parameter)
            for slot in range({"sgd": 0, "rmsprop": 1, "adam": 2}[optimizer]):
                for _ in ("reads", "writes"):
                    touch("slot", slot, layer, parameter)
        above = sizes[-1] if rule in ("dfa", "mdfa") else sizes[layer + 1]
        for weight in range(sizes[layer] * above if layer else 0):
            touch("parameter" if rule == "bp" else "feedback", layer, weight)
    return multiplied, touched, len(seen)


def test_a_floor_is_the_larger_of_both_times() -> None:
    assert HOST.floor(Work(1000, 4000, 500)) == Floor(1, 1e-6, "products")
    assert HOST.floor(Work(1000, 40000, 500)) == Floor(1, 5e-6, "bytes")
    assert HOST.floor(Work(1000, 40000, 5000)) == Floor(1, 10e-6, "bytes")
    assert HOST.floor(Work(1000, 40000, 99)) == Floor(1, 1e-6, "products")  # nothing that small was measured
    double = dataclasses.replace(HOST, threads=2, flops=4e9)
    disturbed = dataclasses.replace(HOST, threads=2, flops=1e9)
    work = Work(1000, 4000, 500)
    assert floor_of(work, (HOST, double), 1) == HOST.floor(work)
    assert floor_of(work, (HOST, double), 2) == Floor(2, 0.5e-6, "products")
    assert floor_of(work, (HOST, disturbed), 2) == HOST.floor(work)


def test_a_row_says_how_many_times_its_floor_it_takes() -> None:
    spread = Spread(3e-6, 3e-6, 3e-6)
    result = BenchmarkResult(
        name="row", measured="a step", unit="s", ours=spread, other=spread, other_name="the same", kind="ratio",
        compared=Spread(1, 1, 1), aim=None, work=Work(1000, 4000, 500), floor_aim=Aim(2.5),
    )  # fmt: skip
    rates = dataclasses.replace(result, unit="steps/s", ours=Spread(5e5, 5e5, 5e5), floor_aim=None)
    content = document([result, rates], Settings(quick=True, threads=1), (HOST,), "mdfa bench")
    first, second = (row["floor"] for row in content["rows"])

    assert (first["step ÷ floor"], first["met"]) == (pytest.approx(3), False)
    assert (second["step ÷ floor"], second["met"]) == (pytest.approx(2), None)
    printed = table(content)
    assert re.search(r"^row +1 +3 µs +1 µs +products +3\.00 +≤ 2\.50 +not met$", printed, re.MULTILINE)
    assert "1 thread: 2 GFLOP/s (a product)" in printed
    assert "0 of 1 aims are met" in printed


def test_the_machine_is_measured() -> None:
    (host,) = measure_host(Settings(quick=True, threads=1))
    assert (host.threads, host.flops > 0) == (1, True)
    assert list(host.bandwidths) == sorted(host.bandwidths, key=lambda b: b.working_set)
    assert host.bandwidths[-1].working_set > 10**8  # more than a cache has room for


def test_a_machine_with_two_cores_is_measured_with_one_thread_and_with_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdfa_core.bench.floor.cores", lambda: 2)
    monkeypatch.setattr("mdfa_core.bench.floor._host", lambda count, settings: count)
    assert measure_host(Settings(threads=1)) == (1, 2)
    monkeypatch.setattr("mdfa_core.bench.floor.cores", lambda: 1)
    assert measure_host(Settings(threads=1)) == (1,)


# ---------------------------------------------------------------------------------------------- compiled steps and JAX


def test_a_compiled_row_stands_beside_pytorch_autograd_and_jax() -> None:
    results = list(measure(["compiled-mdfa", "online-16-bp"], Settings(quick=True, threads=1)))
    for result in results:
        assert isinstance(result, BenchmarkResult)
        assert {"compiled", "PyTorch", "autograd plain", "autograd fused"} <= set(result.details["variants"])
        assert ("÷ JAX" in result.details) == HAS_JAX
        assert (result.other_name == "JAX") == HAS_JAX
    printed = table(document(results, Settings(quick=True, threads=1), (HOST,), "mdfa bench"))
    assert HAS_JAX or "JAX is not installed: pip install jax" in " ".join(printed.split())


def test_a_compiled_row_without_numba_is_skipped_visibly(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(learner: Any) -> Any:
        raise MissingPackage("compiled steps need Numba: run pip install numba")

    monkeypatch.setattr(registered, "CompiledSteps", refused)
    results = list(measure(["compiled-bp"], Settings(quick=True, threads=1)))
    content = document(results, Settings(quick=True, threads=1), (HOST,), "mdfa bench")
    assert content["rows"][0]["skipped"].startswith("compiled steps need Numba")
    assert "compiled-bp: skipped. compiled steps need Numba" in table(content)


@pytest.mark.skipif(not HAS_JAX, reason="needs JAX: pip install jax")
@pytest.mark.parametrize("rule", jax_steps.METHODS)
@pytest.mark.parametrize("workload", [DIGITS_FC, CONV], ids=lambda workload: workload.network)
def test_jax_has_a_step_of_the_rule(workload: Workload, rule: str) -> None:
    step = jax_steps.jax_step(dataclasses.replace(workload, method=rule), 1)
    assert step is not None
    step()


def test_other_rules_and_optimizers_have_no_step_in_jax() -> None:
    assert jax_steps.jax_step(dataclasses.replace(DIGITS_FC, method="fa"), 1) is None
    assert jax_steps.jax_step(dataclasses.replace(DIGITS_FC, optimizer="adam"), 1) is None


def test_products_are_the_steps_large_ones_by_every_path() -> None:
    made = products(FC.build_network(), 64)
    sizes = {product.multiply_adds for product in made}
    assert sizes == {64 * 3072 * 1024, 64 * 1024 * 1024}
    assert {product.path for product in made} <= {"onednn", "addmm"}
    assert len(made) == 4 * len({product.path for product in made})


def test_a_path_is_chosen_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kernels.GEMM_VARIABLE, raising=False)
    before = kernels.uses_onednn()
    with forced_gemm("addmm"):
        assert not kernels.uses_onednn()
    assert kernels.uses_onednn() == before


# ------------------------------------------------------------------------------------------------------- the workloads


@pytest.mark.parametrize("workload", [FC, CONV, DIGITS_FC], ids=lambda workload: workload.network)
def test_the_torch_net_has_the_same_parameters(workload: Workload) -> None:
    ours = sorted((*layer.weight_shape,) for layer in workload.build_network().layers)
    theirs = sorted(tuple(p.shape) for p in workload.torch_model().parameters() if p.dim() > 1)
    assert ours == theirs


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam"])
def test_every_variant_learns(optimizer: str) -> None:
    workload = Workload("tiny", "conv:2/2/1+fc:4", (1, 4, 4), "mdfa", optimizer)
    learner = workload.learner(FLOAT32, replicas=2)
    before = [tensor.clone() for tensor in learner.parameters.tensors()]
    images, labels = next(workload.batches(2, "cpu"))
    learner.step(learner.network.inputs_from(images), labels)
    assert not any(torch.equal(a, b) for a, b in zip(before, learner.parameters.tensors(), strict=True))

    variants = workload.autograd_steps()
    assert len(variants) == 4
    for step in variants.values():
        step()


# --------------------------------------------------------------------------------------------------------- statistics


def test_a_spread_is_the_median_and_the_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([1.0, 2.0]) == Spread(1.5, 1.25, 1.75)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)
    values = [0.3, 0.1, 0.9, 0.4, 0.2, 0.8, 0.7]
    assert Spread.of(values).median == statistics.median(values)
    assert Spread(3.0, 2.0, 4.0).scaled(2) == Spread(6.0, 4.0, 8.0)


def test_ratios_are_taken_round_by_round() -> None:
    slow, quick = Blocks((2.0, 20.0, 4.0), 1), Blocks((1.0, 10.0, 1.0), 1)
    assert ratios(slow, quick) == Spread(2.0, 2.0, 3.0)
    assert fastest({"slow": slow, "quick": quick}) == "quick"


def test_blocks_are_interleaved() -> None:
    done: list[str] = []

    def noting(name: str) -> Callable[[], None]:
        return lambda: done.append(name)

    blocks = interleaved({"a": noting("a"), "b": noting("b")}, rounds=3, seconds=0.0)

    assert {name: (len(b.seconds), b.steps) for name, b in blocks.items()} == {"a": (3, 1), "b": (3, 1)}
    assert done[-18:] == (["a"] * 3 + ["b"] * 3) * 3
    assert all(seconds >= 0 for b in blocks.values() for seconds in b.seconds)


def test_an_aim_is_met_on_its_side() -> None:
    assert Aim(0.42).met(0.42)
    assert not Aim(0.42).met(0.43)
    assert Aim(4.0, at_least=True).met(4.1)
    assert not Aim(4.0, at_least=True).met(3.9)


def test_values_are_shown_for_people() -> None:
    assert [shown(0.00291, "s"), shown(1.5, "s"), shown(79e6, "bytes"), shown(2437.3, "steps/s")] == [
        "2.91 ms",
        "1.5 s",
        "79 MB",
        "2437/s",
    ]
    assert [shown_comparison(kind, 0.04) for kind in ("ratio", "gain", "loss")] == ["0.04", "0.04×", "4.0 %"]
    assert shown_comparison("loss", -0.0001) == "0.0 %"
    assert [shown_comparison("gain", value) for value in (9.994, 9.996, 345.6)] == ["9.99×", "10.0×", "346×"]
    assert [shown_comparison("loss", value) for value in (0.0994, 0.0996, -1.052)] == ["9.9 %", "10 %", "-105 %"]
    assert shown_spread("gain", {"median": 4.0, "low": 3.9, "high": 4.1}) == "4.00× (3.90–4.10)"
    assert shown_spread("ratio", {"median": 0.5, "low": 0.5, "high": 0.5}) == "0.50"


def test_a_process_that_fails_to_measure_memory_says_why() -> None:
    from mdfa_core.bench.memory import run_apart

    with pytest.raises(MdfaError, match="measures memory failed"):
        run_apart("ours", "hope", threads=1, precision="float32", steps=1)


# -------------------------------------------------------------------------------------------------- the other programs


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_the_gpu_program_runs_through_on_the_cpu_at_small_size(precision: str, tmp_path: Path) -> None:
    program = ROOT / "benchmarks" / "gpu.py"
    options = ("--device", "cpu", "--small", "--json", "gpu.json", "--precision", precision)
    done = python(program, *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "right" in done.stdout
    assert f", {precision}\n" in done.stdout
    content = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert all(item["right"] for item in content["correctness"])
    assert {tuple(item["largest relative difference"]) for item in content["correctness"]} == {
        ("bp", "fa", "dfa", "mdfa")
    }
    for row in content["steps"]:
        assert row["replica-steps/s"] > 0
        assert row["share of the bandwidth floor"] > 0
    assert {row["product"] for row in content["convolutions"]} == {"convolve", "error", "outer"}
    shown = [row for part in ("steps", "convolutions", "repeatability") for row in content[part]]
    assert tables.gpu_part(content).count("| small") == len(shown)
    for row in content["convolutions"]:
        assert list(row["seconds"]) == list(stacked_conv.ALGORITHMS)
        assert all(spread["median"] > 0 for spread in row["seconds"].values())
    assert [row["deterministic"] for row in content["repeatability"]] == [False, True] * 2
    assert all(row["bit-identical"] and row["seconds"]["median"] > 0 for row in content["repeatability"])  # on a CPU
    assert set(content["tf32 rounding"].values()) == {"to the nearest, ties away from zero"}  # the emulation's


@pytest.mark.parametrize(
    ("to", "words"),
    [
        (lambda t: t, "not at all"),
        (lambda t: (t * 1024).floor() / 1024, "by truncation"),
        (lambda t: (t * 1024).round() / 1024, "to the nearest, ties to even"),
        (lambda t: t * 2, "to [2.0009765625, 2.0029296875]"),
    ],
)
def test_the_gpu_program_tells_how_a_card_rounds(
    to: Callable[[torch.Tensor], torch.Tensor], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mdfa_core.compute.tensor_float.rounded", lambda t: torch.where(t == 1, t, to(t)))
    assert gpu.roundings(gpu.SMALL, torch.device("cpu")) == {"product": words, "convolution": words}


def test_the_gpu_program_restores_cudnns_setting_and_tells_runs_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, numbers = [], iter(range(100))

    def trained(*_: Any) -> list[torch.Tensor]:
        seen.append(torch.backends.cudnn.deterministic)
        return [torch.tensor([1.0 + (0 if seen[-1] else 1e-3) * next(numbers)], dtype=torch.float64)]

    monkeypatch.setattr(gpu, "trained", trained)
    off, on = gpu.repeatability(gpu.SMALL.checked[0], 2, gpu.SMALL, torch.device("cpu"), "float32")
    assert seen == [False, False, True, True]
    assert not torch.backends.cudnn.deterministic
    assert (off["bit-identical"], on["bit-identical"]) == (False, True)
    assert off["largest relative difference"] == pytest.approx(1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_the_gpu_program_times_products_of_the_precisions_operands(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtypes = set()

    def once(ways: dict[str, Any], **options: object) -> dict[str, Any]:
        dtypes.update(way().dtype for name, way in ways.items() if name != "copy")
        return {name: SimpleNamespace(spread=SimpleNamespace(median=1.0)) for name in ways}

    monkeypatch.setattr(gpu, "interleaved", once)
    cpu, conv = torch.device("cpu"), gpu.SMALL.checked[1]
    gpu.limits(gpu.SMALL, cpu, precision)
    assert len(gpu.time_convolutions(conv, 2, gpu.SMALL, cpu, precision)) == 6
    assert dtypes == {kernels.PRECISIONS[precision].operands}
    assert gpu.predicted_bytes(conv, 2, "float64") == 2 * gpu.predicted_bytes(conv, 2, "bfloat16")


@pytest.mark.usefixtures("batched_replicas")
def test_the_gpu_program_times_a_graph_beside_single_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "graphs_of", lambda device: CpuGraph)
    monkeypatch.setattr(CpuGraph, "made", [], raising=False)
    limit = {"FLOP/s": 1e9, "bytes/s": 1e9}
    (row,) = gpu.time_stacks(gpu.SMALL.checked[0], (4,), gpu.SMALL, torch.device("cpu"), limit)

    assert row["seconds"]["median"] > 0
    assert row["seconds without a graph"]["median"] > 0
    assert sum(tape.replays for tape in CpuGraph.made) > 3 + gpu.SMALL.rounds


def test_the_gpu_program_refuses_a_cpu_at_full_size(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu"])
    with pytest.raises(SystemExit) as caught:
        gpu.main()
    assert caught.value.code == 2
    assert re.fullmatch(r"gpu\.py: [^\n]+\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("program", "options", "said"),
    [
        (gpu, ["--device", "cpu", "--small", "--json", "absent/gpu.json"], "absent/gpu.json cannot be written: give"),
        (peers, ["--quick", "--json", "."], "cannot be written: give"),
        (peers, ["--quick", "--threads", "0"], f"threads is 0, but this machine has {cores()} cores"),
    ],
)
def test_the_other_programs_refuse_bad_input_before_they_measure(
    program: ModuleType,
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "interleaved", lambda *arguments, **options: pytest.fail("it measures"))
    monkeypatch.setattr(sys, "argv", ["it", *options])
    with pytest.raises(SystemExit) as caught:
        program.main()
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert re.fullmatch(r"\w+\.py: [^\n]+\n", err)
    assert said in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_file_that_cannot_be_written_after_all_is_a_sentence_behind_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "interleaved", lambda steps, **_: {name: Blocks((1.0,), 1) for name in steps})
    monkeypatch.setattr(sys, "argv", ["peers.py", "--quick", "--threads", "1", "--json", "/dev/full"])
    with pytest.raises(SystemExit) as caught:
        peers.main()
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert "mdfa, mDFA" in out
    assert re.fullmatch(r"peers\.py: /dev/full cannot be written \([^\n]+\): give another file\n", err)


@pytest.mark.gpu
def test_stacks_on_the_gpu_learn_what_stacks_on_the_cpu_learn() -> None:
    for workload in gpu.SMALL.checked:
        assert gpu.check(workload, 3, torch.device("cuda"))["right"]


def test_the_peers_program_says_which_peers_it_had(tmp_path: Path) -> None:
    done = python(ROOT / "benchmarks" / "peers.py", "--quick", "--threads", "1", "--json", "peers.json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads((tmp_path / "peers.json").read_text(encoding="utf-8"))["rows"]
    assert all(("seconds" in row) != ("skipped" in row) for row in rows)
    assert all("seconds" in row for row in rows if not row["row"].startswith("BioTorch"))
    if importlib.util.find_spec("biotorch") is None:
        assert "not installed" in done.stdout
