"""Print the small tables of docs/results/neighbours.md.

They show when KP and CHL are BP, sign-only optimizers, and the cost of a step.
"""

import math
import statistics
import time
from collections.abc import Iterable

import torch

from mdfa_core import ACTIVATIONS, METHODS, NETWORKS, Every, Experiment, Learner, Network, Run, train
from mdfa_core.learning import probes
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets.initializers import ScaledUniform
from mdfa_core.rules import ContrastiveHebbian
from mdfa_core.rules.methods import Method

torch.set_num_threads(1)
SEEDS = (0, 1, 2, 3, 4)
BASE_FORWARD = ScaledUniform(1.0)
BASE = Experiment(network="digits-fc", forward_init="uniform:1", feedback_init="uniform:1", learning_rate=0.1)


def spread(values: Iterable[float], digits: int = 1) -> str:
    found = list(values)
    return f"{statistics.mean(found):.{digits}f} ± {statistics.stdev(found):.{digits}f}"


def print_table(head: list[str], rows: list[list[str]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print("|", " | ".join(row), "|")
    print(flush=True)


def of(method: str, **settings: object) -> list[Experiment]:
    return [BASE.replace(method=method, seed=seed, **settings) for seed in SEEDS]


rows = []
for l2 in (0.0, 1e-3, 1e-2, 1e-1):
    angles: dict[int, tuple[float | None, ...]] = {}
    for event in train(of("kp", l2=l2, epochs=100), device="cpu", probe=Every(epochs=10)):
        if event.kind == "probed":
            angles[event.epoch] = event.angle_overall
        if event.kind == "finished":
            accuracy = event.test_accuracy
    kept = [[a for a in angles[epoch] if a is not None] for epoch in (10, 50, 100)]
    rows.append([f"{l2:g}", *map(spread, kept), spread(100 * a for a in accuracy if a is not None)])
print_table(["l2", "angle to BP, epoch 10", "epoch 50", "epoch 100", "test, %"], rows)

rows = []
for drawn_as, forward in (
    *(("chl", forward) for forward in ("uniform:1", "normal:0.1", "normal:0.2", "normal:0.4")),
    ("mdfa", "normal:0.1"),
):
    first = Run(BASE.replace(method=drawn_as, forward_init=forward), device="cpu")
    norm = torch.linalg.matrix_norm(first.learner.parameters.weights[1][0], 2).item()
    row = [f"{forward}{', a mono-net' * (drawn_as == 'mdfa')} (‖W₂‖ = {norm:.1f})"]
    for gamma in (0.001, 0.01, 0.1):
        found: list[float | None] = []
        for seed in SEEDS:
            run = Run(BASE.replace(method=drawn_as, forward_init=forward, seed=seed), device="cpu")
            own = Method(title="CHL", description="", transport=ContrastiveHebbian(gamma=gamma))
            twin = Learner(run.network, own, OPTIMIZERS["sgd"], run.learner.parameters, learning_rates=[0.1])
            batch = twin.observe(*run.batch(1))
            (angle,) = probes.measure(run.network, twin.parameters, batch.forward_pass, batch.signals).angle_overall
            found.append(angle)
        known = [angle for angle in found if angle is not None]
        row.append(spread(known, 2) if len(known) == len(SEEDS) else f"no number in {len(SEEDS) - len(known)} of 5")
    rows.append(row)
print_table(["forward weights", "γ = 0.001", "γ = 0.01", "γ = 0.1"], rows)

rows = []
for method in ("bp", "mdfa"):
    forward = "uniform:1" if method == "bp" else "normal:0.1"
    for optimizer, rate in (("sgd", 0.1), ("signsgd", 1e-3), ("rprop", 1e-3)):
        row = [METHODS[method].title, f"{OPTIMIZERS[optimizer].title}, {rate:g}"]
        for size in (16, 64, 1000):  # a task has fewer than 1000 training images: all of them
            scores = []
            for experiment in of(method, forward_init=forward, optimizer=optimizer, learning_rate=rate, epochs=100):
                run = Run(experiment.replace(batch_size=size, drop_last=False), device="cpu")
                *_, finished = run.events()
                scores.append(100 * (finished.best_train_accuracy[0] or 0.0))
            row.append(spread(scores))
        rows.append(row)
print_table(["rule", "optimizer, rate", "16 a batch", "64 a batch", "all (about 240)"], rows)

rows = []
for network, image in (("digits-fc", 64), ("cifar-fc", 3072)):
    steps = {}
    for method in METHODS:
        rule = METHODS[method]
        net = Network(NETWORKS[network], (image,), 1, ACTIVATIONS["tanh"])
        weights = rule.initial_parameters(net, BASE_FORWARD, seed=0, convention="paper", floor=1e-6)
        fed = rule.initial_feedback(net, BASE_FORWARD, seed=0, convention="paper")
        learner = Learner(net, rule, OPTIMIZERS["sgd"], weights, fed, learning_rates=[0.01])
        x, y = torch.rand(1, 64, image, generator=torch.Generator().manual_seed(0)), torch.arange(64).unsqueeze(0) % 2
        learner.step(x, y)
        count = 100 if network == "digits-fc" else 10
        best = math.inf
        for _ in range(5):  # processor time: what else the machine does counts little
            start = time.process_time()
            for _ in range(count):
                learner.step(x, y)
            best = min(best, (time.process_time() - start) / count)
        steps[method] = best
    rows.append([network, *(f"{steps[method] / steps['bp']:.2f}" for method in METHODS)])
print_table(["processor time of a step ÷ BP's", *(METHODS[method].title for method in METHODS)], rows)
