"""From the texts of a notebook's parameters or of the command line to filled cells, with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm.auto import tqdm

from mdfa_core import cluster, devices
from mdfa_core.errors import InvalidValue
from mdfa_core.paper.recipes import PROFILES
from mdfa_core.paper.reproduction import Plan, Reproduction, chosen_cells
from mdfa_core.registry import listed
from mdfa_core.store import Store

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
    epochs: int = 0,
    image_size: int = 0,
) -> Plan:
    """The plan that some texts describe: lists are separated by commas, and what is empty (or 0) is the profile's.

    Raises:
        UnknownName: a profile, table, method, activation, kind of net or number of classes there is not.
        InvalidValue: a number is none, or out of its range, or the profile's data has too few classes for every cell.
    """
    PROFILES[profile]
    cells = chosen_cells(
        (tables,) if isinstance(tables, int) else tuple(tables),
        profile=profile,
        methods=listed("methods", methods, str),
        activations=listed("activations", activations, str),
        networks=listed("networks", networks, str),
        classes=listed("classes", classes, int),
    )
    for name, number in (("epochs", epochs), ("image size", image_size)):
        if not isinstance(number, int) or number < 0:
            raise InvalidValue(f"{name} is {number!r}: give a positive integer, or 0 for the profile's")
    return Plan(
        profile=profile,
        cells=cells,
        seeds=listed("seeds", seeds, int) or None,
        epochs=epochs or None,
        image_size=image_size or None,
    )


def narrowed(choices: Mapping[str, Any], wanted: Plan, table: int) -> dict[str, Any]:
    """The texts of `plan` that describe one table's part of it: of lists, what that table's cells have.

    A list that is not empty may name what only other tables have, which a plan of this table alone would refuse.
    """
    cells = [cell for cell in wanted.cells if cell.table == table]
    lists = {
        name: ",".join(dict.fromkeys(str(getattr(cell, one)) for cell in cells))
        for name, one in _LISTS.items()
        if choices.get(name)
    }
    return {**choices, **lists}


def fill(
    wanted: Plan,
    store: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    where: str = "",
) -> None:
    """Run what a plan lacks in the store at `store`, with a progress bar that says how long it will take.

    Args:
        wanted: what to run.
        store: a file; made if it is not there.
        data_dir: as `Run` takes it.
        device: likewise.
        where: the cluster, see `cluster.workers`.
    """
    with Store(store) as runs, cluster.workers(where) as crew:
        work = Reproduction(wanted, runs, data_dir=data_dir or None, device=device, workers=crew)
        with tqdm(total=1.0, bar_format="{l_bar}{bar}| {elapsed} passed, {remaining} left", dynamic_ncols=True) as bar:
            for stage in work:
                bar.set_description(f"{stage.cell.name}: {stage.doing}", refresh=False)
                bar.update(stage.part - bar.n)
            bar.update(1 - bar.n)  # what was stored before, or did not need a best fit, was no work


def estimate(
    wanted: Plan,
    store: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    where: str = "",
) -> str:
    """How long a plan takes if nothing of it is stored yet, in words: a few steps of each kind of run are timed.

    Takes what `fill` takes and refuses what that would, but connects to no cluster.
    """
    processes = cluster.processes(where) or 1  # what has joined a scheduler is known once it is asked
    with Store(store) as runs:
        seconds = Reproduction(wanted, runs, data_dir=data_dir or None, device=device).seconds()
    of = "one device"
    if devices.resolve(device).type == "cpu":
        of = "one CPU core" if processes == 1 else f"{processes} CPU cores"
        seconds /= processes
    return f"{len(wanted.cells)} cells, about {spoken(seconds)} of {of}; what is stored already takes no time"


def spoken(seconds: float) -> str:
    """A duration to two digits: `40 seconds`, `12 minutes`, `3.5 hours`."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{max(seconds, 1):.0f} seconds"
