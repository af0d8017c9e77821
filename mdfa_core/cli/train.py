"""`mdfa train`: one run, or several replicas of it, with a progress bar and an outcome for every seed."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.exceptions import Exit

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.text import shown
from mdfa_core.cli.options import INTERRUPTED, data_dir_option, device_option
from mdfa_core.cli.output import mean, percent, refuse_unwritable
from mdfa_core.cli.settings import SettingsCommand, config_option, configured

if TYPE_CHECKING:
    from mdfa_core.training import Experiment, Run
    from mdfa_core.training.events import Event, Finished, Probed, Started

_MOST_REPLICAS = 10_000
_SAVE_SECONDS = 30.0  # between two checkpoints of a running run


@click.command(cls=SettingsCommand)
@config_option()
@click.option(
    "--replicas",
    type=int,
    default=1,
    show_default=True,
    panel="Training",
    help="Nets to train side by side, with the seeds --seed, --seed + 1, …",
)
@device_option()
@click.option("--threads", type=int, panel="Training", help="CPU threads  [default: by the network's size]")
@data_dir_option()
@click.option(
    "--probe",
    type=float,
    metavar="SECONDS",
    panel="Output",
    help="Compare error signals with the true gradient this often, for at most a fifth of the time, and report the "
    "sign agreement at the end",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    panel="Output",
    help="Checkpoint file, written every 30 seconds, on Ctrl-C and at the end",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    panel="Training",
    help="Continue from this checkpoint, which holds all settings",
)
@click.option(
    "--json", "as_json", is_flag=True, panel="Output", help="Print every event as a line of JSON; no progress bar"
)
def train(
    config: Path | None,
    replicas: int,
    device: str,
    threads: int | None,
    data_dir: str | None,
    probe: float | None,
    save: Path | None,
    resume: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a network by one learning rule and report its accuracies.

    The test accuracy is that of the epoch with the best validation accuracy, as in the paper.

    \b
    Examples:
      mdfa train
      mdfa train --method fa --outputs 10 --probe 0.5
      mdfa train --data cifar100 --network cifar-fc --epochs 200 --save run.pt
    """  # noqa: D301 - click reads the \b
    from mdfa_core.runs.capacity import refuse_too_large
    from mdfa_core.training import Every, Run
    from mdfa_core.training.checkpoint import refuse_special

    given = {name: value for name, value in settings.items() if value is not None}
    if resume is not None and resume.is_dir():
        raise InvalidValue(f"{resume} is a folder: give the checkpoint file, such as {resume / 'run.pt'}")
    if save is not None:
        refuse_unwritable(save, "run.pt")
        refuse_special(save)
    if resume is not None:
        if given or config is not None or replicas != 1:
            raise InvalidValue("--resume takes every setting from the checkpoint: leave the others out")
        run = Run.load(resume, device=device, data_dir=data_dir, threads=threads)
        save = save or resume
    else:
        experiments = _experiments(config, given, replicas)
        refuse_too_large(experiments, device=device, probed=probe is not None)
        run = Run(experiments, device=device, data_dir=data_dir, threads=threads)
    if run.finished:
        click.echo(f"mdfa: the run in {resume} ended at step {run.step}: nothing is left to train", err=True)
    # Events often enough to notice Ctrl-C; seconds only move the reports, never the numbers learnt.
    stream = run.events(progress=Every(seconds=0.2), probe=None if probe is None else Every(seconds=probe))
    show = _JsonLines() if as_json else _Terminal(run)
    result = run.result
    saved = time.monotonic()
    with _interruptible() as interrupted:
        for event in stream:
            show(event)
            result = None  # it is among the events
            if interrupted():
                break
            if save is not None and time.monotonic() - saved > _SAVE_SECONDS:
                run.save(save)
                saved = time.monotonic()
        if save is not None:
            run.save(save)
    if result is not None:
        show(result)
    show.close()
    if interrupted():
        stopped = f"stopped at step {run.step} of {run.steps}"
        same = {"--device": device if device != "auto" else None, "--threads": threads, "--data-dir": data_dir}
        words = ["--resume", save, *(word for option in same.items() if option[1] for word in option)]
        again = shlex.join(["mdfa", "train", *map(str, words)])
        hint = f"continue with: {again}" if save else "give --save FILE to be able to continue later"
        click.echo(f"mdfa: {stopped}; {hint}", err=True)
        raise Exit(INTERRUPTED)


def _experiments(config: Path | None, given: dict[str, Any], replicas: int) -> list[Experiment]:
    """The experiments of all replicas: the defaults, then the file's settings, then those of the command line."""
    if not 1 <= replicas <= _MOST_REPLICAS:
        raise InvalidValue(f"replicas is {shown(replicas)}: give an integer from 1 to {_MOST_REPLICAS:,}")
    first = configured(config).replace(**given)
    return [first.replace(seed=first.seed + r) for r in range(replicas)]


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Notice the first Ctrl-C or SIGTERM between two events, so nothing is left half done; the second one kills.

    SIGTERM is the signal with which batch systems and containers announce that they end a program.
    """
    stopped = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _JsonLines:
    """Prints every event as one line of JSON."""

    def __call__(self, event: Event) -> None:
        from mdfa_core.training import events

        click.echo(events.to_json(event))

    def close(self) -> None:
        """Do nothing: no bar was opened."""


class _Terminal:
    """A progress bar on standard error during the run, an outcome for every seed on standard output at its end."""

    def __init__(self, run: Run) -> None:
        from tqdm import tqdm

        self.run = run
        self.bar = tqdm(total=run.steps, initial=run.step, unit="step", dynamic_ncols=True, leave=False, disable=None)
        self.shown: dict[str, str] = {}
        self.probed: Probed | None = None

    def __call__(self, event: Event) -> None:
        from mdfa_core.training.events import Diverged, Evaluated, Finished, Probed, Progress, Started

        self.bar.update(event.step - self.bar.n)
        if isinstance(event, Started):
            self._say(_heading(self.run, event))
        elif isinstance(event, Progress):
            self.shown["loss"], self.shown["acc"] = mean(event.loss, "{:.3f}"), mean(event.accuracy, "{:.1%}")
        elif isinstance(event, Evaluated):
            self.shown["val"] = mean(event.validation_accuracy, "{:.1%}")
        elif isinstance(event, Probed):
            self.probed = event
            self.shown["signs"] = mean(event.unit.overall, "{:.3f}")
        elif isinstance(event, Diverged):
            self._say(
                f"seed {event.seed} diverged at step {event.step} (loss {event.loss}): try a smaller learning rate"
            )
        elif isinstance(event, Finished):
            self.bar.close()
            for r, experiment in enumerate(self.run.experiments):
                click.echo(_outcome(experiment, event, self.probed, r))
        self.bar.set_postfix(self.shown, refresh=False)

    def _say(self, line: str) -> None:
        with self.bar.external_write_mode():
            click.echo(line)

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()


def _heading(run: Run, event: Started) -> str:
    first = run.experiments[0]
    classes = " / ".join(event.tasks[0][:3]) + (" / …" if len(event.tasks[0]) > 3 else "")
    return (
        f"{run.learner.method.title} on {first.data} ({classes}; {event.train_examples[0]} training images), "
        f"{first.network}, {first.activation}, {event.parameters:,} parameters, {first.optimizer} at "
        f"{first.learning_rate:g}, {event.replicas} replica{'s' * (event.replicas > 1)} on {_place(event)}"
    )


def _place(event: Started) -> str:
    """The device, with the number of threads of a CPU."""
    if event.device != "cpu":
        return event.device
    if event.threads is None:
        return "cpu, with one or all threads, whichever is faster"
    return f"cpu, {event.threads} thread{'s' * (event.threads > 1)}"


def _outcome(experiment: Experiment, event: Finished, probed: Probed | None, r: int) -> str:
    """One replica's accuracies and the sign agreement of its last probe, as a line."""
    if event.diverged_at[r] is not None and event.best_train_accuracy[r] is None:
        return f"seed {experiment.seed}: diverged at step {event.diverged_at[r]}, before the end of an epoch"
    parts = [f"best training accuracy {percent(event.best_train_accuracy[r])}"]
    if event.best_validation_accuracy[r] is not None:
        best = percent(event.best_validation_accuracy[r])
        parts.append(f"best validation accuracy {best} (epoch {event.best_validation_epoch[r]})")
    if event.test_accuracy[r] is not None:
        parts.append(f"test accuracy there {percent(event.test_accuracy[r])}")
    if event.diverged_at[r] is not None:
        parts.append(f"diverged at step {event.diverged_at[r]}")
    if probed is not None and probed.unit.overall[r] is not None:
        parts.append(f"sign agreement {percent(probed.unit.overall[r])} of unit errors (step {probed.step})")
    return f"seed {experiment.seed}: " + ", ".join(parts)
