"""A user's own file: what becomes a data set, what is refused with which sentence, and at what cost."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdfa_core import DATASETS, Experiment, Run
from mdfa_core.base.errors import DataError
from mdfa_core.data import from_file, own_file
from mdfa_core.data.images import read_image
from mdfa_core.data.own_file import LABEL, LEAST, REACH, ROWS, SIDE, OwnFile, read
from mdfa_core.data.plane import SHAPE
from mdfa_core.training.events import Finished

LABELS = ("red", "green", "blue")


def points(classes: int = 3, each: int = 20, *, delimiter: str = ",", head: str = "", end: str = "\n") -> str:
    """A CSV of well separated classes, one after the other."""
    random = np.random.default_rng(0)
    lines = [
        delimiter.join((f"{x:.3f}", f"{y:.3f}", LABELS[label]))
        for label in range(classes)
        for x, y in random.normal((100 + 30 * label, label), 1, (each, 2))
    ]
    return end.join([*([head] if head else []), *lines])


def png(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def picture(number: int, height: int = 20, width: int = 30, *, grey: bool = False) -> np.ndarray:
    shape = (height, width) if grey else (height, width, 3)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def archive(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return file.getvalue()


def pets(top: str = "", *, grey: bool = False, form: str = "PNG") -> dict[str, bytes]:
    """Images in two folders."""
    return {
        f"{top}{name}/{number}.{form.lower()}": png(picture(number + 100 * place, grey=grey), form)
        for place, name in enumerate(("cat", "dog"))
        for number in range(10)
    }


# ----------------------------------------------------------------------------------------------------------------- CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("head", ["", "x{0}y{0}colour"])
def test_points_are_read_whatever_separates_them(delimiter: str, end: str, head: str) -> None:
    text = points(delimiter=delimiter, end=end, head=head.format(delimiter))
    for content in (text.encode(), f"\ufeff{text}{end}{end}".encode()):
        own = read("points.csv", content)
        assert own.data.shape(None) == SHAPE
        assert own.data.class_names == ("blue", "green", "red")
        assert own.data.counts.train == 48
        assert own.data.counts.test == 12
        assert np.bincount(own.data.test_labels).tolist() == [4, 4, 4]
        assert own.sha256 == hashlib.sha256(content).hexdigest()
        assert ("The first line is the head: 'x', 'y', 'colour'." in own.notes) == bool(head)
        assert "60 points in 3 classes." in own.notes


def test_columns_are_standardised() -> None:
    own = read("points.csv", points(each=200).encode())
    pixels = np.concatenate([own.data.train_images, own.data.test_images]).reshape(-1, 2)
    standard = (pixels / 127.5 - 1) * REACH
    assert standard.mean(0) == pytest.approx([0, 0], abs=0.02)
    assert standard.std(0) == pytest.approx([1, 1], abs=0.02)
    assert any("standardised" in note for note in own.notes)


def test_far_points_move_to_the_edge_and_that_is_said() -> None:
    own = read("points.csv", (points(2) + "\n1e300,0,red\n").encode())
    assert "1 point lies more than 3 standard deviations from the mean, moved to the edge." in own.notes
    pixels = np.concatenate([own.data.train_images, own.data.test_images]).reshape(-1, 2)
    assert (pixels[:, 0] == 255).sum() == 1


def test_the_split_is_the_same_each_time_and_mixes_the_lines() -> None:
    first, second = (read("points.csv", points().encode()).data for _ in range(2))
    assert np.array_equal(first.test_images, second.test_images)
    assert not np.array_equal(first.test_images[:4], first.train_images[-4:])


def test_labels_that_are_numbers_are_in_their_order() -> None:
    lines = "\n".join(f"{n},{n * n},{label}" for n in range(12) for label in (10, 9, 2))
    assert read("a.csv", lines.encode()).data.class_names == ("2", "9", "10")


MANY = "\n".join(f"{n},{n % 7},c{n % 11}" for n in range(200))
REFUSED = {
    "nothing": ("", "a.csv is empty: give a CSV file of points, or a ZIP archive of images"),
    "no lines": ("\n\n", "a.csv has no points"),
    "only a head": ("x,y,label\n", "a.csv has no points"),
    "NaN": ("1,2,a\n1,nan,a", "line 2 of a.csv: y is nan; give a finite number, or remove the line"),
    "infinite": ("-inf,2,a", "line 1 of a.csv: x is -inf; give a finite number"),
    "too large for a number": ("1e999,2,a", "line 1 of a.csv: x is 1e999; give a finite number"),
    "no number": ("x,y,l\n1,2,a\n1,two,a", "line 3 of a.csv: y is 'two'; give a number"),
    "half a head": ("x,1,a\n1,2,a", "line 1 of a.csv: x is 'x'; give a number"),
    "comma in a number": ("1;2,5;a", "line 1 of a.csv: y is '2,5'; give a number with a decimal point"),
    "underscore in a number": ("1_0,2,a", "line 1 of a.csv: x is '1_0'; give a number"),
    "missing": ("1,2,a\n1,,a", "line 2 of a.csv: y is empty; give a number, or remove the line"),
    "missing label": ("1,2,a\n1,2,", "line 2 of a.csv: the label is empty"),
    "two columns": ("1,2\n", "line 1 of a.csv has 2 columns separated by comma: give three, x, y and a label"),
    "four columns": ("1;2;a\n1;2;3;a\n", "line 2 of a.csv has 4 columns separated by semicolon: give three"),
    "many columns": (",".join("1" * 10**5), "the first line of a.csv has 199,999 characters in 100,000 columns"),
    "later many columns": ("1,2,a\n" + ",".join("1" * 10**5), "line 2 of a.csv has 100,000 columns"),
    "a long label": ("1,2,a\n1,2," + "b" * 10**5, "line 2 of a.csv: the label has 100,000 characters; give at most 40"),
    "a longer label": ("1,2,a\n1,2," + "b" * 140_000, "line 2 of a.csv is not readable CSV"),
    "a strange label": ("1,2,a\x07", "line 1 of a.csv: the label is "),
    "quotes left open": ('1,2,"a\n1,2,b', "is not readable CSV"),
    "one class": (points(1), "a.csv has the class 'red' alone: give examples of 2 to 10 classes"),
    "many classes": (MANY, "a.csv has 11 classes: give 2 to 10"),
    "a rare class": (points(2) + "\n1,2,rare", f"a.csv has 1 example of the class 'rare': give at least {LEAST}"),
    "the same x": ("\n".join(f"7,{n},{n % 2}" for n in range(20)), "a.csv has the same x in all lines"),
    "the same y": ("\n".join(f"{n},0,{n % 2}" for n in range(20)), "a.csv has the same y in all lines"),
    "many points": ("1,2,a\n" * (ROWS + 1), "a.csv has more than 5,000 points"),
    "large": ("1,2,a\n" * 10**5, "a.csv has 586 kB: 256 kB are allowed"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_of_points(what: str) -> None:
    text, message = REFUSED[what]
    with pytest.raises(DataError) as refused:
        read("a.csv", text.encode())
    said = str(refused.value)
    assert message in said
    assert len(said) < 250
    assert "\n" not in said


@pytest.mark.parametrize("content", [b"\xff\xfe1\0,\0", b"\x89PNG\r\n", b"1,2,\xe4\n"])
def test_what_is_no_text_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="neither text in UTF-8"):
        read("a.csv", content)
    with pytest.raises(DataError, match="zero bytes"):
        read("a.csv", b"1,2,a\0")


# ---------------------------------------------------------------------------------------------------------- ZIP archive


@pytest.mark.parametrize("top", ["", "animals/"])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("grey", [False, True])
def test_images_are_read_as_an_image_folder_reads_them(top: str, form: str, grey: bool, tmp_path: Path) -> None:
    files = pets(top, grey=grey, form=form)
    own = read("pets.zip", archive(files))
    assert own.data.shape(None) == (1 if grey else 3, SIDE, SIDE)
    assert own.data.class_names == ("cat", "dog")
    assert (own.data.counts.train, own.data.counts.test) == (16, 4)
    assert own.notes[0] == f"20 {'grey' if grey else 'colour'} images in 2 classes."
    path = tmp_path / "image"
    expected = set()
    for content in files.values():
        path.write_bytes(content)
        expected.add(read_image(path, SIDE)[: 1 if grey else 3].tobytes())
    assert {image.tobytes() for part in (own.data.train_images, own.data.test_images) for image in part} == expected


def test_other_files_are_ignored_and_that_is_said() -> None:
    others = {"readme.txt": b"x", "cat/.hidden.png": b"x", "__MACOSX/cat/._0.png": b"x", "cat/notes.pdf": b"x"}
    assert "4 other files were ignored." in read("pets.zip", archive({**pets(), **others})).notes


def broken(files: dict[str, bytes], **more: bytes) -> bytes:
    return archive({**files, **{name.replace("__", "/"): content for name, content in more.items()}})


def wide(width: int, height: int) -> bytes:
    """A PNG of some bytes whose head announces a large image."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + body + b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


def test_what_is_refused_of_images() -> None:
    deep = {f"a/b/{name}": content for name, content in pets().items()}
    scans = png(picture(1), "JPEG").replace(b"\xff\xd9", b"\xff\xda\0\1" * 40 + b"\xff\xd9")
    rows = {
        "pets.zip has no image": archive({"a.txt": b"x"}),
        "'0.png' lies in no folder": archive({"0.png": b"x", **pets()}),
        "'a/b/cat/0.png' lies in a folder of folders": archive(deep),
        "lies in a folder of folders; give one folder": archive({**pets("train/"), **pets("val/")}),
        "pets.zip has the class 'cat' alone": archive({n: c for n, c in pets().items() if n.startswith("cat")}),
        "1 example of the class 'rare'": archive({**pets(), "rare/0.png": b"x"}),
        "'cat/0.png' is not an image of a known format": archive({**pets(), "cat/0.png": b"no image"}),
        "'cat/0.png' is not a readable image": archive({**pets(), "cat/0.png": pets()["cat/0.png"][:200]}),
        "'cat/0.png' has 9,000×9,000 pixels: 1,048,576 are allowed": archive({**pets(), "cat/0.png": wide(9000, 9000)}),
        "(Image size (900000000 pixels) exceeds limit": archive({**pets(), "cat/0.png": wide(30000, 30000)}),
        "'cat/0.png' has 1,025×1,024 pixels": archive({**pets(), "cat/0.png": wide(1025, 1024)}),
        "'cat/a.jpg' has more than 32 scans": archive({**pets(), "cat/a.jpg": scans}),
        "the folder of": archive({**pets(), **{f"{'c' * 41}/{n}.png": b"x" for n in range(9)}}),
        "not a readable ZIP archive": b"PK\3\4 and nothing else",
        "pets.zip has 2.5 MB: 2.0 MB are allowed": b"PK\3\4" + bytes(5 * 2**19),
    }  # fmt: skip
    for message, content in rows.items():
        with pytest.raises(DataError) as refused:
            read("pets.zip", content)
        assert message in str(refused.value)
        assert len(str(refused.value)) < 250


def test_images_of_other_formats_are_not_even_tried() -> None:
    gif = png(picture(1, grey=True), "GIF")
    with pytest.raises(DataError, match=r"'cat/0.png' is not an image of a known format"):
        read("pets.zip", archive({**pets(), "cat/0.png": gif}))


def test_an_archive_that_unpacks_to_much_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object, **__: object) -> None:
        pytest.fail("something was unpacked")

    bomb = archive({**pets(), "cat/large.png": bytes(2**24 + 1)})
    many = archive({f"cat/{n}.png": b"" for n in range(own_file.ENTRIES + 1)})
    images = archive({f"cat/{n}.png": b"" for n in range(own_file.IMAGES + 1)})
    assert len(bomb) < own_file.ZIP_BYTES
    monkeypatch.setattr(zipfile.ZipFile, "open", no)
    with pytest.raises(DataError, match=r"pets.zip has 16\.\d MB unpacked: 16\.0 MB are allowed"):
        read("pets.zip", bomb)
    with pytest.raises(DataError, match="has 6,001 entries: 6,000 are allowed"):
        read("pets.zip", many)
    with pytest.raises(DataError, match="has 2,001 images: 2,000 are allowed"):
        read("pets.zip", images)


def test_an_archive_that_lies_about_a_size_unpacks_no_more() -> None:
    """The entry says 10 bytes and holds 16 MB of zeros."""
    content = archive({**pets(), "cat/large.png": bytes(2**24 - 2**20)})
    honest = struct.pack("<I", 2**24 - 2**20)
    assert content.count(honest) == 2  # in the entry's own head and in the directory
    with pytest.raises(DataError, match=r"'cat/large.png' is not an image|not a readable ZIP"):
        read("pets.zip", content.replace(honest, struct.pack("<I", 10)))


def test_all_images_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_file, "PIXELS", 20 * 600 - 1)
    with pytest.raises(DataError, match=r"'dog/9.png' is too much: all images together may have 11,999 pixels"):
        read("pets.zip", archive(pets()))


def test_an_encrypted_or_rarely_packed_entry_is_refused() -> None:
    content = bytearray(archive({**pets(), "cat/0.png": pets()["cat/0.png"]}))
    for start in range(len(content) - 4):
        if content[start : start + 4] == b"PK\1\2":
            content[start + 8] |= 1
    with pytest.raises(DataError, match=r"'cat/0.png' is encrypted"):
        read("pets.zip", bytes(content))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as made:
        for name, image in pets().items():
            made.writestr(name, image)
    with pytest.raises(DataError, match=r"'cat/0.png' is compressed in a rare way"):
        read("pets.zip", file.getvalue())


# ------------------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("given", "shown"),
    [("a.csv", "a.csv"), ("../../etc/a.csv", "a.csv"), ("C:\\x\\a.csv", "a.csv"), ("", "file"), ("a\nb", "a?b"),
     ("n" * 300 + ".csv", "n" * 31 + "…" + "nnnn.csv")],
)  # fmt: skip
def test_names_are_short_and_printable(given: str, shown: str) -> None:
    assert read(given, points().encode()).name == shown
    assert own_file.short_name(shown) == shown


def test_a_path_gives_the_same_data_set_and_can_ask_for_a_checksum(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text(points())
    own = read("points.csv", points().encode())
    data = from_file(path, sha256=own.sha256)
    assert np.array_equal(data.train_images, own.data.train_images)
    assert data.source == f"points.csv, SHA-256 {own.sha256}"
    with pytest.raises(DataError, match=f"has the SHA-256 {own.sha256}, not 00: give the file of the run"):
        from_file(path, sha256="00")
    with pytest.raises(DataError, match="cannot be read"):
        from_file(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="cannot be read"):
        from_file(tmp_path)


@pytest.mark.parametrize("method", ["bp", "fa", "dfa", "mdfa"])
def test_a_run_learns_from_it(method: str) -> None:
    DATASETS.add("test-own", read("points.csv", points(each=60).encode()).data, listed=False)
    try:
        experiment = Experiment(
            data="test-own", method=method, outputs=3, network="fc:16", forward_init="normal:1", batch_size=16,
            learning_rate=0.1, epochs=60,
        )  # fmt: skip
        *_, finished = Run(experiment, device="cpu").events()
    finally:
        DATASETS.remove("test-own")
    assert isinstance(finished, Finished)
    assert finished.test_accuracy is not None
    assert finished.test_accuracy[0] > 0.9


def test_labels_are_bounded_and_stay_text() -> None:
    label = "<b>&" + "x" * (LABEL - 4)
    own: OwnFile = read("a.csv", points(2).replace("red", label).encode())
    assert label in own.data.class_names
