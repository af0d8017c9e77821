"""Choices that were made by measuring a GPU, kept in a file so that later processes need not measure anew.

The file is `choices.json` in the user's cache folder. It has a table for every place, which is a card's model and
capability with the versions of PyTorch, CUDA and cuDNN and the options that were measured. Delete it to measure anew;
`MDFA_CHOICES=off` neither reads nor writes it.

Several processes may use the file at once. It is always replaced as a whole, and the first choice that is written
stays. If two processes write in the same moment, the choice of one may be lost, which costs a later measurement. A file
that cannot be read, or has another form, counts as empty and is replaced.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch

from mdfa_core.base.errors import InvalidValue

VARIABLE = "MDFA_CHOICES"
SETTINGS = ("auto", "off")
LARGEST = 1 << 20
"""Bytes: a larger file counts as empty."""

_FORMAT = 1
_log = logging.getLogger(__name__)

Tables = dict[str, dict[str, str]]


def enabled() -> bool:
    """Whether choices are kept in the file.

    Raises:
        InvalidValue: MDFA_CHOICES is neither auto nor off.
    """
    wanted = os.environ.get(VARIABLE) or "auto"
    if wanted not in SETTINGS:
        raise InvalidValue(f"{VARIABLE} is {wanted!r}: choose one of {', '.join(SETTINGS)}")
    return wanted == "auto"


def place(device: torch.device, options: Iterable[str]) -> str | None:
    """The name of the file's table for a device; None if the device is not a CUDA device.

    Args:
        device: that was measured.
        options: among which the fastest was chosen.
    """
    if device.type != "cuda":
        return None
    card = torch.cuda.get_device_properties(device)
    cudnn = torch.backends.cudnn.version()
    libraries = f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    return f"{card.name} {card.major}.{card.minor}; {libraries}; {', '.join(options)}"


def known(where: str, what: str) -> str | None:
    """The choice that was written for `what` in the table `where`; None if there is none."""
    return _read().get(where, {}).get(what) if enabled() else None


def keep(where: str, what: str, choice: str) -> str:
    """Write a choice into the file.

    Returns:
        The choice to use: the one that another process wrote in the meantime, else `choice`.
    """
    if not enabled():
        return choice
    tables = _read()
    kept = tables.setdefault(where, {}).setdefault(what, choice)
    if kept == choice:
        _write(tables)
    return kept


def _file() -> Path | None:
    try:
        import platformdirs  # imported late, as in `data_dir`: programs for a bare machine do without it
    except ImportError:
        return None
    return Path(platformdirs.user_cache_dir("mdfa"), "choices.json")


def _read() -> Tables:
    path = _file()
    try:
        if path is None or path.stat().st_size > LARGEST:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
        tables = content["tables"]
        if content["format"] == _FORMAT and all(
            isinstance(v, str) for table in tables.values() for v in table.values()
        ):
            return dict(tables)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        _log.debug("%s is not used: %r", path, error)
    return {}


def _write(tables: Tables) -> None:
    path = _file()
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, new = tempfile.mkstemp(dir=path.parent, prefix="choices-", suffix=".tmp")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump({"format": _FORMAT, "tables": tables}, file, indent=1, sort_keys=True)
            os.replace(new, path)
        except BaseException:
            os.unlink(new)
            raise
    except OSError as error:
        _log.debug("%s is not written: %s", path, error)
