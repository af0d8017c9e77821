"""A training run as a generator of events: data order, schedule, evaluation, the paper's rules, saving, resuming.

Knows no consumer. Axes: R replica, N example.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdfa_core import devices, events, kernels
from mdfa_core.activations import ACTIVATIONS
from mdfa_core.data import Gathered, Split, Task, TaskCache
from mdfa_core.errors import CheckpointError, DeviceError, InvalidValue, UnknownName
from mdfa_core.events import Diverged, Evaluated, Event, Finished, Probed, Progress, Started
from mdfa_core.experiment import Experiment
from mdfa_core.initializers import parse as parse_initializer
from mdfa_core.kernels import precision_named
from mdfa_core.learner import Learner, Sums
from mdfa_core.methods import METHODS, Method
from mdfa_core.networks import Network, Parameters, parse_architecture
from mdfa_core.optimizers import OPTIMIZERS
from mdfa_core.probes import Sample
from mdfa_core.replay import Steps
from mdfa_core.rng import torch_generator

VARYING = frozenset(
    {"seed", "task_seed", "learning_rate", "l2", "forward_init", "feedback_init", "convention", "validation"}
)
"""Settings in which the replicas of one stack may differ."""

NUMERICS = 1
"""Raised whenever the same experiment gives other numbers than before: runs of another value are other runs."""

EVALUATION_CHUNK = 500  # images in one forward pass of an evaluation
_FORMAT = 2  # of checkpoints


@dataclass(frozen=True, kw_only=True)
class Every:
    """How often something is due: every so many `steps`, `epochs`, or `seconds`; exactly one is given.

    Steps and epochs are due at the same moments in every repetition of a run; seconds are not (the weights are the
    same either way). The last step of a run is always due, and with seconds the first one too.

    Raises:
        InvalidValue: none or several are given, or one is not positive.
    """

    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if len(given) != 1:
            raise InvalidValue(f"Every got {given or 'nothing'}: give exactly one of steps, epochs and seconds")
        ((name, value),) = given.items()
        kinds = (int, float) if name == "seconds" else (int,)
        if not isinstance(value, kinds) or isinstance(value, bool) or not value > 0 or not math.isfinite(value):
            raise InvalidValue(
                f"Every got {name}={value!r}: give a positive {'number' if name == 'seconds' else 'integer'}"
            )


class _Clock:
    """Says when an `Every` is due."""

    def __init__(self, every: Every | None) -> None:
        self.every = every
        self.last = -math.inf

    def due(self, step: int, epoch: int, *, epoch_ends: bool, run_ends: bool) -> bool:
        if self.every is None:
            return False
        if run_ends:
            return True
        if self.every.steps is not None:
            return step % self.every.steps == 0
        if self.every.epochs is not None:
            return epoch_ends and epoch % self.every.epochs == 0
        assert self.every.seconds is not None
        now = time.monotonic()
        if now - self.last < self.every.seconds:
            return False
        self.last = now
        return True


@dataclass
class _Outcome:
    """What one replica has reached."""

    best_train_accuracy: float | None = None
    best_validation_accuracy: float | None = None
    best_validation_epoch: int | None = None
    test_accuracy: float | None = None
    diverged_at: int | None = None


class Run:
    """One training run of a stack of replicas, from data to outcome.

    `events` does the work; leaving its loop pauses the run, calling it again goes on. Everything random is a function
    of the experiments' seeds: the same experiments give the same numbers, bit for bit on one CPU with one thread
    count, and a replica the same as it gives alone.

    Args:
        experiments: one experiment, or several that may differ only in `VARYING`; one replica each.
        device: `auto`, `cpu`, `cuda`, `cuda:i` or `mps`.
        data_dir: a folder with the data sets; None downloads what is missing to the user's cache.
        test: False leaves the test images out of the run for good: a search must not see them.
        tasks: a cache of tasks on this device, for many runs of the same tasks; goes before `data_dir`.

    Raises:
        InvalidValue: no experiment, or experiments of unequal shapes; or MDFA_GEMM or MDFA_GRAPH has no known word.
        GeometryError: the network does not fit the images.
        DataError: the data is missing or broken.
        DeviceError: the device is not there.
    """

    def __init__(
        self,
        experiments: Experiment | Sequence[Experiment],
        *,
        device: str = "auto",
        data_dir: str | os.PathLike[str] | None = None,
        test: bool = True,
        tasks: TaskCache | None = None,
    ) -> None:
        self.test = test
        self.experiments = (experiments,) if isinstance(experiments, Experiment) else tuple(experiments)
        shared = _shared_settings(self.experiments)
        self.device = devices.resolve(device)
        if self.device.type == "mps" and shared.precision == "float64":
            raise DeviceError("float64 was asked for, but Metal GPUs have none: use float32, or the device 'cpu'")
        if self.device.type == "cpu" and shared.precision == "float32":
            kernels.onednn_serves()  # a small net never asks, and would take any word in MDFA_GEMM
        cache = tasks or TaskCache(data_dir, self.device)
        loaded: dict[tuple[int, float], Task] = {}
        for experiment in self.experiments:
            key = (experiment.task, experiment.validation)
            if key not in loaded:
                task = cache.load(shared.data, **experiment.task_settings)
                loaded[key] = task if test else task.sealed()
        self.tasks = tuple(loaded[(e.task, e.validation)] for e in self.experiments)
        self.steps_per_epoch = self._steps_per_epoch(shared)
        self.steps = self.steps_per_epoch * shared.epochs
        self.step = 0
        self.started = self.finished = False
        self.learner = self._learner(shared)
        self._shared = shared
        self._sums = Sums.zeros(self.replicas, self.device)
        self._steps = Steps(self.learner, self._sums)
        self._examples = 0
        self._outcomes = [_Outcome() for _ in self.experiments]
        self._best = self.learner.parameters.clone()
        self._pending: deque[Event] = deque()
        self._gathered: dict[tuple[int, ...], Gathered] = {}
        self._order: tuple[Tensor, ...] = ()
        self._order_epoch = 0
        self._one_batch = len({(id(task), e.seed) for task, e in zip(self.tasks, self.experiments, strict=True)}) == 1

    # ------------------------------------------------------------------------------------------------- what it is

    @property
    def replicas(self) -> int:
        """Nets trained side by side."""
        return len(self.experiments)

    @property
    def epoch(self) -> int:
        """The epoch the last step belonged to, from 1; 0 before the first step."""
        return -(-self.step // self.steps_per_epoch)

    @property
    def network(self) -> Network:
        """The shape of the nets."""
        return self.learner.network

    def set_parameters(self, weights: Sequence[Any], biases: Sequence[Any] | None = None) -> None:
        """Give the weights and biases from arrays, one per layer; without a replica axis they go to every replica.

        Raises:
            GeometryError: a shape is not its layer's.
            InvalidValue: a weight the method holds to ≥ 0 is negative.
        """
        made = self.learner.method.parameters_from(self.network, weights, biases, floor=self.learner.floor)
        _copy_replicas(self.learner.parameters.tensors(), made.tensors())

    def set_feedback(self, feedback: Sequence[Any]) -> None:
        """Give the feedback from arrays, one per hidden layer; without a replica axis it goes to every replica.

        Raises:
            GeometryError: a shape is not the one the method needs.
            InvalidValue: the method holds feedback to ≥ 0 and a value is negative.
        """
        _copy_replicas(self.learner.feedback, self.learner.method.feedback_from(self.network, feedback))

    def set_learning_rate(self, rate: float) -> None:
        """Change every replica's learning rate from the next step on.

        Raises:
            InvalidValue: it is not a positive finite number.
        """
        self.learner.descent.rates = [self._shared.replace(learning_rate=rate).learning_rate] * self.replicas

    def set_method(self, method: str | Method) -> None:
        """Learn by another rule from the next step on; weights, biases and what the optimizer remembers stay.

        The feedback the rule needs is drawn from every replica's seed, so that a rule that comes back finds its own
        again (where feedback learns: as it started); weights it constrains are clipped at once. A rule from `METHODS`
        is saved with the run, any other is not.

        Raises:
            UnknownName: there is no rule of this name.
            InvalidValue: its feedback cannot be drawn from the run's distribution.
        """
        rule = METHODS[method] if isinstance(method, str) else method
        before = self.learner
        self.learner = Learner(
            self.network,
            rule,
            before.descent.optimizer,
            before.parameters,
            self._feedback(rule, self.network),
            learning_rates=before.descent.rates,
            l2=before.descent.l2,
            floor=before.floor,
            seeds=before.seeds,
        )
        self.learner.descent.goes_on(before.descent, len(before.parameters.tensors()))
        self._steps = Steps(self.learner, self._sums)
        for name, known in METHODS.items():
            if known is rule:
                self.experiments = tuple(e.replace(method=name) for e in self.experiments)
                self._shared = self.experiments[0]

    # ---------------------------------------------------------------------------------------------- what it does

    def events(
        self,
        *,
        progress: Every | None = None,
        probe: Every | None = None,
        sample: Sample | None = None,
        steps: int | None = None,
    ) -> Iterator[Event]:
        """Train, and say what happens.

        Yields `Started`, then `Progress` and `Probed` as often as asked for, `Evaluated` after every epoch, `Diverged`
        when a replica's loss is no number any more, `Finished` at the end. An event is never lost: what was not taken
        comes first when the run goes on.

        Args:
            progress: how often to report running means; by default after every epoch.
            probe: how often to compare the method's errors with the true gradient; by default never.
            sample: the part of the net a probe looks at; by default all of it, which costs a large net many steps.
            steps: pause after this many mini-batches.
        """
        if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
            raise InvalidValue(
                f"a run of {steps!r} steps was asked for: give an integer of at least 1, or leave it out"
            )
        progress_clock, probe_clock = _Clock(progress or Every(epochs=1)), _Clock(probe)
        if not self.started:
            self.started = True
            self._pending.append(self._start())
        last = math.inf if steps is None else self.step + steps
        while True:
            while self._pending:
                yield self._pending.popleft()
            if self.finished or self.step >= last:
                return
            self._advance(progress_clock, probe_clock, sample)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs [R or 1, N, …] and labels [R or 1, N] of mini-batch `step` (from 1)."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        if self._order_epoch != epoch + 1:
            self._order = tuple(
                torch.randperm(len(task.train), generator=torch_generator(e.seed, "order", epoch)).to(self.device)
                for task, e in zip(self.tasks, self.experiments, strict=True)
            )
            self._order_epoch = epoch + 1
        size = self._shared.batch_size
        rows = range(1 if self._one_batch else self.replicas)
        index = torch.stack([self._order[r][place * size : (place + 1) * size] for r in rows])
        images, labels = self._images([self.tasks[r].train for r in rows]).at(index)
        return self.network.inputs_from(images), labels

    def _advance(self, progress_clock: _Clock, probe_clock: _Clock, sample: Sample | None) -> None:
        """One mini-batch, and every event that comes of it."""
        self.step += 1
        epoch_ends = self.step % self.steps_per_epoch == 0
        run_ends = self.step == self.steps
        inputs, labels = self.batch(self.step)
        if probe_clock.due(self.step, self.epoch, epoch_ends=epoch_ends, run_ends=run_ends):
            batch = self.learner.observe(inputs, labels)
            measured = self.learner.measure(batch, sample)
            values = {field.name: getattr(measured, field.name) for field in fields(measured)}
            units = None if sample is None else sample.units
            self._pending.append(Probed(step=self.step, epoch=self.epoch, units=units, **values))
            self.learner.learn(batch)
            self._sums.add_(self.learner.score(batch, labels), labels.shape[1])
        else:
            self._steps.take(inputs, labels)
        self._examples += labels.shape[1]
        if self.device.type == "cpu":  # elsewhere a look at the loss would wait for the device: only with a report
            self._note_divergence(self._sums.loss.tolist())
        if progress_clock.due(self.step, self.epoch, epoch_ends=epoch_ends, run_ends=run_ends):
            self._report()
        if epoch_ends:
            self._evaluate()
        if run_ends or all(outcome.diverged_at is not None for outcome in self._outcomes):
            self._finish()

    def _start(self) -> Event:
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
        )

    def _report(self) -> None:
        loss = (self._sums.loss / self._examples).tolist()
        accuracy = [correct / self._examples for correct in self._sums.correct.tolist()]
        self._note_divergence(loss)
        self._pending.append(
            Progress(step=self.step, epoch=self.epoch, loss=self._of_living(loss), accuracy=self._of_living(accuracy))
        )
        self._sums.zero_()
        self._examples = 0

    def _evaluate(self) -> None:
        parameters = self.learner.parameters
        train_loss, train_accuracy = self._measured(parameters, lambda task: task.train)
        validation_loss, validation_accuracy = self._measured(parameters, lambda task: task.validation)
        self._note_divergence(train_loss)
        for r, outcome in enumerate(self._outcomes):
            if outcome.diverged_at is not None:
                continue
            outcome.best_train_accuracy = max(outcome.best_train_accuracy or 0.0, train_accuracy[r])
            has_validation = len(self.tasks[r].validation) > 0
            best = outcome.best_validation_accuracy
            if not has_validation or best is None or validation_accuracy[r] > best:
                outcome.best_validation_epoch = self.epoch
                outcome.best_validation_accuracy = validation_accuracy[r] if has_validation else None
                for kept, now in zip(self._best.tensors(), parameters.tensors(), strict=True):
                    kept[r].copy_(now[r])
        self._pending.append(
            Evaluated(
                step=self.step,
                epoch=self.epoch,
                train_loss=self._of_living(train_loss),
                train_accuracy=self._of_living(train_accuracy),
                validation_loss=self._known(validation_loss),
                validation_accuracy=self._known(validation_accuracy),
            )
        )

    def _finish(self) -> None:
        """The only place that reads test images, once, with the weights chosen on validation."""
        _, accuracy = self._measured(self._best, lambda task: task.test)
        for r, outcome in enumerate(self._outcomes):
            if outcome.best_validation_epoch is not None and len(self.tasks[r].test) > 0:
                outcome.test_accuracy = accuracy[r]
        columns = {f.name: tuple(getattr(o, f.name) for o in self._outcomes) for f in fields(_Outcome)}
        self._pending.append(Finished(step=self.step, epoch=self.epoch, **columns))
        self.finished = True

    def _note_divergence(self, loss: Sequence[float]) -> None:
        for r, outcome in enumerate(self._outcomes):
            if outcome.diverged_at is None and not math.isfinite(loss[r]):
                outcome.diverged_at = self.step
                self._pending.append(
                    Diverged(
                        step=self.step, epoch=self.epoch, replica=r, seed=self.experiments[r].seed, loss=float(loss[r])
                    )
                )

    def _of_living(self, values: Sequence[float]) -> tuple[float, ...]:
        return tuple(v if o.diverged_at is None else math.nan for v, o in zip(values, self._outcomes, strict=True))

    def _known(self, values: Sequence[float]) -> tuple[float | None, ...]:
        return tuple(None if math.isnan(v) else v for v in self._of_living(values))

    def _measured(self, parameters: Parameters, part: Callable[[Task], Split]) -> tuple[list[float], list[float]]:
        """Loss and accuracy of each replica on one part of its task; NaN on an empty one."""
        splits = [part(task) for task in self.tasks]
        if len({len(split) for split in splits}) == 1:
            return self._pass(parameters, splits)
        alone = [self._pass(parameters.replica(r), [split]) for r, split in enumerate(splits)]
        return [loss for (loss,), _ in alone], [accuracy for _, (accuracy,) in alone]

    def _pass(self, parameters: Parameters, splits: Sequence[Split]) -> tuple[list[float], list[float]]:
        examples = len(splits[0])
        if examples == 0:
            return [math.nan] * len(splits), [math.nan] * len(splits)
        if all(split is splits[0] for split in splits):
            splits = splits[:1]
        gathered = self._images(splits)
        sums = Sums.zeros(parameters.weights[0].shape[0], self.device)
        for start in range(0, examples, EVALUATION_CHUNK):
            index = torch.arange(start, min(start + EVALUATION_CHUNK, examples), device=self.device)
            images, labels = gathered.at(index.expand(len(splits), -1))
            inputs = self.network.inputs_from(images)
            sums.add_(self.learner.evaluate(parameters, inputs, labels), len(index))
        return (sums.loss / examples).tolist(), [correct / examples for correct in sums.correct.tolist()]

    def _images(self, splits: Sequence[Split]) -> Gathered:
        key = tuple(map(id, splits))  # the tasks keep them
        if key not in self._gathered:
            self._gathered[key] = Gathered(splits)
        return self._gathered[key]

    # ------------------------------------------------------------------------------------------------- how it is made

    def _steps_per_epoch(self, shared: Experiment) -> int:
        """Mini-batches of one epoch, equal for all replicas.

        Raises:
            InvalidValue: they are not, or there is none.
        """
        sizes = [len(task.train) for task in self.tasks]
        if shared.drop_last:
            counts = [size // shared.batch_size for size in sizes]
            if min(counts) == 0:
                raise InvalidValue(
                    f"the batch size is {shared.batch_size}, but a task has only {min(sizes)} training images: give a "
                    f"smaller batch size, or keep incomplete batches with drop last off"
                )
        else:
            counts = [-(-size // shared.batch_size) for size in sizes]
        unequal = len(set(counts)) > 1 or (not shared.drop_last and len(set(sizes)) > 1)
        if unequal:
            raise InvalidValue(
                f"the replicas' tasks have {', '.join(map(str, sizes))} training images, which gives them unequal "
                f"mini-batches: run them as separate stacks"
            )
        return counts[0]

    def _learner(self, shared: Experiment) -> Learner:
        network = Network(
            parse_architecture(shared.network),
            self.tasks[0].input_shape,
            shared.outputs,
            ACTIVATIONS[shared.activation],
            precision_named(shared.precision),
        )
        method = METHODS[shared.method]
        drawn = [
            method.initial_parameters(
                network, parse_initializer(e.forward_init), seed=e.seed, convention=e.convention, floor=e.floor
            )
            for e in self.experiments
        ]
        return Learner(
            network,
            method,
            OPTIMIZERS[shared.optimizer],
            Parameters.stack(drawn, self.device),
            self._feedback(method, network),
            learning_rates=[e.learning_rate for e in self.experiments],
            l2=[e.l2 for e in self.experiments],
            floor=shared.floor,
            seeds=[e.seed for e in self.experiments],
        )

    def _feedback(self, method: Method, network: Network) -> list[Tensor]:
        """The feedback of every replica as stacks, one per hidden layer."""
        drawn = [
            method.initial_feedback(network, parse_initializer(e.feedback_init), seed=e.seed, convention=e.convention)
            for e in self.experiments
        ]
        return [kernels.stack([b[0].to(self.device) for b in column]) for column in zip(*drawn, strict=True)]

    # ------------------------------------------------------------------------------------------- saving and resuming

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything the run needs to go on bit for bit; a file already there is replaced only by a whole one.

        Raises:
            CheckpointError: it cannot be written, or its method is in no table; what was there before is untouched.
        """
        learner = self.learner
        if METHODS.get(self._shared.method) is not learner.method:
            raise CheckpointError(
                f"the run learns by {learner.method.title}, which is not in the table METHODS: add it there, give its "
                f"name to set_method, and save again"
            )
        content = {
            "format": _FORMAT,
            "experiments": [e.to_json() for e in self.experiments],
            "data checksums": [task.checksum for task in self.tasks],
            "test": self.test,
            "step": self.step,
            "started": self.started,
            "finished": self.finished,
            "learning rates": learner.descent.rates,
            "parameters": list(learner.parameters.tensors()),
            "feedback": list(learner.feedback),
            "optimizer step": learner.descent.step,
            "optimizer slots": [list(slots) for slots in learner.descent.slots],
            "best parameters": list(self._best.tensors()),
            "outcomes": [asdict(outcome) for outcome in self._outcomes],
            "loss sum": self._sums.loss,
            "correct": self._sums.correct,
            "examples": self._examples,
            "pending": [events.to_json(event) for event in self._pending],
        }
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with temporary.open("xb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            kept = "the previous checkpoint is untouched" if target.exists() else "nothing was written"
            raise CheckpointError(
                f"the checkpoint {target} cannot be written ({reason}): {kept}; free some space or choose another path"
            ) from error
        finally:  # gone already, unless something went wrong or an interrupt came
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        data_dir: str | os.PathLike[str] | None = None,
    ) -> Run:
        """The run that `save` wrote, ready to go on.

        Raises:
            CheckpointError: there is no such file, it is no checkpoint, or the data is not what it was trained on.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise CheckpointError(f"there is no checkpoint {path}: give the path of one that was saved") from None
        except Exception as error:  # torch.load raises what its reader meets: zip, pickle, key, type and other errors
            raise CheckpointError(
                f"{path} cannot be read as a checkpoint ({type(error).__name__}): it is damaged or something else"
            ) from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise CheckpointError(f"{path} is no checkpoint of format {_FORMAT}: save the run again with this version")
        damaged = f"the checkpoint {path} lacks a part or holds a damaged one: take an earlier checkpoint"
        try:
            experiments = [Experiment.from_json(text) for text in content["experiments"]]
            checksums, test = list(content["data checksums"]), bool(content["test"])
        except (InvalidValue, UnknownName, KeyError, TypeError) as error:
            raise CheckpointError(f"{damaged} ({error})") from error
        if not experiments or len(checksums) != len(experiments):
            raise CheckpointError(damaged)
        run = cls(experiments, device=device, data_dir=data_dir, test=test)
        if [task.checksum for task in run.tasks] != checksums:
            raise CheckpointError(
                f"the data is not the data {path} was trained on (other checksum): point to the same data directory"
            )
        try:
            run._restore(content)
        except (InvalidValue, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{damaged} ({type(error).__name__})") from error
        return run

    def _restore(self, content: dict[str, Any]) -> None:
        learner = self.learner
        self.step, self.started, self.finished = content["step"], content["started"], content["finished"]
        learner.descent.rates = list(content["learning rates"])
        learner.descent.step = content["optimizer step"]
        pairs = [
            *zip(learner.parameters.tensors(), content["parameters"], strict=True),
            *zip(learner.feedback, content["feedback"], strict=True),
            *zip(self._best.tensors(), content["best parameters"], strict=True),
            (self._sums.loss, content["loss sum"]),
            (self._sums.correct, content["correct"]),
        ]
        for ours, saved in zip(learner.descent.slots, content["optimizer slots"], strict=True):
            pairs.extend(zip(ours, saved, strict=True))
        for tensor, value in pairs:
            tensor.copy_(value)
        self._examples = content["examples"]
        self._outcomes = [_Outcome(**outcome) for outcome in content["outcomes"]]
        if not len(self._outcomes) == len(learner.descent.rates) == self.replicas:
            raise ValueError("outcomes or rates of another number of replicas")
        self._pending = deque(events.from_dict(json.loads(line)) for line in content["pending"])


def train(
    experiments: Experiment | Sequence[Experiment],
    *,
    device: str = "auto",
    data_dir: str | os.PathLike[str] | None = None,
    test: bool = True,
    progress: Every | None = None,
    probe: Every | None = None,
    sample: Sample | None = None,
) -> Iterator[Event]:
    """Train from the beginning to the end and yield what happens: `Run(…).events(…)`, see there.

    Example:
        >>> from mdfa_core import Experiment, train
        >>> *_, finished = train(Experiment(epochs=3))
        >>> finished.kind
        'finished'
    """
    run = Run(experiments, device=device, data_dir=data_dir, test=test)
    return run.events(progress=progress, probe=probe, sample=sample)


def _shared_settings(experiments: Sequence[Experiment]) -> Experiment:
    """The first experiment, for the settings all have in common.

    Raises:
        InvalidValue: there is none, or two differ in a setting that replicas of a stack share.
    """
    if not experiments:
        raise InvalidValue("a run of no experiments was asked for: give at least one")
    first = experiments[0].to_dict()
    for experiment in experiments[1:]:
        for name, value in experiment.to_dict().items():
            if name not in VARYING and value != first[name]:
                raise InvalidValue(
                    f"the replicas of one stack differ in {name.replace('_', ' ')} ({first[name]!r} and {value!r}): "
                    f"only {', '.join(sorted(VARYING))} may differ; run them as separate stacks"
                )
    return experiments[0]


def _copy_replicas(ours: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    """Copy stacks of R replicas, or of one for all; nothing is copied unless everything fits."""
    for tensor, value in zip(ours, given, strict=True):
        if value.shape[0] not in (1, tensor.shape[0]):
            raise InvalidValue(
                f"arrays for {value.shape[0]} replicas were given to a run of {tensor.shape[0]}: give as many, or one "
                f"for all"
            )
    for tensor, value in zip(ours, given, strict=True):
        tensor.copy_(value.expand_as(tensor))
