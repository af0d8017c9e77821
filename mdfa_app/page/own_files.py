"""A visitor's own files: received in parts, read in a thread, and known to this visitor's page alone.

A file becomes a data set under a name that nobody can guess and no list shows; it goes with the page. Nothing is
written to disk.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from mdfa_app.page.screen import Edit
from mdfa_app.settings.limits import LIMITS, Limits
from mdfa_app.settings.presets import PRESETS
from mdfa_app.settings.words import sentence
from mdfa_core import DATASETS, Experiment, MdfaError
from mdfa_core.data.own_file import CSV_BYTES, ZIP_BYTES, OwnFile, read, short_name
from mdfa_core.data.plane import SHAPE

LARGEST = max(CSV_BYTES, ZIP_BYTES)
"""Bytes of a file that a browser may send."""
FILES = 8
"""Files that one page keeps."""
TRIES = 40
"""Files that one page may send."""

_LIKE = "plane"
"""The preset whose settings are taken for points."""
_TAKEN = ("network", "forward_init", "learning_rate", "epochs")
_PREFIX = "own-"
_log = logging.getLogger(__name__)
_reader = ThreadPoolExecutor(1, thread_name_prefix="own file")  # one for all visitors: it takes one core at most


class OwnFiles:
    """The files of one page.

    Args:
        soon: runs a function as soon as Bokeh models may be changed.
        on_read: called so with the name of a new data set.
        on_change: called so when `said` or `wrong` has changed.

    Attributes:
        files: the files by the names of their data sets.
        said: what happens to the newest file, or what is in it.
        wrong: why the newest file is not taken; empty if it is.
    """

    def __init__(
        self, soon: Callable[[Edit], None], on_read: Callable[[str], None], on_change: Callable[[], None]
    ) -> None:
        self._soon, self._on_read, self._on_change = soon, on_read, on_change
        self.files: dict[str, OwnFile] = {}
        self.said = self.wrong = ""
        self._name, self._size = "", 0  # of the file that comes
        self._parts: list[bytes] | None = None  # of it; None if none comes
        self._reading = self._closed = False
        self._tries = 0

    def take(self, sent: Any) -> None:
        """Take what a browser sends: the name and size of a file, or a part of it in base64."""
        if not isinstance(sent, dict):
            return
        if isinstance(sent.get("name"), str) and type(sent.get("size")) is int:
            self._begin(sent["name"], sent["size"])
        elif isinstance(sent.get("part"), str) and self._parts is not None:
            self._add(sent["part"], self._parts)

    def options(self) -> dict[str, str]:
        """Names of the data sets by title; a title that comes again is numbered."""
        found: dict[str, str] = {}
        for name, own in self.files.items():
            title, count = own.data.title, 1
            while title in found:
                count += 1
                title = f"{own.data.title} ({count})"
            found[title] = name
        return found

    def close(self) -> None:
        """Forget all files: the page is over."""
        self._closed, self._parts = True, None
        while self.files:
            DATASETS.remove(self.files.popitem()[0])

    def _begin(self, name: str, size: int) -> None:
        name = short_name(name[-1000:])
        self._parts = None
        if self._reading:
            self._refuse("another file is being read: try again when it is done")
            return
        self._name, self._size = name, size
        if len(self.files) >= FILES or self._tries >= TRIES:
            self._refuse("this page has taken many files: reload it to add others")
        elif not 0 <= size <= LARGEST:
            self._refuse(
                f"{name} has {size / 2**20:,.1f} MB: a CSV file may have {CSV_BYTES // 1024} kB, and a ZIP archive "
                f"{ZIP_BYTES // 2**20} MB"
            )
        else:
            self._tries += 1
            self._parts = []
            self._say(f"Receiving {name}.")
            if size == 0:
                self._read(b"")

    def _add(self, part: str, parts: list[bytes]) -> None:
        try:
            parts.append(base64.b64decode(part, validate=True))
        except (binascii.Error, ValueError):
            parts.append(bytes(LARGEST + 1))
        received = sum(map(len, parts))
        if received > self._size or not parts[-1]:
            self._parts = None
            self._refuse(f"{self._name} was not received whole: choose it again")
        elif received == self._size:
            self._read(b"".join(parts))

    def _read(self, content: bytes) -> None:
        self._parts, self._reading = None, True
        self._say(f"Reading {self._name}.")
        _reader.submit(self._work, self._name, content)

    def _work(self, name: str, content: bytes) -> None:
        """In the thread that reads."""
        try:
            found: OwnFile | str = read(name, content)
        except MdfaError as error:
            found = str(error)
        except Exception as error:
            _log.exception("unexpected error while a visitor's file was read")
            found = f"unexpected error ({type(error).__name__}) in {name}: see the server's log"
        self._soon(partial(self._finish, found))

    def _finish(self, found: OwnFile | str) -> None:
        self._reading = False
        if self._closed:
            return
        if isinstance(found, str):
            self._refuse(found)
            return
        stem = re.sub(r"[^a-z0-9]+", "-", found.name.lower().partition(".")[0])[:16].strip("-") or "file"
        name = f"{_PREFIX}{stem}-{secrets.token_hex(8)}"
        DATASETS.add(name, found.data, listed=False)
        self.files[name] = found
        self._say(f"{found.name}: {' '.join(found.notes)}")
        self._on_read(name)

    def _say(self, said: str) -> None:
        self.said, self.wrong = said, ""
        self._on_change()

    def _refuse(self, reason: str) -> None:
        self.said, self.wrong = "", sentence(reason) if not reason.startswith(self._name or " ") else f"{reason}."
        self._on_change()


def fitted(settings: Experiment, name: str, own: OwnFile, limits: Limits = LIMITS) -> Experiment:
    """The settings with a file as their data, and with outputs, batch size and network that fit it.

    Points that replace images also take network, initial weights, learning rate and epochs of the preset for points.
    """
    classes, examples = own.data.counts.classes, own.data.counts.train
    assert classes is not None
    assert examples is not None
    points = own.data.shape(None) == SHAPE
    if points and DATASETS[settings.data].shape(settings.image_size) != SHAPE:
        preset = PRESETS[_LIKE].experiment.to_dict()
        settings = settings.replace(**{setting: preset[setting] for setting in _TAKEN})
    settings = settings.replace(data=name, image_size=None, outputs=1 if classes == 2 else classes)
    left = examples - round(settings.validation * examples)
    if settings.batch_size > left:
        settings = settings.replace(batch_size=2 ** (left.bit_length() - 1))
    if not limits.fits(settings):
        settings = settings.replace(network=PRESETS[_LIKE].experiment.network)
    return settings
