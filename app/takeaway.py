"""What a visitor takes away: curves as a table, the configuration as JSON, Python and commands, a checkpoint.

Everything here is a function of what is compared; nothing knows Panel.
"""

from __future__ import annotations

import io
import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from app.history import History
from app.rules import Rule
from mdfa_core import Experiment, Run
from mdfa_core.errors import InvalidValue
from mdfa_core.methods import Chain, Direct

CHECKPOINT_BYTES = 2**23
"""Of the largest checkpoint that is sent through the page."""

_NOTEBOOK = "notebooks/sign_agreement.ipynb"
_NOTEBOOK_TAKES = ("data", "network", "activation", "outputs", "epochs", "learning_rate", "seed")


# -------------------------------------------------------------------------------------------------------------- curves


def table(histories: Mapping[str, History]) -> pd.DataFrame:
    """Every number that was drawn: columns rule, epoch, quantity and value; a layer's number ends its quantity's name.

    Rows are as fine as the charts are: what a long run has thinned out is not in them.
    """
    rows = [
        (name, row["x"], f"{curve}: {quantity}", value)
        for name, history in histories.items()
        for curve, drawn in history.curves.items()
        for row in drawn.rows
        for quantity, value in row.items()
        if quantity != "x"
    ]
    return pd.DataFrame(rows, columns=["rule", "epoch", "quantity", "value"])


def csv(histories: Mapping[str, History]) -> bytes:
    """`table` as CSV, UTF-8."""
    return table(histories).to_csv(index=False).encode()


def parquet(histories: Mapping[str, History]) -> bytes:
    """`table` as Parquet."""
    file = io.BytesIO()
    table(histories).to_parquet(file, index=False)
    return file.getvalue()


# ------------------------------------------------------------------------------------------------------- configuration


def configuration(settings: Experiment, rules: Sequence[Rule]) -> str:
    """The experiments as JSON by rule, as `mdfa train --config` takes each; rules of the page alone have a note."""
    made: dict[str, Any] = {}
    for rule in rules:
        made[rule.name] = rule.experiment(settings).to_dict()
        if not rule.registered:
            made[rule.name]["method"] = rule.name
    note = {} if all(rule.registered for rule in rules) else {"note": "the Python code shows how to make -free methods"}
    return json.dumps({"experiments": made, **note}, indent=2)


def python(settings: Experiment, rules: Sequence[Rule]) -> str:
    """A program that trains the same nets on the same mini-batches and tells of every epoch."""
    arguments = "".join(f"    {name}={value!r},\n" for name, value in _differing(settings).items())
    free = [rule for rule in rules if not rule.registered]
    imports = "from mdfa_core import METHODS, Every, Experiment, train\n" if free else ""
    imports = imports or "from mdfa_core import Every, Experiment, train\n"
    lines = []
    if free:
        imports += "from mdfa_core.methods import Chain, Constraint, Direct, Method\n"
        lines = [_method(rule) for rule in free]
    names = ", ".join(repr(rule.name) for rule in rules)
    return (
        imports
        + "from mdfa_core.events import Evaluated, Probed\n\n"
        + "".join(lines)
        + f"settings = dict(\n{arguments})\n"
        + f"for method in [{names}]:\n"
        + "    for event in train(Experiment(method=method, **settings), probe=Every(epochs=1)):\n"
        + "        if isinstance(event, Probed):\n"
        + "            signs = event.unit.overall[0]\n"
        + "        if isinstance(event, Evaluated):\n"
        + '            print(method, event.epoch, "signs", signs, "training accuracy", event.train_accuracy[0])\n'
    )


def commands(settings: Experiment, rules: Sequence[Rule]) -> str:
    """Command lines that train the same nets, and one for the notebook with what it has a parameter for."""
    known = [rule for rule in rules if rule.registered]
    lines = []
    for rule in known:
        lines.append(_command(["mdfa", "train", *_options(rule.experiment(settings)), "--probe", "0.5"]))
    for rule in rules:
        if not rule.registered:
            lines.append(f"# {rule.title} is made in Python: see there")
    if known:
        different = {name for name, value in _differing(settings, notebook=True).items() if value is not None}
        parameters = [part for name in _NOTEBOOK_TAKES for part in ("-p", name, _written(getattr(settings, name)))]
        methods = ",".join(rule.name for rule in known)
        lines += ["", _command(["papermill", _NOTEBOOK, "compared.ipynb", "-p", "methods", methods, *parameters])]
        left = sorted(different - {*_NOTEBOOK_TAKES, "method"})
        if left:
            lines.append(f"# the notebook has no parameter for {', '.join(left)}: there it keeps the default")
    return "\n".join(lines) + "\n"


def checkpoint(run: Run) -> bytes:
    """The run as `mdfa train --resume` takes it; call it in the thread that trains.

    Raises:
        InvalidValue: it is too large to be sent through a page.
        CheckpointError: the run learns by a rule that is in no table.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.pt"
        run.save(path)
        if path.stat().st_size > CHECKPOINT_BYTES:
            raise InvalidValue(
                f"this checkpoint has {path.stat().st_size / 2**20:.0f} MB, but the page sends at most "
                f"{CHECKPOINT_BYTES / 2**20:.0f}: train with the command mdfa train --save run.pt"
            )
        return path.read_bytes()


def _differing(settings: Experiment, *, notebook: bool = False) -> dict[str, Any]:
    """The settings that differ from those of `Experiment()`; for the notebook, from what it sets itself."""
    default = Experiment(epochs=30, learning_rate=0.01) if notebook else Experiment()
    theirs = default.to_dict()
    return {name: value for name, value in settings.to_dict().items() if name != "method" and value != theirs[name]}


def _options(experiment: Experiment) -> list[str]:
    options = ["--method", experiment.method]
    for name, value in _differing(experiment).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            options += [f"--{flag}", _written(value)]
    return options


def _command(words: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, words))


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _method(rule: Rule) -> str:
    """The lines that add a rule of the page to `METHODS`."""
    method = rule.method
    transport = "Direct()" if isinstance(method.transport, Direct) else "Chain(fixed=True)"
    if isinstance(method.transport, Chain) and not method.transport.fixed:
        transport = "Chain(fixed=False)"
    return (
        f"METHODS.add(\n    {rule.name!r},\n    Method(\n        title={method.title!r},\n"
        f"        description={method.description!r},\n        transport={transport},\n"
        f"        constraint=Constraint(first_layer=None, feedback={method.constraint.feedback}),\n    ),\n)\n"
    )
