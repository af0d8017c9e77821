"""The predicted memory of a run, against PyTorch's own count of its allocations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from mdfa_core import OPTIMIZERS, Every, Experiment, Run
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.data import TaskCache
from mdfa_core.learning.probes import LIVE, Sample
from mdfa_core.training.memory import predicted_memory, probe_memory
from tests.support.cases import pairwise

pytestmark = pytest.mark.slow

SMALL = Experiment(network="fc:8", epochs=2)


def test_a_graph_keeps_a_batch_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    large = SMALL.replace(network="fc:300,200", batch_size=600)
    batch = 4 * 600 * 500  # of every hidden unit one number, which is the least
    on_the_cpu = predicted_memory(large)

    assert predicted_memory(large, "cpu") == on_the_cpu
    assert predicted_memory(large, "cuda:1") > on_the_cpu + batch
    drawing = large.replace(method="dtp")
    assert predicted_memory(drawing, "cuda:1") == predicted_memory(drawing)  # is never replayed
    monkeypatch.setenv("MDFA_GRAPH", "off")
    assert predicted_memory(large, "cuda:1") == on_the_cpu


@pytest.mark.parametrize("network", ["fc:300,200", "conv:8/3/1,16/3/2"])
def test_only_a_cpu_takes_memory_to_round_to_tensor_float(network: str) -> None:
    full, rounded = SMALL.replace(network=network), SMALL.replace(network=network, precision="tf32")
    assert predicted_memory(rounded) > predicted_memory(full)
    assert predicted_memory(rounded, "cuda") == predicted_memory(full, "cuda")


@pytest.mark.parametrize(
    ("network", "optimizer", "method"), pairwise(["fc:300,200", "conv:8/3/1,16/3/2"], OPTIMIZERS, ["mdfa", "fa"])
)
def test_predicted_memory_covers_what_a_run_holds(network: str, optimizer: str, method: str) -> None:
    experiment = SMALL.replace(network=network, optimizer=optimizer, method=method)
    run = Run(experiment, device="cpu")
    inputs, labels = run.batch(1)
    batch = run.learner.observe(inputs, labels)
    forward_pass, signals = batch.forward_pass, batch.signals
    held = [*run.learner.parameters.tensors(), *run.state()["best parameters"], *run.learner.feedback]
    held += [slot for slots in run.learner.optimizer_state.slots for slot in slots]
    held += [*forward_pass.inputs, *forward_pass.saved, *signals.deltas]
    distinct = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}

    assert sum(distinct.values()) <= predicted_memory(experiment)


def _peak(experiment: Experiment, **events: Any) -> int:
    """The most bytes that a run's tensors held at any time, by PyTorch's own count of its allocations."""
    Run(experiment, device="cpu")  # allocates what a process allocates once
    tasks = TaskCache(None, torch.device("cpu"))
    tasks.load(experiment.data, **experiment.task_settings)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        for _ in Run(experiment, device="cpu", tasks=tasks).events(**events):
            pass
    now = most = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.parametrize(
    ("network", "optimizer", "method", "activation", "precision"),
    pairwise(
        ["fc:256,256", "fc:1024,1024,1024", "conv:32/3/1,32/3/1", "digits-conv"],
        OPTIMIZERS,
        ["bp", "mdfa"],
        ["tanh", "relu"],
        [name for name in PRECISIONS if name != "float64"],
    ),
)
def test_predicted_memory_is_enough_and_not_twice_too_much(
    network: str, optimizer: str, method: str, activation: str, precision: str
) -> None:
    settings = {"method": method, "optimizer": optimizer, "activation": activation, "precision": precision}
    experiment = Experiment(network=network, outputs=10, epochs=1, **settings)  # ten: an evaluation's chunks are full

    assert 1.0 <= predicted_memory(experiment) / _peak(experiment) <= 2.0


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "chl", "network": "conv:96/2/1,96/2/1,64/2/1", "batch_size": 64, "validation": 0.7},
        {"method": "chl", "network": "conv:32/3/1,32/3/1", "batch_size": 200, "validation": 0.7, "activation": "relu"},
        {"method": "chl", "network": "fc:256,256", "batch_size": 200, "validation": 0.7},
        *(
            {
                "optimizer": name,
                "l2": l2,
                "network": "fc:3072,1024",
                "batch_size": 1,
                "validation": 0.97,
                "activation": f,
            }
            for name in ("rmsprop", "adam", "signsgd", "rprop")  # of batches this small no update is made in parts
            for l2, f in ((0.0, "tanh"), (0.01, "relu"))
        ),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_predicted_memory_is_enough_for_two_phases_and_for_updates_that_are_made_whole(
    settings: dict[str, Any],
) -> None:
    experiment = Experiment(outputs=10, epochs=1, **settings)

    assert 1.0 <= predicted_memory(experiment) / _peak(experiment) <= 2.0


@pytest.mark.parametrize("sample", [None, LIVE], ids=["whole", "part"])
@pytest.mark.parametrize("network", ["fc:1024,1024", "digits-conv"])
def test_predicted_memory_of_a_measurement_is_enough_and_not_twice_too_much(
    network: str, sample: Sample | None
) -> None:
    experiment = Experiment(network=network, outputs=10, epochs=1, batch_size=512)
    predicted = predicted_memory(experiment) + probe_memory(experiment, sample)

    assert 1.0 <= predicted / _peak(experiment, probe=Every(epochs=1), sample=sample) <= 2.0
