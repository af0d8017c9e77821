"""A data set from one file of a user: a CSV of points of the plane, or a ZIP archive of small images.

Files may come from strangers. Every size is bounded before the work that depends on it, and nothing is written to disk.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from mdfa_core.base.errors import DataError
from mdfa_core.base.text import shown
from mdfa_core.data.arrays import ArrayDataSet
from mdfa_core.data.images import opened, square
from mdfa_core.data.plane import Points, to_pixels
from mdfa_core.data.source import Integers, Pixels

CSV_BYTES = 256 * 1024
"""Largest CSV file."""
ROWS = 5000
"""Most points of a CSV file."""
ZIP_BYTES = 2 * 2**20
"""Largest archive."""
IMAGES = 2000
"""Most images of an archive."""
ENTRIES = 3 * IMAGES
"""Most entries of an archive, folders and other files included."""
UNPACKED_BYTES = 16 * 2**20
"""Size of all entries of an archive together, unpacked."""
IMAGE_PIXELS = 2**20
"""Most pixels of one image."""
PIXELS = 32 * 2**20
"""Most pixels of all images of an archive together."""
SCANS = 32
"""Most scans of a JPEG image; a progressive one has about ten, and each costs as much as a whole image."""
CLASSES = 10
"""Most classes; two are the least."""
LEAST = 5
"""Fewest examples of a class."""
LABEL = 40
"""Most characters of a label or of a folder's name."""
SIDE = 16
"""Pixels a side that images of an archive are scaled to."""
REACH = 3.0
"""Points farther from the mean, in standard deviations of their column, move to the edge of the square."""

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_MAGIC = (b"PK\3\4", b"PK\5\6")  # how a ZIP archive begins
_COLUMNS = ("x", "y")
_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
_FORMATS = ("PNG", "JPEG")
_SPLIT_SEED = 0
_LINE = 1000  # characters of the first line of a CSV file
_NAME = 40  # characters of a file name in messages


@dataclass(frozen=True, eq=False, kw_only=True)
class OwnFile:
    """A user's file, read.

    Attributes:
        name: of the file, without folders; at most 40 characters.
        sha256: of its content, hexadecimal.
        data: the data set.
        notes: sentences that say what the file holds and what was done with it.
    """

    name: str
    sha256: str
    data: ArrayDataSet
    notes: tuple[str, ...]


def read(name: str, content: bytes) -> OwnFile:
    """Read a CSV file or a ZIP archive; the content decides which it is.

    A **CSV** has two columns of numbers and a label; comma, semicolon or tab between them; a head line or none. Each
    column is standardised: x becomes (x - mean) / (standard deviation). The square from -`REACH` to `REACH` becomes the
    plane (see `mdfa_core.data.plane.Plane`).

    A **ZIP archive** has one folder of PNG or JPEG images for each class. The largest centred square of an image is
    scaled to `SIDE` × `SIDE` pixels (see `mdfa_core.data.images.read_image`). If all images are grey, they have one
    channel, otherwise three.

    A fifth of each class, drawn with a fixed seed, is the test set.

    Args:
        name: of the file, for messages.
        content: of the file.

    Raises:
        DataError: the file is too large, or something in it is not allowed; the message names the line or the entry.
    """
    name = short_name(name)
    packed = content.startswith(_MAGIC)
    bound = ZIP_BYTES if packed else CSV_BYTES
    if len(content) > bound:
        raise DataError(f"{name} has {_size(len(content))}: {_size(bound)} are allowed")
    if not content:
        raise DataError(f"{name} is empty: give a CSV file of points, or a ZIP archive of images")
    digest = hashlib.sha256(content).hexdigest()
    found = _archive(name, content) if packed else _table(name, content)
    return OwnFile(name=name, sha256=digest, data=found.data_set(name, digest), notes=found.notes)


def from_file(path: str | os.PathLike[str], *, sha256: str | None = None) -> ArrayDataSet:
    """Read the data set of a CSV file or a ZIP archive; see `read`.

    `DATASETS.add("mine", from_file(path))` adds it.

    Args:
        path: the file.
        sha256: the expected SHA-256 of its content, hexadecimal; default: any.

    Raises:
        DataError: the file cannot be read, is not the expected one, or has something in it that is not allowed.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(max(CSV_BYTES, ZIP_BYTES) + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give the path of a file") from None
    own = read(path.name, content)
    if sha256 is not None and own.sha256 != sha256:
        raise DataError(f"{path} has the SHA-256 {own.sha256}, not {sha256}: give the file of the run")
    return own.data


def short_name(name: str) -> str:
    """The last part of a file's name, printable, in at most 40 characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    last = "".join(letter if letter.isprintable() else "?" for letter in last[-200:]) or "file"
    return last if len(last) <= _NAME else last[: _NAME - 9] + "…" + last[-8:]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Found:
    """What a file holds: images [N, C, H, W], their labels as text, and what was done with them."""

    pixels: Pixels
    labels: Sequence[str]
    notes: tuple[str, ...]

    def data_set(self, name: str, digest: str) -> ArrayDataSet:
        names = _class_names(name, self.labels)
        number = {label: class_id for class_id, label in enumerate(names)}
        class_ids = np.array([number[label] for label in self.labels], dtype=np.int64)
        test = _test_part(class_ids)
        return ArrayDataSet(
            train_images=self.pixels[~test],
            train_labels=class_ids[~test],
            test_images=self.pixels[test],
            test_labels=class_ids[test],
            class_names=names,
            title=f"your file {name}",
            source=f"{name}, SHA-256 {digest}",
            licence="the user's",
        )


def _class_names(name: str, labels: Sequence[str]) -> tuple[str, ...]:
    counts = Counter(labels)
    if len(counts) < 2:
        only = next(iter(counts))
        raise DataError(f"{name} has the class {shown(only)} alone: give examples of 2 to {CLASSES} classes")
    if len(counts) > CLASSES:
        raise DataError(f"{name} has {len(counts):,} classes: give 2 to {CLASSES}")
    rare = min(counts, key=lambda label: counts[label])
    if counts[rare] < LEAST:
        raise DataError(
            f"{name} has {counts[rare]} example{'s' * (counts[rare] > 1)} of the class {shown(rare)}: "
            f"give at least {LEAST} of each class"
        )
    numbers = all(label.isascii() and label.isdigit() for label in counts)
    return tuple(sorted(counts, key=(lambda label: (int(label), label)) if numbers else str))


def _test_part(class_ids: Integers) -> np.ndarray:
    """Which examples are test examples: a fifth of each class, one at least."""
    generator, test = np.random.default_rng(_SPLIT_SEED), np.zeros(len(class_ids), dtype=bool)
    for class_id in range(class_ids.max() + 1):
        places = generator.permutation(np.flatnonzero(class_ids == class_id))
        test[places[: max(1, round(len(places) / 5))]] = True
    return test


# ----------------------------------------------------------------------------------------------------------------- CSV


def _table(name: str, content: bytes) -> _Found:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is neither text in UTF-8 (byte {error.start + 1:,} is not) nor a ZIP archive: "
            f"save it as CSV in UTF-8"
        ) from None
    if "\0" in text:
        raise DataError(f"{name} is no text, because it has zero bytes: save it as CSV in UTF-8")
    delimiter = _delimiter(name, text)
    xy: list[tuple[float, float]] = []
    labels: list[str] = []
    head = ""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in rows:
            line = rows.line_num
            if not any(field.strip() for field in row):
                continue
            if len(row) != 3:
                raise DataError(
                    f"line {line} of {name} has {len(row):,} column{'s' * (len(row) != 1)} separated by "
                    f"{_DELIMITERS[delimiter]}: give three, x, y and a label"
                )
            if not xy and not head and not any(_is_number(field) for field in row[:2]):
                head = ", ".join(shown(field.strip()) for field in row)
                continue
            if len(xy) == ROWS:
                raise DataError(f"{name} has more than {ROWS:,} points: give {ROWS:,} or fewer")
            point = [_number(name, line, column, field) for column, field in zip(_COLUMNS, row, strict=False)]
            xy.append((point[0], point[1]))
            labels.append(_label(row[2].strip(), f"line {line} of {name}: the label"))
    except csv.Error as error:
        raise DataError(f"line {rows.line_num} of {name} is not readable CSV ({error}): correct it") from None
    if not xy:
        raise DataError(f"{name} has no points: give lines with x, y and a label")
    standard_NF = _standardised(name, np.array(xy))
    pixels_NF = to_pixels(standard_NF, REACH)
    outside = int((np.abs(standard_NF) > REACH).any(axis=1).sum())
    notes = [
        f"{len(xy):,} points in {len(set(labels))} classes.",
        "Both columns are standardised: mean 0, standard deviation 1.",
    ]
    if head:
        notes.insert(0, f"The first line is the head: {head}.")
    if outside:
        moved = "1 point lies" if outside == 1 else f"{outside:,} points lie"
        notes.append(f"{moved} more than {REACH:g} standard deviations from the mean, moved to the edge.")
    return _Found(pixels=pixels_NF[:, :, None, None], labels=labels, notes=tuple(notes))


def _delimiter(name: str, text: str) -> str:
    """The delimiter that cuts the first line with anything in it into three columns; a comma if none does."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if len(first) > _LINE:
        columns = 1 + max(map(first.count, _DELIMITERS))
        raise DataError(
            f"the first line of {name} has {len(first):,} characters in {columns:,} column{'s' * (columns != 1)}: "
            f"give three columns, x, y and a label, in at most {_LINE} characters"
        )
    for delimiter in _DELIMITERS:
        try:
            (row,) = csv.reader([first], delimiter=delimiter, skipinitialspace=True, strict=True)
        except (csv.Error, ValueError):
            continue
        if len(row) == 3:
            return delimiter
    return max(_DELIMITERS, key=first.count)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _number(name: str, line: int, column: str, field: str) -> float:
    value = field.strip()
    where = f"line {line} of {name}: {column}"
    if not value:
        raise DataError(f"{where} is empty; give a number, or remove the line")
    if len(value) > LABEL or "_" in value or not _is_number(value):
        comma = " with a decimal point" if "," in value else ""
        raise DataError(f"{where} is {shown(value)}; give a number{comma}")
    if not math.isfinite(number := float(value)):
        raise DataError(f"{where} is {value}; give a finite number, or remove the line")
    return number


def _label(text: str, what: str) -> str:
    """A label, after a check."""
    if not text:
        raise DataError(f"{what} is empty; give every example a label")
    if len(text) > LABEL:
        raise DataError(f"{what} has {len(text):,} characters; give at most {LABEL}")
    if not text.isprintable():
        raise DataError(f"{what} is {shown(text)}; give printable characters")
    return text


def _standardised(name: str, xy_NF: Points) -> Points:
    largest_F = np.abs(xy_NF).max(axis=0)
    scaled_NF = xy_NF / np.where(largest_F > 0, largest_F, 1)  # squares of large numbers would be infinite
    for column, values in zip(_COLUMNS, scaled_NF.T, strict=True):
        if np.ptp(values) < 1e-9:
            raise DataError(f"{name} has the same {column} in all lines: give a column that varies")
    standard_NF: Points = (scaled_NF - scaled_NF.mean(axis=0)) / scaled_NF.std(axis=0)
    return standard_NF


# ---------------------------------------------------------------------------------------------------------- ZIP archive


def _archive(name: str, content: bytes) -> _Found:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _images(name, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(f"{name} is not a readable ZIP archive ({shown(str(error))}): make it anew") from None


def _images(name: str, archive: zipfile.ZipFile) -> _Found:
    entries = archive.infolist()
    if len(entries) > ENTRIES:
        raise DataError(f"{name} has {len(entries):,} entries: {ENTRIES:,} are allowed")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > UNPACKED_BYTES:
        raise DataError(f"{name} has {_size(unpacked)} unpacked: {_size(UNPACKED_BYTES)} are allowed")
    files = [entry for entry in entries if not entry.is_dir()]
    chosen = [entry for entry in files if _is_image(entry.filename)]
    if not chosen:
        raise DataError(f"{name} has no image: give one folder of PNG or JPEG images for each class")
    if len(chosen) > IMAGES:
        raise DataError(f"{name} has {len(chosen):,} images: {IMAGES:,} are allowed")
    labels = _folders(name, [PurePosixPath(entry.filename) for entry in chosen])
    _class_names(name, labels)  # before the work of decoding
    pixels, left = np.empty((len(chosen), 3, SIDE, SIDE), dtype=np.uint8), PIXELS
    for number, entry in enumerate(chosen):
        where = f"{name}: {shown(entry.filename)}"
        left -= _decode(where, _content(where, archive, entry), pixels[number], left)
    grey = bool((pixels[:, :1] == pixels).all())
    notes = [
        f"{len(chosen):,} {'grey' if grey else 'colour'} images in {len(set(labels))} classes.",
        f"Each is cut to its centred square and scaled to {SIDE}×{SIDE} pixels.",
    ]
    if others := len(files) - len(chosen):
        notes.append(f"{others:,} other file{'s were' if others != 1 else ' was'} ignored.")
    return _Found(pixels=pixels[:, :1].copy() if grey else pixels, labels=labels, notes=tuple(notes))


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not hidden and path.suffix.lower() in _IMAGE_ENDINGS


def _folders(name: str, paths: Sequence[PurePosixPath]) -> list[str]:
    """The class of every image: its folder. One folder around all of them is left out."""
    tops = {path.parts[0] for path in paths}
    above = 1 if len(tops) == 1 and all(len(path.parts) > 2 for path in paths) else 0
    for path in paths:
        if len(path.parts) != above + 2:
            where = "in no folder" if len(path.parts) < above + 2 else "in a folder of folders"
            raise DataError(f"{name}: {shown(str(path))} lies {where}; give one folder of images for each class")
    return [_label(path.parts[above], f"{name}: the folder of {shown(str(path))}") for path in paths]


def _content(where: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.flag_bits & 1:
        raise DataError(f"{where} is encrypted; make the archive without a password")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{where} is compressed in a rare way; make the archive with the usual one (deflate)")
    with archive.open(entry) as file:
        return file.read(entry.file_size)  # no more than was counted, whatever the data says


def _decode(where: str, content: bytes, target: Pixels, left: int) -> int:
    """Write an image of so many pixels at most into `target`; returns their number."""
    if content.startswith(b"\xff\xd8") and content.count(b"\xff\xda") > SCANS:
        raise DataError(f"{where} has more than {SCANS} scans; save it as a usual JPEG image")
    with opened(io.BytesIO(content), where, _FORMATS) as image:
        pixels = image.width * image.height
        if pixels > IMAGE_PIXELS:
            raise DataError(
                f"{where} has {image.width:,}×{image.height:,} pixels: {IMAGE_PIXELS:,} are allowed; scale it down"
            )
        if pixels > left:
            raise DataError(f"{where} is too much: all images together may have {PIXELS:,} pixels; scale them down")
        target[:] = square(image, SIDE)
    return pixels


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MB" if count >= 2**20 else f"{count / 1024:,.0f} kB"
