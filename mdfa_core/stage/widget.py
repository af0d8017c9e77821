"""The stage in a notebook: JupyterLab and other hosts of ipywidgets, by the convention of anywidget."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import traitlets

from mdfa_core.base import devices
from mdfa_core.base.distribution import install
from mdfa_core.base.errors import InvalidValue, MissingPackage
from mdfa_core.data import TaskCache
from mdfa_core.rules.methods import METHODS
from mdfa_core.stage.film import Film, joined, recording_of
from mdfa_core.stage.frame import Camera, Frame, TrainingAccuracy
from mdfa_core.stage.recording import Replay, asset, replay_page
from mdfa_core.stage.scene import row_of, scene_of
from mdfa_core.stage.unit import Look, unit_signals
from mdfa_core.training import Every, Experiment, Run

try:
    from anywidget import AnyWidget
except ImportError:
    raise MissingPackage(f"the stage in a notebook needs anywidget: run {install('notebooks')}") from None

FRAME_SECONDS = 0.12
"""The shortest time between two frames of the picture."""

FRAME_SHARE, SPARE_SHARE = 0.05, 0.25
"""Largest share of the time that frames may take: at full speed, and if training waits between mini-batches."""

_ROUND_SECONDS = 0.05  # that a round of mini-batches may take: between two rounds, training can be paused
_CLOSE_SECONDS = 5.0
_open: weakref.WeakSet[Stage] = weakref.WeakSet()


@atexit.register
def _pause_all() -> None:
    """A thread that is cut off inside PyTorch aborts the process."""
    for stage in list(_open):
        stage.pause()


class Stage(AnyWidget):
    """Networks that learn, as a moving picture: a row for each learning rule, a dot for each hidden unit.

    Display it by its name at the end of a cell. All networks have the same task, initial weights and mini-batches; they
    learn in lockstep.

        stage = Stage(Experiment(network="fc:64,64", epochs=30), rules=("mdfa", "dfa"))
        stage                  # the picture
        stage.train(epochs=5)  # trains in this cell; the picture moves meanwhile
        stage.start()          # trains in the background, until stage.pause()

    A saved notebook keeps `stage.replay()` and shows it without a kernel. It keeps the stage itself as long as whoever
    shows it knows widgets; otherwise it shows the replay of what was trained when the cell ran.

    Args:
        experiment: the settings; its learning rule is not used.
        rules: names in `METHODS`, at least one.
        device: where to train.
        data_dir: folder of the data sets; by default as for `Run`.

    Attributes:
        runs: the run of each rule, by its name. Look at them only while nothing trains.
        newest: the newest frame of each rule, by its name: what the picture shows, as numbers.
        scene, frame, moving, signals, asks: what the browser draws, as stage.js has it.

    Raises:
        MissingPackage: anywidget is not installed (at the import of this module).
        InvalidValue: there is no rule, or a setting is not allowed.
        UnknownName: there is no such rule.
    """

    _esm = asset("stage.js")

    scene = traitlets.Dict(help="`Scene.to_dict`").tag(sync=True)
    frame = traitlets.Bytes(help="one `Frame.to_bytes` for each row of the scene, in its order").tag(sync=True)
    moving = traitlets.Bool(False, help="whether the networks train").tag(sync=True)
    signals = traitlets.Dict(help="`UnitSignals.to_dict` of the unit that is looked at, or empty").tag(sync=True)
    asks = traitlets.Bool(True, help="whether the browser says which unit is looked at").tag(sync=True)

    def __init__(
        self,
        experiment: Experiment,
        rules: Iterable[str] = ("mdfa", "dfa"),
        *,
        device: str = "cpu",
        data_dir: str | Path | None = None,
    ) -> None:
        self._halted = threading.Event()  # first, because a widget that could not be made is closed, too
        self._thread: threading.Thread | None = None
        self._look: Look | None = None
        self._computing = threading.Lock()  # messages of the browser may come in another thread than training
        names = list(dict.fromkeys([rules] if isinstance(rules, str) else rules))
        if not names:
            raise InvalidValue("there is no learning rule: give at least one, such as mdfa")
        tasks = TaskCache(data_dir, devices.resolve(device))
        self.runs = {name: Run(experiment.replace(method=name), device=device, tasks=tasks) for name in names}
        first = next(iter(self.runs.values()))
        self._experiment = experiment
        self._scene = scene_of(first)
        self.newest: dict[str, Frame] = {}
        self._cameras = {name: Camera(run, self._scene) for name, run in self.runs.items()}
        self._films = {name: Film() for name in names}
        self._accuracies = {name: TrainingAccuracy() for name in names}
        order = list(METHODS)
        rows = tuple(
            row_of(name, run.learner.method, len(run.network.hidden), order.index(name))
            for name, run in self.runs.items()
        )
        super().__init__(scene=self._scene.to_dict(rows), frame=self._new_frame(whole=True))
        self.on_msg(self._hear)
        _open.add(self)

    def train(self, epochs: int | None = None, *, steps_per_second: float | None = None) -> None:
        """Train in this cell, until the end or for so many more epochs. Interrupting the cell pauses.

        Args:
            epochs: passes over the training images; by default all that are left.
            steps_per_second: the most mini-batches of each network in a second; by default as many as possible.

        Raises:
            InvalidValue: a number is not positive, or the networks train in the background.
        """
        goal = self._goal(epochs, steps_per_second)
        if self._thread is not None:
            raise InvalidValue("the networks train in the background: call pause() first")
        self._halted.clear()
        self._learn(goal, steps_per_second)

    def start(self, epochs: int | None = None, *, steps_per_second: float | None = None) -> None:
        """As `train`, but in the background. It does nothing if the networks already train there.

        Raises:
            InvalidValue: a number is not positive.
        """
        goal = self._goal(epochs, steps_per_second)
        if self._thread is None:
            self._halted.clear()
            self._thread = threading.Thread(target=self._background, args=(goal, steps_per_second), daemon=True)
            self._thread.start()

    def pause(self) -> None:
        """Stop after the current mini-batches; `start` and `train` continue from there."""
        thread = self._thread
        self._halted.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSE_SECONDS)

    def replay(self, title: str = "Networks that learn") -> Replay:
        """A page that replays what was trained so far. Display it, so that the notebook keeps it, or save it."""
        settings = {name: value for name, value in self._experiment.to_dict().items() if name != "method"}
        recording = recording_of(self.scene, list(self._films.values()), settings)
        return Replay(replay_page(recording.to_dict(), title=title, source="Stage.replay()"), rows=len(self.runs))

    def close(self) -> None:
        """Pause, and take the picture away."""
        self.pause()
        super().close()

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> Any:
        """The state that the browser gets.

        `ipywidgets.embed` asks without defaults, for a page without Python. It gets all of the state, because the
        module counts as a default. In such a page nothing moves, and nobody answers for single units.
        """
        state = super().get_state(key)
        return {**state, "asks": False, "moving": False} if drop_defaults else state

    def _goal(self, epochs: int | None, steps_per_second: float | None) -> int:
        """The mini-batch at which to stop."""
        run = next(iter(self.runs.values()))
        if steps_per_second is not None and not steps_per_second > 0:
            raise InvalidValue(f"steps_per_second is {steps_per_second!r}: give a positive number, or omit it")
        if epochs is None:
            return run.steps
        if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
            raise InvalidValue(f"epochs is {epochs!r}: give an integer of at least 1, or omit it")
        return min(run.steps, max(run.step for run in self.runs.values()) + epochs * run.steps_per_epoch)

    def _background(self, goal: int, steps_per_second: float | None) -> None:
        try:
            self._learn(goal, steps_per_second)
        finally:
            self._thread = None

    def _learn(self, goal: int, steps_per_second: float | None) -> None:
        """Train all networks to a mini-batch, in lockstep, and show frames meanwhile."""
        self.moving = True
        # At full speed, frames take a share of this thread's own time; otherwise, of the time that passes.
        clock, share = (time.thread_time, FRAME_SHARE) if steps_per_second is None else (time.monotonic, SPARE_SHARE)
        count, trained, begun, next_frame, paid = 1, 0, time.monotonic(), 0.0, 0.0
        try:
            while not self._halted.is_set():
                learning = [name for name, run in self.runs.items() if run.step < goal and not run.finished]
                if not learning:
                    break
                before = time.monotonic()
                target = min(goal, min(self.runs[name].step for name in learning) + count)
                with self._computing:
                    for name in learning:
                        self._train_to(name, target)
                now, spent = time.monotonic(), clock()
                trained += count
                slow = now - before > _ROUND_SECONDS
                count = max(1, count // 2) if slow else count if now - before > _ROUND_SECONDS / 3 else 2 * count
                if now >= next_frame and spent >= paid:
                    self._show(whole=False)
                    next_frame, paid = now + FRAME_SECONDS, clock() + (clock() - spent) / share
                if steps_per_second is not None:
                    count = max(1, min(count, int(steps_per_second * FRAME_SECONDS)))
                    self._halted.wait(max(0.0, begun + trained / steps_per_second - time.monotonic()))
        finally:
            self.moving = False
            self._show(whole=True)

    def _train_to(self, name: str, step: int) -> None:
        run = self.runs[name]
        if run.step < step:
            for event in run.events(steps=step - run.step, progress=Every(seconds=FRAME_SECONDS)):
                self._accuracies[name].note(event)

    def _hear(self, _: Any, content: Any, __: Any) -> None:
        """Take a message of stage.js: which unit is looked at. While networks train, the next frame answers."""
        if isinstance(content, dict) and "look" in content:
            self._look = Look.of(content)
            if not self.moving or self._look is None:
                self._answer()

    def _answer(self) -> None:
        """Show the signals of the unit that is looked at."""
        look = self._look
        if look is None or look.row not in self.runs:
            self.signals = {}
            return
        try:
            with self._computing:
                found = unit_signals(self.runs[look.row], look.layer, look.unit)
        except InvalidValue:  # a browser may name any unit
            self._look = None
        else:
            self.signals = found.to_dict(look.row)

    def _show(self, *, whole: bool) -> None:
        self.frame = self._new_frame(whole=whole)
        if self._look is not None:
            self._answer()

    def _new_frame(self, *, whole: bool) -> bytes:
        """The newest frames of all networks."""
        for name in self.runs:
            self.newest[name] = self._cameras[name].take(whole=whole, accuracy=self._accuracies[name].value)
            self._films[name].add(self.newest[name].to_bytes())
        return joined(list(self._films.values()))

    def _repr_mimebundle_(self, **options: Any) -> Any:
        data, metadata = super()._repr_mimebundle_(**options)  # type: ignore[misc]  # None without a view
        return {**data, "text/html": self.replay()._repr_html_()}, metadata
