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

from mdfa_app.comparison.comparison import Comparison, Lane, Pin
from mdfa_app.settings.rules import Rule, replicas
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


def runs(comparison: Comparison) -> dict[str, dict[str, Lane]]:
    """The lanes of the current run by rule, and those of the pinned runs, by the name of the run."""
    pin = comparison.current_pin
    found = {pin.name if pin else CURRENT: comparison.lanes}
    for pin in comparison.pinned:
        found[pin.name] = {**pin.lanes, **found.get(pin.name, {})}
    return found


def table(runs: Mapping[str, Mapping[str, Lane]]) -> pd.DataFrame:
    """All points of all curves: columns rule, epoch, quantity, value, run and seed.

    A quantity of a layer ends with the layer's number. Rows are as dense as the curves, which lose rows in a long run.
    """
    rows = [
        (name, row["x"], f"{curve}: {quantity}", value, run, (lane.settings.seed + replica) % 2**32)
        for run, lanes in runs.items()
        for name, lane in lanes.items()
        for replica, history in enumerate(lane.histories)
        for curve, drawn in history.curves.items()
        for row in drawn.rows
        for quantity, value in row.items()
        if quantity != "x"
    ]
    return pd.DataFrame(rows, columns=["rule", "epoch", "quantity", "value", "run", "seed"])


def csv(runs: Mapping[str, Mapping[str, Lane]]) -> bytes:
    """`table` as CSV, UTF-8."""
    return table(runs).to_csv(index=False).encode()


def parquet(runs: Mapping[str, Mapping[str, Lane]]) -> bytes:
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
    seeds: int = 1,
    pinned: Sequence[Pin] = (),
    files: Mapping[str, OwnFile] = MappingProxyType({}),
) -> str:
    """The experiments by rule as JSON, each for `mdfa train --config`; a note on rules and data that only the page has.

    Args:
        settings: of all rules.
        rules: the rules.
        seeds: how many; several are listed, and the experiments have the first.
        pinned: runs whose experiments follow, by the name of the run.
        files: the visitor's own files by the names of their data sets.
    """

    def made(settings: Experiment, rules: Sequence[Rule], seeds: int) -> dict[str, Any]:
        every = replicas(settings, seeds)
        listed = {"seeds": [one.seed for one in every]} if seeds > 1 else {}
        return {"experiments": {rule.name: _experiment(every[0], rule) for rule in rules}, **listed}

    kept = {pin.name: made(pin.settings, [lane.rule for lane in pin.lanes.values()], pin.seeds) for pin in pinned}
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
    return json.dumps(
        made(settings, rules, seeds) | ({"pinned": kept} if kept else {}) | note, indent=2, ensure_ascii=False
    )


def _experiment(settings: Experiment, rule: Rule) -> dict[str, Any]:
    made = rule.experiment(settings).to_dict()
    return made if rule.registered else made | {"method": rule.name}


def python(
    settings: Experiment,
    rules: Sequence[Rule],
    seeds: int = 1,
    files: Mapping[str, OwnFile] = MappingProxyType({}),
) -> str:
    """A Python program that trains the same nets on the same mini-batches and prints a line per epoch.

    Args: as of `configuration`.
    """
    own, every = files.get(settings.data), replicas(settings, seeds)
    settings = every[0]
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
    trained, value = "Experiment(method=method, **settings)", "[0]"
    if seeds > 1:  # the values of all of them are printed
        trained, value = f"[first.replace(seed=seed) for seed in {[one.seed for one in every]}]", ""
    return (
        imports
        + "from mdfa_core.training.events import Evaluated, Probed\n\n"
        + "".join(lines)
        + f"settings = dict(\n{arguments})\n"
        + f"for method in [{names}]:\n"
        + ("    first = Experiment(method=method, **settings)\n" if seeds > 1 else "")
        + f"    for event in train({trained}, probe=Every(epochs=1)):\n"
        + "        if isinstance(event, Probed):\n"
        + f"            signs = event.unit.overall{value}\n"
        + "        if isinstance(event, Evaluated):\n"
        + f'            print(method, event.epoch, "signs", signs, "training accuracy", event.train_accuracy{value})\n'
    )


def commands(
    settings: Experiment,
    rules: Sequence[Rule],
    seeds: int = 1,
    files: Mapping[str, OwnFile] = MappingProxyType({}),
) -> str:
    """Command lines that train the same nets, and one that runs the notebook with the parameters it has.

    Args: as of `configuration`.
    """
    own = files.get(settings.data)
    if own is not None:
        return f"# {needs_file(own)}\n# Commands cannot read it: use the Python program.\n"
    settings = replicas(settings, seeds)[0]
    several = ["--replicas", str(seeds)] if seeds > 1 else []
    known = [rule for rule in rules if rule.registered]
    lines = []
    for rule in known:
        lines.append(_command(["mdfa", "train", *_options(rule.experiment(settings)), *several, "--probe", "0.5"]))
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
        if several:
            lines.append("# the notebook trains the first seed alone")
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
