"""Properties that all rules of the table share: signs, stacks, checkpoints, switches, random numbers."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mdfa_core.compute import kernels
from mdfa_core.learning import probes
from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.rules import StepContext
from mdfa_core.rules.methods import METHODS, MONO, sign_guarantee
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.run import Run
from tests.support.references import batch_of, learner_of, network_of

PAPER = ("bp", "fa", "dfa", "mdfa")
OTHERS = [name for name in METHODS if name not in PAPER]
LEARNED = [name for name in METHODS if METHODS[name].transport.learns_feedback]
DRAWN = [name for name in METHODS if METHODS[name].transport.draws]


def test_which_rules_are_held_to_what() -> None:
    assert all(METHODS[name].constraint.first_layer is None for name in OTHERS)
    assert not any(METHODS[name].constraint.feedback for name in OTHERS)
    assert LEARNED == ["kp", "dtp", "dkp"]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("method", OTHERS)
def test_no_unconstrained_rule_is_promised_signs_and_each_says_why(method: str, outputs: int) -> None:
    told = sign_guarantee(METHODS[method], ACTIVATIONS["tanh"], outputs)
    assert not told.holds
    assert told.reason.startswith(f"{METHODS[method].title} ")
    assert told.reason.endswith(".")


@pytest.mark.parametrize("activation", ["tanh", "hard-tanh"])
@pytest.mark.parametrize("architecture", ["fc:6,5,4", "conv:3/3/2+fc:4"])
@pytest.mark.parametrize("method", [name for name in OTHERS if METHODS[name].transport.keeps_signs])
def test_in_a_mono_net_those_that_keep_signs_keep_them(method: str, architecture: str, activation: str) -> None:
    held = dataclasses.replace(METHODS[method], title=f"mono {method}", constraint=MONO)
    network = network_of(architecture, activation=activation)
    learner = learner_of(network, held, rates=(0.3,), l2=(0.01,))
    assert sign_guarantee(held, network.activation, 1).holds
    for step in range(10):
        batch = learner.observe(*batch_of(network, 6, seed=step))
        found = probes.measure(network, learner.parameters, batch.forward_pass, batch.signals)
        assert found.unit.overall == (1.0,)
        learner.learn(batch)
    assert all((b >= 0).all() for b in learner.feedback)


@pytest.mark.parametrize("method", [name for name in OTHERS if not METHODS[name].transport.keeps_signs])
def test_the_others_are_not_promised_them_in_a_mono_net_either(method: str) -> None:
    held = dataclasses.replace(METHODS[method], constraint=MONO)
    assert not sign_guarantee(held, ACTIVATIONS["tanh"], 1).holds


@pytest.mark.parametrize("method", ["usf", "brsf", "frsf"])
def test_sign_symmetry_is_sure_of_the_layer_below_one_output_and_of_no_other(method: str) -> None:
    network = network_of("fc:20,20")
    learner = learner_of(network, method)
    batch = learner.observe(*batch_of(network, 20))
    found = probes.measure(network, learner.parameters, batch.forward_pass, batch.signals)
    assert found.unit.layers[1] == (1.0,)
    assert found.unit.layers[0][0] < 1


@pytest.mark.parametrize("architecture", ["fc:32,16,32", "conv:16/3/2,16/2/1", "conv:16/3/2+fc:32"])
@pytest.mark.parametrize("method", [*LEARNED, "brsf", "chl"])
def test_a_replica_alone_equals_itself_in_the_stack_feedback_and_chance_included(
    method: str, architecture: str
) -> None:
    network = network_of(architecture, outputs=3, precision="float32")
    rates, l2, seeds = (0.1, 0.003, 0.02), (0.0, 0.01, 0.1), (5, 6, 7)
    made = learner_of(network, method, optimizer="adam", rates=rates, l2=l2, scale=0.3)
    stack = Learner(
        network,
        made.method,
        OPTIMIZERS["adam"],
        made.parameters,
        made.feedback,
        learning_rates=rates,
        l2=l2,
        seeds=seeds,
    )
    singles = [
        Learner(
            network,
            made.method,
            OPTIMIZERS["adam"],
            stack.parameters.replica(r).clone(),
            [kernels.stack([b[r]]) for b in stack.feedback],
            learning_rates=rates[r : r + 1],
            l2=l2[r : r + 1],
            seeds=seeds[r : r + 1],
        )
        for r in range(3)
    ]
    for step in range(4):
        inputs, labels = batch_of(network, 32, replicas=3, seed=step)
        stack.step(inputs, labels)
        for r, single in enumerate(singles):
            single.step(inputs[r : r + 1], labels[r : r + 1])
    for r, single in enumerate(singles):
        for own, tensor in zip(
            (*single.parameters.tensors(), *single.feedback),
            (*stack.parameters.tensors(), *stack.feedback),
            strict=True,
        ):
            assert torch.equal(own[0], tensor[r])


@pytest.mark.parametrize(
    ("method", "optimizer"), list(zip([*LEARNED, "brsf"], itertools.cycle(["sgd", "adam", "rprop"])))
)
def test_a_run_that_is_saved_goes_on_bit_for_bit(method: str, optimizer: str, tmp_path: Path) -> None:
    experiments = [
        Experiment(method=method, network="fc:8,6", optimizer=optimizer, epochs=2, batch_size=32, seed=s, l2=0.01)
        for s in (0, 1)
    ]
    whole, first = Run(experiments, device="cpu"), Run(experiments, device="cpu")
    list(whole.events())
    list(first.events(steps=5))
    first.save(tmp_path / "run.pt")
    resumed = Run.load(tmp_path / "run.pt", device="cpu")
    list(resumed.events())

    def state(run: Run) -> list[Tensor]:
        return [tensor for tensors in run.learner.state().values() for tensor in tensors]

    assert all(map(torch.equal, state(whole), state(resumed)))
    start = Run(experiments, device="cpu").learner.feedback
    assert method not in LEARNED or not any(map(torch.equal, start, whole.learner.feedback))


def test_a_run_goes_from_rule_to_rule_and_back_with_what_the_optimizer_remembers() -> None:
    run = Run(Experiment(method="bp", network="fc:8,6", optimizer="adam", epochs=9, batch_size=32), device="cpu")
    learned = len(run.learner.parameters.tensors())
    for method in (*METHODS, "kp", "bp"):
        list(run.events(steps=1))
        kept = [[slot.clone() for slot in slots] for slots in run.learner.optimizer_state.slots[:learned]]
        run.set_method(method)
        assert all(
            map(torch.equal, itertools.chain(*kept), itertools.chain(*run.learner.optimizer_state.slots[:learned]))
        )
        rule = METHODS[method].transport
        extra = len(run.learner.feedback) if rule.learns_feedback else 0
        assert len(run.learner.optimizer_state.slots) == learned + extra
        assert run.learner.optimizer_state.step == run.step
    list(run.events(steps=1))
    assert all(tensor.isfinite().all() for tensor in run.learner.parameters.tensors())


@pytest.mark.parametrize("method", DRAWN)
def test_what_is_drawn_depends_on_seed_and_step_and_not_on_the_precision(method: str) -> None:
    like = torch.empty(2, 3, 4)
    draw = torch.rand if method == "brsf" else torch.randn

    def drawn(step: int, seeds: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        return StepContext(torch.zeros(1, 1), step, seeds).draw(draw, method, 0, like.to(dtype))

    assert torch.equal(drawn(1, (3, 4))[1], drawn(1, (4,))[0])
    assert torch.equal(drawn(1, (3,)).double(), drawn(1, (3,), torch.float64))
    assert not torch.equal(drawn(1, (3,)), drawn(2, (3,)))
