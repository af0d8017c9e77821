"""Reproduction from texts, as in a notebook's parameters or on the command line, with a progress bar."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm.auto import tqdm

from mdfa_core.base import devices
from mdfa_core.base.errors import DeviceError, InvalidValue
from mdfa_core.base.registry import parse_list
from mdfa_core.runs import cluster
from mdfa_core.runs.store import Store
from mdfa_core.studies.notebooks import SECONDS
from mdfa_core.studies.paper.published import TABLES
from mdfa_core.studies.paper.recipes import PROFILES
from mdfa_core.studies.paper.reproduction import DRAW, Plan, Reproduction, chosen_cells

_SEEDS = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")

_LISTS = {"methods": "method", "activations": "activation", "networks": "network", "classes": "classes"}


def plan(
    tables: int | Sequence[int],
    *,
    profile: str,
    methods: str = "",
    activations: str = "",
    networks: str = "",
    classes: str = "",
    seeds: str = "",
    draws: int = 1,
    epochs: int = 0,
    image_size: int = 0,
) -> Plan:
    """A plan from texts. Items of lists are separated by commas; empty texts and 0 stand for the profile's values.

    Seeds may be a range: `0-9` stands for 0 to 9.

    Raises:
        UnknownName: there is no such profile, table, method, activation, kind of network or number of classes.
        InvalidValue: a number is invalid or out of range, or the profile's data has too few classes for every cell.
    """
    PROFILES[profile]
    cells = chosen_cells(
        (tables,) if isinstance(tables, int) else tuple(tables),
        profile=profile,
        methods=parse_list("methods", methods, str),
        activations=parse_list("activations", activations, str),
        networks=parse_list("networks", networks, str),
        classes=parse_list("classes", classes, int),
    )
    for name, number in (("epochs", epochs), ("image size", image_size)):
        if not isinstance(number, int) or number < 0:
            raise InvalidValue(f"{name} is {number!r}: give a positive integer, or 0 for the profile's")
    return Plan(
        profile=profile,
        cells=cells,
        seeds=parse_seeds(seeds) or None,
        draws=draws,
        epochs=epochs or None,
        image_size=image_size or None,
    )


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse numbers and ranges separated by commas: `7, 0-2` gives (7, 0, 1, 2). Empty items are ignored.

    Raises:
        InvalidValue: an item is neither a number nor a range, a range counts down or has more than `DRAW` seeds, or a
            seed is given twice.
    """
    found: list[int] = []
    for item in filter(None, map(str.strip, str(text).split(","))):
        match = _SEEDS.fullmatch(item)
        first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not 0 <= last - first < DRAW:
            raise InvalidValue(
                f"seeds has the item {item!r}: give numbers from 0 and rising ranges of at most {DRAW:,} seeds, "
                f"separated by commas, such as 0-9 or 0,3,5"
            )
        found += range(first, last + 1)
    twice = next((seed for seed in found if found.count(seed) > 1), None)
    if twice is not None:
        raise InvalidValue(f"seeds is {text!r}, which has {twice} twice: give each seed once, such as 0-9 or 0,3,5")
    return tuple(found)


def narrowed(choices: Mapping[str, Any], wanted: Plan, table: int) -> dict[str, Any]:
    """The arguments of `plan` for one table of a plan: lists keep the items that the table's cells have.

    Without this, a plan for one table would refuse items that only other tables have.
    """
    cells = [cell for cell in wanted.cells if cell.table == table]
    lists = {
        name: ",".join(dict.fromkeys(str(getattr(cell, one)) for cell in cells))
        for name, one in _LISTS.items()
        if choices.get(name)
    }
    return {**choices, **lists}


def notebook_parameters(
    names: Sequence[str], wanted: Plan, choices: Mapping[str, Any], **places: str
) -> dict[str, dict[str, Any]]:
    """The parameters of notebooks that show a plan, by the notebook's name.

    A table's notebook gets the choices that its cells have, and is left out if the plan has none of its cells.

    Args:
        names: the notebooks.
        wanted: the plan.
        choices: the arguments of `plan` that made it, without tables and profile.
        places: parameters of every notebook: data folder, store and device.
    """
    given = {"profile": wanted.profile, **places}
    parameters = {name: {**given, **choices} for name in names}
    if "report" in parameters:
        parameters["report"]["profile"] = wanted.variant  # the report shows cells with the changes of this plan
    for number, table in TABLES.items():
        if table.notebook in parameters:
            if any(cell.table == number for cell in wanted.cells):
                parameters[table.notebook] = given | narrowed(choices, wanted, number)
            else:
                del parameters[table.notebook]
    return parameters


def fill(
    wanted: Plan,
    store: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    where: str = "",
    bar: tqdm[Any] | None = None,
    share: float = 1.0,
) -> None:
    """Train the missing runs of a plan, with a progress bar that shows the remaining time.

    Args:
        wanted: the plan.
        store: file of the store; created if it does not exist.
        data_dir: as for `Run`.
        device: as for `Run`.
        where: the cluster, see `cluster.workers`.
        bar: a `progress_bar` of more work than this; None: one of its own.
        share: the part of the bar that belongs to this plan, 0 to 1.
    """
    if bar is None:
        with progress_bar() as own:
            fill(wanted, store, data_dir=data_dir, device=device, where=where, bar=own)
        return
    if where:
        bar.set_description(f"connecting to {where}")
    with Store(store) as runs, cluster.workers(where) as crew:
        for stage in Reproduction(wanted, runs, data_dir=data_dir or None, device=device, workers=crew):
            bar.set_description(f"{stage.cell.name}: {stage.doing}", refresh=False)
            bar.update(share * stage.part - bar.n)
        bar.update(share - bar.n)  # runs that were stored, and cells that need no best fit


def progress_bar() -> tqdm[Any]:
    """A progress bar from 0 to 1 that shows the time passed and the time left."""
    return tqdm(total=1.0, bar_format="{l_bar}{bar}| {elapsed} passed, {remaining} left", dynamic_ncols=True)


def estimate(
    wanted: Plan,
    store: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    where: str = "",
    notebooks: int = 0,
) -> str:
    """Estimated time of a plan if the store is empty, in words; a few steps of each kind of run are timed.

    The arguments are those of `fill`, and the number of notebooks that are run afterwards. The function connects to no
    cluster.
    """
    device = _timed_on(device, where)
    seconds, processes = _training_seconds(wanted, store, data_dir, device, where)
    of = "one device"
    if devices.resolve(device).type == "cpu":
        of = "one CPU core" if processes == 1 else f"{processes} CPU cores"
    words = f"{_counted(len(wanted.cells), 'cell')}, about {duration(seconds)} of {of}; stored runs take no time"
    then = f"; then {_counted(notebooks, 'notebook')}, about {duration(notebooks * SECONDS)}"
    return words + (then if notebooks else "")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def training_share(
    wanted: Plan,
    store: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    where: str = "",
    notebooks: int = 0,
) -> float:
    """The share of training, 0 to 1, in the time that `estimate` tells."""
    seconds, _ = _training_seconds(wanted, store, data_dir, _timed_on(device, where), where)
    return seconds / (seconds + notebooks * SECONDS)


def _training_seconds(wanted: Plan, store: Any, data_dir: Any, device: str, where: str) -> tuple[float, int]:
    """Estimated seconds, and the number of processes of this machine that share them."""
    processes = cluster.processes(where) or 1  # the number of workers of a scheduler is not known yet
    with Store(store) as runs:
        seconds = Reproduction(wanted, runs, data_dir=data_dir or None, device=device).seconds()
    return (seconds / processes if devices.resolve(device).type == "cpu" else seconds), processes


def _timed_on(device: str, where: str) -> str:
    """The device of this machine that stands for `device`, which only the workers of a scheduler may have."""
    try:
        devices.resolve(device)
    except DeviceError:
        if cluster.processes(where) is not None:
            raise
        return "auto"
    return device


def duration(seconds: float) -> str:
    """A duration to two digits: `40 seconds`, `12 minutes`, `3.5 hours`."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{max(seconds, 1):.0f} seconds"
