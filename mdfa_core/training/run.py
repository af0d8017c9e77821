"""A training run: mini-batches, measurements and evaluations in order, reported as events.

`Run.events` is the loop, `Run._train_step` is one mini-batch. The experiment becomes a learner in `assembly`, images
come from `batches`, the paper's rules for the outcome are in `outcome`, and files are written by `checkpoint`.

Axes: R replica, N example, C channel, H W space.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from torch import Tensor

from mdfa_core.base import devices
from mdfa_core.base.devices import cpu_by_default
from mdfa_core.base.errors import CheckpointError, InvalidValue, UnknownName
from mdfa_core.compute import choices, kernels
from mdfa_core.compute.stacked_conv import Product, noting
from mdfa_core.data import StackedSplits, TaskCache
from mdfa_core.learning.learner import Learner, Sums
from mdfa_core.learning.probes import Sample
from mdfa_core.learning.steps import StepRunner
from mdfa_core.nets.networks import Network
from mdfa_core.rules.methods import METHODS, Method
from mdfa_core.training import events
from mdfa_core.training.assembly import (
    build_learner,
    build_network,
    draw_feedback,
    load_tasks,
    shared_settings,
    shared_steps_per_epoch,
)
from mdfa_core.training.batches import Batches, evaluate
from mdfa_core.training.checkpoint import Checkpoint, damaged
from mdfa_core.training.clock import Clock, Every
from mdfa_core.training.events import Diverged, Evaluated, Event, Finished, Probed, Progress, Started
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.outcome import Outcomes
from mdfa_core.training.restoring import check_size, checked_state, not_finite
from mdfa_core.training.thread_count import ThreadCount

NUMERICS = 1
"""Version of the numerical results. Increase it if the same experiment gives other numbers than before: the store keeps
runs of different versions apart, and a cluster rejects workers of another version."""

_ROUND_SECONDS = 0.05  # after which the number of threads may change

_PROBE_SHARE = 0.2  # of the time, for probes every so many seconds: a whole probe costs as much as dozens of steps

_DAMAGE = (InvalidValue, UnknownName, KeyError, TypeError, ValueError, AttributeError)  # of an entry of a checkpoint


class Run:
    """One training run of a stack of replicas, from the first mini-batch to the final figures.

    Iterating over `events` trains. Leave the loop to pause, and call `events` again to continue. All random numbers are
    drawn from the experiments' seeds. On a CPU with a fixed number of threads, the same experiments give bit-identical
    results, and a replica's results are bit-identical to training it alone.

    Args:
        experiments: one experiment, or several that differ only in `VARYING`; one replica each.
        device: `auto`, `cpu`, `cuda`, `cuda:i` or `mps`.
        data_dir: a folder with the data sets; by default, missing data is downloaded to the user's cache.
        test: False removes the test images, so that the run cannot evaluate them. Use it to tune hyperparameters.
        tasks: a cache of tasks on this device, to share data between runs; overrides `data_dir`.
        threads: CPU threads, which can change the last bits of the numbers. By default, small networks train with one
            thread; large ones with at most PyTorch's number (see `thread_count`).

    Attributes:
        experiments: one per replica.
        tasks: the task of each replica.
        device: the device that trains.
        learner: the networks and their learning rule.
        step: the last mini-batch, from 1; 0 before the first.
        steps, steps_per_epoch: mini-batches of the whole run and of an epoch.
        started, finished: whether the first, or the last, event was made.
        convolutions: the algorithm of every product of a convolution that was computed for the whole stack, since the
            run was made or loaded; empty on a CPU.

    Raises:
        InvalidValue: there is no experiment, or the experiments do not fit into one stack; or compiled steps cannot
            train their network; or one of the environment variables MDFA_CHOICES, MDFA_GEMM and MDFA_GRAPH has an
            unknown value; or this machine has fewer cores than `threads`.
        GeometryError: the network does not fit the images.
        DataError: the data is missing or broken.
        DeviceError: this machine has no such device, or the device cannot compute in this precision.
        MissingPackage: the engine is `compiled`, but Numba is not installed.
    """

    @cpu_by_default
    def __init__(
        self,
        experiments: Experiment | Sequence[Experiment],
        *,
        device: str = "auto",
        data_dir: str | os.PathLike[str] | None = None,
        test: bool = True,
        tasks: TaskCache | None = None,
        threads: int | None = None,
    ) -> None:
        self.test = test
        self._thread_count = ThreadCount(threads)
        self.experiments = (experiments,) if isinstance(experiments, Experiment) else tuple(experiments)
        self._shared = shared_settings(self.experiments)
        self.device = devices.resolve(device)
        kernels.check_device(self._shared.precision, self.device)
        if self.device.type == "cpu" and self._shared.precision == "float32":
            kernels.uses_onednn()  # checks MDFA_GEMM, which small networks would never read
        choices.enabled()  # checks MDFA_CHOICES, which a CPU never reads
        self.tasks = load_tasks(self.experiments, tasks or TaskCache(data_dir, self.device), test=test)
        self.steps_per_epoch = shared_steps_per_epoch(self._shared, [len(task.train) for task in self.tasks])
        self.steps = self.steps_per_epoch * self._shared.epochs
        self.learner = build_learner(self.experiments, build_network(self._shared), self.device)

        self.step = 0
        self.started = self.finished = False
        self._stack = functools.cache(StackedSplits)  # for this run only: stacks may take GPU memory
        self._batches = Batches(self.experiments, self.tasks, self.steps_per_epoch, self._stack)
        self._sums = Sums.zeros(self.replicas, self.device)  # scores of all examples since the last report
        self._examples = 0  # the number of these examples
        self._steps = StepRunner(self.learner, self._sums, engine=self._shared.engine)
        self._outcomes = Outcomes(self.learner.parameters)
        self.convolutions: dict[Product, str] = {}
        self._pending: deque[Event] = deque()  # events that were made and not yet taken

    @property
    def replicas(self) -> int:
        """R, the number of networks trained side by side."""
        return len(self.experiments)

    @property
    def epoch(self) -> int:
        """The epoch of the last mini-batch, from 1; 0 before the first mini-batch."""
        return -(-self.step // self.steps_per_epoch)

    @property
    def network(self) -> Network:
        """The layers and shapes that all replicas have in common."""
        return self.learner.network

    @property
    def result(self) -> Finished | None:
        """The final figures, also if their event was taken long ago; None before the end of the run."""
        if not self.finished:
            return None
        return Finished(step=self.step, epoch=self.epoch, **self._outcomes.columns())

    @property
    def threads(self) -> int | None:
        """The number of CPU threads that was asked for; None: the run chooses."""
        return self._thread_count.forced

    @threads.setter
    def threads(self, count: int | None) -> None:
        if count != self.threads:
            self._thread_count = ThreadCount(count)

    # ----------------------------------------------------------------------------------------------------- training

    def events(
        self,
        *,
        progress: Every | None = None,
        probe: Every | None = None,
        sample: Sample | None = None,
        steps: int | None = None,
    ) -> Iterator[Event]:
        """Train, and yield what happens.

        Yields `Started`; then `Progress` and `Probed` as often as asked for, `Evaluated` after every epoch, and
        `Diverged` if a replica's loss becomes NaN or infinite; then `Finished`. No event is lost: events that were made
        but not taken come first when the run continues.

        Args:
            progress: how often to report running means; by default after every epoch.
            probe: how often to compare the rule's error signals with the true gradient; by default never. With seconds,
                probes come less often if they would take more than a fifth of the time.
            sample: the part of the network that a probe measures; by default all of it, which costs a large network as
                much time as dozens of mini-batches.
            steps: pause after so many mini-batches; by default train to the end.

        Raises:
            InvalidValue: `steps` is not a positive integer.
        """
        if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
            raise InvalidValue(f"steps is {steps!r}: give an integer of at least 1, or omit it")
        progress_clock, probe_clock = Clock(progress or Every(epochs=1)), Clock(probe, share=_PROBE_SHARE)
        if not self.started:
            self.started = True
            self._pending.append(self._first_event())
            if self._validates_before:
                with noting(self.convolutions):
                    self._validate_initial_weights()
        last = math.inf if steps is None else self.step + steps
        while True:
            while self._pending:
                yield self._pending.popleft()
            if self.finished or self.step >= last:
                return
            with self._thread_count.in_force(self.fixed_threads, lambda: self.step), noting(self.convolutions):
                until = time.monotonic() + _ROUND_SECONDS
                while True:
                    self._train_step(progress_clock, probe_clock, sample)
                    if self._pending or self.step >= last or time.monotonic() >= until:
                        break

    @property
    def fixed_threads(self) -> int | None:
        """The number of CPU threads to train with; None if the run measures whether one or all are faster."""
        return self._thread_count.fixed(
            self.learner, lambda: (self.batch(step) for step in sorted({1, self.steps_per_epoch}))
        )

    @cpu_by_default
    def _train_step(self, progress_clock: Clock, probe_clock: Clock, sample: Sample | None) -> None:
        """Train on one mini-batch, and make the events that are due after it."""
        self.step += 1
        epoch_ends = self.step % self.steps_per_epoch == 0
        run_ends = self.step == self.steps
        inputs, labels = self.batch(self.step)
        if probe_clock.due(self.step, self.epoch, epoch_ends=epoch_ends, run_ends=run_ends):
            began = time.monotonic()
            self._train_and_probe(inputs, labels, sample)
            probe_clock.took(time.monotonic() - began)
        else:
            self._steps.take(inputs, labels)
        self._examples += labels.shape[1]
        if self.device.type == "cpu":  # reading the loss makes other devices wait: there, only `_report` checks it
            self._check_losses(self._sums.loss.tolist())
        if progress_clock.due(self.step, self.epoch, epoch_ends=epoch_ends, run_ends=run_ends):
            self._report()
        if epoch_ends:
            self._evaluate()
        if run_ends or self._outcomes.all_diverged:
            self._finish()

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The mini-batch that step number `step` (from 1) trains on, as `Learner.observe` takes it.

        Returns:
            Inputs in [0, 1], [R or 1, N, …], and int64 labels, [R or 1, N]; R is 1 if all replicas share the images.
        """
        images, labels = self._batches.at(step)
        return self.network.inputs_from(images), labels

    def _train_and_probe(self, inputs: Tensor, labels: Tensor, sample: Sample | None) -> None:
        """One step of training that also compares the rule's error signals and updates with the true gradient."""
        batch = self.learner.observe(inputs, labels)
        measured = self.learner.measure(batch, sample)
        values = {field.name: getattr(measured, field.name) for field in fields(measured)}
        units = None if sample is None else sample.units
        self._pending.append(Probed(step=self.step, epoch=self.epoch, units=units, **values))
        self._steps.take_observed(batch, inputs, labels)

    def _check_losses(self, losses: Sequence[float]) -> None:
        """Report the replicas whose loss has become NaN or infinite."""
        for r in self._outcomes.note_losses(losses, self.step):
            seed, loss = self.experiments[r].seed, float(losses[r])
            self._pending.append(Diverged(step=self.step, epoch=self.epoch, replica=r, seed=seed, loss=loss))

    @cpu_by_default
    def _first_event(self) -> Started:
        return Started(
            step=0,
            epoch=0,
            replicas=self.replicas,
            seeds=tuple(e.seed for e in self.experiments),
            tasks=tuple(task.class_names for task in self.tasks),
            parameters=self.network.parameter_count,
            layers=tuple(layer.name for layer in self.network.layers),
            train_examples=tuple(len(task.train) for task in self.tasks),
            validation_examples=tuple(len(task.validation) for task in self.tasks),
            test_examples=tuple(len(task.test) for task in self.tasks),
            steps_per_epoch=self.steps_per_epoch,
            epochs=self._shared.epochs,
            device=str(self.device),
            threads=self.fixed_threads,
        )

    @cpu_by_default
    def _report(self) -> None:
        """Report the means over the examples since the last report, and start new ones."""
        loss = (self._sums.loss / self._examples).tolist()
        accuracy = [correct / self._examples for correct in self._sums.correct.tolist()]
        self._check_losses(loss)
        self._pending.append(
            Progress(
                step=self.step,
                epoch=self.epoch,
                loss=self._outcomes.or_nan(loss),
                accuracy=self._outcomes.or_nan(accuracy),
            )
        )
        self._sums.zero_()
        self._examples = 0

    @cpu_by_default
    def _evaluate(self) -> None:
        """Measure the current weights on all training and validation images."""
        parameters = self.learner.parameters
        train, validation = [task.train for task in self.tasks], [task.validation for task in self.tasks]
        train_loss, train_accuracy = evaluate(self.learner, parameters, train, self._stack)
        validation_loss, validation_accuracy = evaluate(self.learner, parameters, validation, self._stack)
        self._check_losses(train_loss)
        self._outcomes.note_training(train_accuracy)
        if not (self._validates_before and self.step == self.steps):  # no epoch follows the last one
            self._outcomes.note_validation(self.epoch, parameters, validation_accuracy)
        self._pending.append(
            Evaluated(
                step=self.step,
                epoch=self.epoch,
                train_loss=self._outcomes.or_nan(train_loss),
                train_accuracy=self._outcomes.or_nan(train_accuracy),
                validation_loss=self._outcomes.or_none(validation_loss),
                validation_accuracy=self._outcomes.or_none(validation_accuracy),
            )
        )

    @property
    def _validates_before(self) -> bool:
        return self._shared.evaluation == "released"

    @cpu_by_default
    def _validate_initial_weights(self) -> None:
        validation = [task.validation for task in self.tasks]
        _, accuracy = evaluate(self.learner, self.learner.parameters, validation, self._stack)
        self._outcomes.note_validation(0, self.learner.parameters, accuracy)

    @cpu_by_default
    def _finish(self) -> None:
        """Evaluate the test images with the weights chosen on validation images. Nothing else reads the test images."""
        _, accuracy = evaluate(self.learner, self._outcomes.best, [task.test for task in self.tasks], self._stack)
        self._outcomes.note_test(accuracy)
        self.finished = True
        assert self.result is not None
        self._pending.append(self.result)

    # ------------------------------------------------------------------------------------- changes between two steps

    @cpu_by_default
    def set_parameters(self, weights: Sequence[Any], biases: Sequence[Any] | None = None) -> None:
        """Replace the weights and biases.

        Args:
            weights: one array per layer, [R, *shape of the layer's weights]; without R, every replica gets a copy.
            biases: one array per layer, [R, outputs of the layer]; likewise. By default, all biases become 0.

        Raises:
            GeometryError: the arrays do not have the layers' shapes.
            InvalidValue: a weight is negative and the rule requires weights ≥ 0, or the arrays are for another number
                of replicas.
        """
        made = self.learner.method.parameters_from(self.network, weights, biases, floor=self.learner.floor)
        _copy_replicas(self.learner.parameters.tensors(), made.tensors())

    @cpu_by_default
    def set_feedback(self, feedback: Sequence[Any]) -> None:
        """Replace the feedback.

        Args:
            feedback: the arrays that the rule needs, each [R, *shape]; without R, every replica gets a copy.

        Raises:
            GeometryError: the arrays do not have the shapes that the rule needs.
            InvalidValue: a value is negative and the rule requires feedback ≥ 0, or the arrays are for another number
                of replicas.
        """
        _copy_replicas(self.learner.feedback, self.learner.method.feedback_from(self.network, feedback))

    @cpu_by_default
    def set_learning_rate(self, rate: float) -> None:
        """Change the learning rate of every replica from the next mini-batch on.

        Raises:
            InvalidValue: the rate is not a positive finite number.
        """
        self.learner.optimizer_state.rates = [self._shared.replace(learning_rate=rate).learning_rate] * self.replicas

    @cpu_by_default
    def set_method(self, method: str | Method) -> None:
        """Change the learning rule from the next mini-batch on. Weights, biases and the optimizer's slots stay.

        The new rule's feedback is drawn from each replica's seed, so a rule that was used before gets its initial
        feedback again. Weights that the new rule constrains are clipped at once. A run can be saved only if its rule
        is in `METHODS`.

        Args:
            method: a name in `METHODS`, or a rule.

        Raises:
            UnknownName: there is no rule of this name.
            InvalidValue: the rule cannot use the distribution of the run's feedback, or has no compiled steps.
        """
        rule = METHODS[method] if isinstance(method, str) else method
        before = self.learner
        learner = Learner(
            self.network,
            rule,
            before.optimizer_state.optimizer,
            before.parameters,
            draw_feedback(rule, self.experiments, self.network, self.device),
            learning_rates=before.optimizer_state.rates,
            l2=before.optimizer_state.l2,
            floor=before.floor,
            seeds=before.seeds,
            loss_scale=before.loss_scale,
        )
        learner.optimizer_state.continue_from(before.optimizer_state, len(before.parameters.tensors()))
        self._steps = StepRunner(learner, self._sums, engine=self._shared.engine)
        self.learner = learner
        for name, known in METHODS.items():
            if known is rule:
                self.experiments = tuple(e.replace(method=name) for e in self.experiments)
                self._shared = self.experiments[0]

    # ------------------------------------------------------------------------------------------- saving and loading

    @cpu_by_default
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint from which the run continues bit for bit.

        Raises:
            CheckpointError: the file cannot be written, or the run's rule is not in `METHODS`; a file that was there
                before is unchanged.
        """
        if METHODS.get(self._shared.method) is not self.learner.method:
            raise CheckpointError(
                f"the run learns by {self.learner.method.title}, which is not in the table METHODS: add it there, give "
                f"its name to set_method, and save again"
            )
        checksums = tuple(task.checksum for task in self.tasks)
        Checkpoint(experiments=self.experiments, checksums=checksums, test=self.test, state=self.state()).write(path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        data_dir: str | os.PathLike[str] | None = None,
        threads: int | None = None,
    ) -> Run:
        """Load the run that `save` wrote, ready to continue.

        Args:
            path: the checkpoint.
            device: the device to continue on, as for a new run.
            data_dir: the data sets, as for a new run.
            threads: CPU threads, as for a new run.

        Raises:
            CheckpointError: there is no such file, the file is damaged or no checkpoint, or the run was trained on
                other data.
        """
        saved = Checkpoint.read(path)
        try:
            check_size(saved.experiments, saved.state)
        except _DAMAGE as error:
            raise damaged(path, str(error)) from error
        run = cls(saved.experiments, device=device, data_dir=data_dir, test=saved.test, threads=threads)
        if tuple(task.checksum for task in run.tasks) != saved.checksums:
            raise CheckpointError(
                f"the run in {path} was trained on other data (the checksums differ): give the same data directory"
            )
        try:
            run.load_state(saved.state)
        except _DAMAGE as error:
            raise damaged(path, str(error)) from error
        return run

    def tensors(self) -> dict[str, tuple[Tensor, ...]]:
        """Every tensor that training changes, each [R, …], by the name of its entry in `state`."""
        return {
            **self.learner.state(),
            "best parameters": self._outcomes.best.tensors(),
            "loss sum": (self._sums.loss,),
            "correct": (self._sums.correct,),
        }

    @cpu_by_default
    def state(self) -> dict[str, Any]:
        """Everything that training changes, as numbers, tensors (not copied) and lines of JSON."""
        tensors = self.tensors()
        optimizer_state = self.learner.optimizer_state
        return {
            "step": self.step,
            "started": self.started,
            "finished": self.finished,
            "learning rates": optimizer_state.rates,
            "optimizer step": optimizer_state.step,
            **{name: list(group) for name, group in tensors.items()},
            "not finite": not_finite(list(tensors.values()), self.replicas),
            "outcomes": self._outcomes.state(),
            "examples": self._examples,
            "pending": [events.to_json(event) for event in self._pending],
        }

    @cpu_by_default
    def load_state(self, state: dict[str, Any]) -> None:
        """Copy what `state` returned into this run, which must have the same experiments.

        Raises:
            InvalidValue, UnknownName, KeyError, TypeError, ValueError: an entry is missing, or its value is impossible;
                the run is unchanged.
        """
        saved = checked_state(state, self)
        self.step, self.started, self.finished = saved.position.step, saved.position.started, saved.position.finished
        self._examples = saved.position.examples
        self.learner.optimizer_state.rates = saved.rates
        self.learner.optimizer_state.step = saved.position.optimizer_step
        for name, group in self.tensors().items():
            for tensor, value in zip(group, saved.tensors[name], strict=True):
                tensor.copy_(value)
        self._outcomes.load_state(saved.outcomes)
        self._pending = deque(saved.pending)


def train(
    experiments: Experiment | Sequence[Experiment],
    *,
    device: str = "auto",
    data_dir: str | os.PathLike[str] | None = None,
    test: bool = True,
    progress: Every | None = None,
    probe: Every | None = None,
    sample: Sample | None = None,
    threads: int | None = None,
) -> Iterator[Event]:
    """Train one experiment, or several as one stack, and yield events while training goes on. Leave the loop to stop.

    Example:
        >>> from mdfa_core import Experiment, train
        >>> *_, finished = train(Experiment(epochs=3))
        >>> finished.kind
        'finished'

    Args:
        experiments: one experiment; or a sequence of experiments that differ only in `mdfa_core.training.VARYING`.
        device: `auto`, `cpu`, `cuda`, `cuda:i` or `mps`.
        data_dir: a folder with the data sets; by default, missing data is downloaded to the user's cache.
        test: whether to evaluate the test set at the end.
        progress: how often to report running means over mini-batches; by default after every epoch.
        probe: how often to compare the rule's error signals with the true gradient; by default never.
        sample: the part of the network that a probe measures; by default all of it.
        threads: CPU threads; by default one for small networks, for large ones at most PyTorch's number.

    Yields:
        The events of `Run.events`: frozen dataclasses of plain numbers, see `mdfa_core.training.events`.

    Raises:
        InvalidValue, GeometryError, DataError, DeviceError, MissingPackage: as `Run`.
    """
    run = Run(experiments, device=device, data_dir=data_dir, test=test, threads=threads)
    return run.events(progress=progress, probe=probe, sample=sample)


def _copy_replicas(ours: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    """Copy stacks of R replicas, or of one for all; nothing is copied unless all stacks fit."""
    for tensor, value in zip(ours, given, strict=True):
        if value.shape[0] not in (1, tensor.shape[0]):
            raise InvalidValue(
                f"arrays for {value.shape[0]} replicas were given to a run of {tensor.shape[0]}: give as many, or one "
                f"for all"
            )
    for tensor, value in zip(ours, given, strict=True):
        tensor.copy_(value.expand_as(tensor))
