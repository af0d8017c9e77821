"""A comparison as files and text: curves as a table, settings as JSON, Python and commands, a checkpoint."""

from __future__ import annotations

import io
import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from mdfa_app.comparison.comparison import Comparison, Pin
from mdfa_app.comparison.history import History
from mdfa_app.settings.rules import Rule
from mdfa_app.settings.words import written
from mdfa_core import Experiment, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.data.own_file import OwnFile
from mdfa_core.runs.capacity import in_words

CHECKPOINT_BYTES = 2**23
"""The size of the largest checkpoint that is sent through the page."""

NOTEBOOK = "notebooks/sign_agreement.ipynb"
NOTEBOOK_PARAMETERS = ("data", "network", "activation", "outputs", "epochs", "learning_rate", "seed")
"""The settings that the notebook takes as parameters."""
NOTEBOOK_DEFAULTS = Experiment(epochs=30, learning_rate=0.01)
"""The settings of the notebook without parameters."""


# -------------------------------------------------------------------------------------------------------------- curves


CURRENT = "current"
"""Names the current run in tables if it is not pinned."""


def runs(comparison: Comparison) -> dict[str, dict[str, History]]:
    """The histories of the current run by rule, and those of the pinned runs, by the name of the run."""
    pin = comparison.current_pin
    found = {pin.name if pin else CURRENT: {name: lane.history for name, lane in comparison.lanes.items()}}
    for pin in comparison.pinned:
        kept = {name: lane.history for name, lane in pin.lanes.items()}
        found[pin.name] = {**kept, **found.get(pin.name, {})}
    return found


def table(runs: Mapping[str, Mapping[str, History]]) -> pd.DataFrame:
    """All points of all curves: columns rule, epoch, quantity, value and run.

    A quantity of a layer ends with the layer's number. Rows are as dense as the curves, which lose rows in a long run.
    """
    rows = [
        (name, row["x"], f"{curve}: {quantity}", value, run)
        for run, histories in runs.items()
        for name, history in histories.items()
        for curve, drawn in history.curves.items()
        for row in drawn.rows
        for quantity, value in row.items()
        if quantity != "x"
    ]
    return pd.DataFrame(rows, columns=["rule", "epoch", "quantity", "value", "run"])


def csv(runs: Mapping[str, Mapping[str, History]]) -> bytes:
    """`table` as CSV, UTF-8."""
    return table(runs).to_csv(index=False).encode()


def parquet(runs: Mapping[str, Mapping[str, History]]) -> bytes:
    """`table` as Parquet."""
    file = io.BytesIO()
    table(runs).to_parquet(file, index=False)
    return file.getvalue()


# ------------------------------------------------------------------------------------------------------- configuration


def needs_file(own: OwnFile) -> str:
    """A sentence that says which file a run needs."""
    return f"This run needs your own file {own.name} (SHA-256 {own.sha256}), which is not part of this."


def configuration(
    settings: Experiment,
    rules: Sequence[Rule],
    pinned: Sequence[Pin] = (),
    files: Mapping[str, OwnFile] = MappingProxyType({}),
) -> str:
    """The experiments by rule as JSON, each for `mdfa train --config`; a note on rules and data that only the page has.

    Args:
        settings: of all rules.
        rules: the rules.
        pinned: runs whose experiments follow, by the name of the run.
        files: the visitor's own files by the names of their data sets.
    """
    kept = {
        pin.name: {lane.rule.name: _experiment(lane.settings, lane.rule) for lane in pin.lanes.values()}
        for pin in pinned
    }
    used = [*rules, *(lane.rule for pin in pinned for lane in pin.lanes.values())]
    notes = []
    if not all(rule.registered for rule in used):
        notes.append("rules ending in -free exist only on the page; the Python program defines them")
    needed = dict.fromkeys([settings.data, *(lane.settings.data for pin in pinned for lane in pin.lanes.values())])
    for data in needed:
        if data in files:
            own = files[data]
            notes.append(
                f"the data {data} is your own file {own.name} (SHA-256 {own.sha256}), which is not part of this"
            )
    note = {"note": "; ".join(notes)} if notes else {}
    made = {"experiments": {rule.name: _experiment(settings, rule) for rule in rules}}
    return json.dumps(made | ({"pinned": kept} if kept else {}) | note, indent=2, ensure_ascii=False)


def _experiment(settings: Experiment, rule: Rule) -> dict[str, Any]:
    made = rule.experiment(settings).to_dict()
    return made if rule.registered else made | {"method": rule.name}


def python(settings: Experiment, rules: Sequence[Rule], files: Mapping[str, OwnFile] = MappingProxyType({})) -> str:
    """A Python program that trains the same nets on the same mini-batches and prints a line per epoch.

    Args: as of `configuration`.
    """
    own = files.get(settings.data)
    arguments = "".join(f"    {name}={value!r},\n" for name, value in _differing(settings).items())
    free = [rule for rule in rules if not rule.registered]
    tables = ["METHODS"] * bool(free) + ["DATASETS"] * (own is not None)
    imports = f"from mdfa_core import {', '.join([*sorted(tables), 'Every', 'Experiment', 'train'])}\n"
    lines = []
    if own is not None:
        imports += "from mdfa_core.data import from_file\n"
    if free:
        imports += "from mdfa_core.rules import Constraint, Method\n"
        imports += "".join(f"{line}\n" for line in sorted({rule.method.transport.python()[0] for rule in free}))
        lines = [_method(rule) for rule in free]
    if own is not None:
        lines += [
            f"# {needs_file(own)} Lay it beside this program.\n",
            f"DATASETS.add(\n    {settings.data!r},\n    from_file({own.name!r}, sha256={own.sha256!r}),\n)\n",
        ]
    names = ", ".join(repr(rule.name) for rule in rules)
    return (
        imports
        + "from mdfa_core.training.events import Evaluated, Probed\n\n"
        + "".join(lines)
        + f"settings = dict(\n{arguments})\n"
        + f"for method in [{names}]:\n"
        + "    for event in train(Experiment(method=method, **settings), probe=Every(epochs=1)):\n"
        + "        if isinstance(event, Probed):\n"
        + "            signs = event.unit.overall[0]\n"
        + "        if isinstance(event, Evaluated):\n"
        + '            print(method, event.epoch, "signs", signs, "training accuracy", event.train_accuracy[0])\n'
    )


def commands(settings: Experiment, rules: Sequence[Rule], files: Mapping[str, OwnFile] = MappingProxyType({})) -> str:
    """Command lines that train the same nets, and one that runs the notebook with the parameters it has.

    Args: as of `configuration`.
    """
    own = files.get(settings.data)
    if own is not None:
        return f"# {needs_file(own)}\n# Commands cannot read it: use the Python program.\n"
    known = [rule for rule in rules if rule.registered]
    lines = []
    for rule in known:
        lines.append(_command(["mdfa", "train", *_options(rule.experiment(settings)), "--probe", "0.5"]))
    for rule in rules:
        if not rule.registered:
            lines.append(f"# {rule.title} exists only on the page: use the Python program")
    if known:
        different = {name for name, value in _differing(settings, notebook=True).items() if value is not None}
        parameters = [part for name in NOTEBOOK_PARAMETERS for part in ("-p", name, written(getattr(settings, name)))]
        methods = ",".join(rule.name for rule in known)
        lines += ["", _command(["papermill", NOTEBOOK, "compared.ipynb", "-p", "methods", methods, *parameters])]
        left = sorted(different - {*NOTEBOOK_PARAMETERS, "method"})
        if left:
            lines.append(f"# the notebook has no parameter for {', '.join(left)} and uses its default")
    return "\n".join(lines) + "\n"


def checkpoint(run: Run) -> bytes:
    """The checkpoint of a run, for `mdfa train --resume`. Call it in the training thread.

    Raises:
        InvalidValue: it is too large to be sent through a page.
        CheckpointError: the run learns by a rule that is in no table.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.pt"
        run.save(path)
        if path.stat().st_size > CHECKPOINT_BYTES:
            raise InvalidValue(
                f"this checkpoint has {in_words(path.stat().st_size)}, but the page sends at most "
                f"{in_words(CHECKPOINT_BYTES)}: train with the command mdfa train --save run.pt"
            )
        return path.read_bytes()


def _differing(settings: Experiment, *, notebook: bool = False) -> dict[str, Any]:
    """The settings that differ from the defaults of `Experiment`, or from those of the notebook."""
    theirs = (NOTEBOOK_DEFAULTS if notebook else Experiment()).to_dict()
    return {name: value for name, value in settings.to_dict().items() if name != "method" and value != theirs[name]}


def _options(experiment: Experiment) -> list[str]:
    options = ["--method", experiment.method]
    for name, value in _differing(experiment).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            options += [f"--{flag}", written(value)]
    return options


def _command(words: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, words))


def _method(rule: Rule) -> str:
    """Python code that adds a rule of the page to `METHODS`."""
    method = rule.method
    return (
        f"METHODS.add(\n    {rule.name!r},\n    Method(\n        title={method.title!r},\n"
        f"        description={method.description!r},\n        transport={method.transport.python()[1]},\n"
        f"        constraint=Constraint(first_layer=None, feedback={method.constraint.feedback}),\n    ),\n)\n"
    )
