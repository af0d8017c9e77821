from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdfa_core.base.errors import DataError
from mdfa_core.data import images
from mdfa_core.data.images import read_image


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 13), (12, 8), (9, 8), (8, 9)])
def test_the_largest_centred_square_is_cut(tmp_path: Path, height: int, width: int) -> None:
    pixels = noise(height, width)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    expected = np.empty((3, side, side), np.uint8)
    for y in range(side):
        for x in range(side):
            expected[:, y, x] = pixels[top + y, left + x]
    found = read_image(save(tmp_path / "a.png", pixels), side)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_shrinking_averages_and_growing_interpolates(tmp_path: Path) -> None:
    board = np.kron(np.indices((32, 32)).sum(0) % 2 * 255, np.ones((1, 1))).astype(np.uint8)
    found = read_image(save(tmp_path / "a.png", np.stack([board] * 3, -1)), 8)
    assert found.shape == (3, 8, 8)
    assert np.abs(found.astype(int) - 127).max() <= 4  # picking single pixels would give 0 or 255
    flat = np.full((5, 5, 3), 77, np.uint8)
    assert (read_image(save(tmp_path / "b.png", flat), 16) == 77).all()


def test_what_lies_outside_the_square_does_not_matter(tmp_path: Path) -> None:
    pixels = noise(8, 20)
    other = pixels.copy()
    other[:, :6] = 0
    other[:, 14:] = 0
    first, second = save(tmp_path / "a.png", pixels), save(tmp_path / "b.png", other)
    np.testing.assert_array_equal(read_image(first, 5), read_image(second, 5))


def test_greyscale_is_repeated(tmp_path: Path) -> None:
    grey = noise(8, 8)[..., 0]
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", grey), 8), np.stack([grey] * 3))
    found = read_image(save(tmp_path / "a.jpg", grey), 8)
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_transparency_is_dropped(tmp_path: Path) -> None:
    pixels = noise(8, 8, 4)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", pixels), 8), pixels[..., :3].transpose(2, 0, 1))


def test_palettes_become_their_colours(tmp_path: Path) -> None:
    colours = np.array([[255, 0, 0], [0, 200, 0], [10, 20, 30]], np.uint8)
    pixels = colours[np.arange(64).reshape(8, 8) % 3]
    image = Image.fromarray((np.arange(64).reshape(8, 8) % 3).astype(np.uint8))
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png", transparency=b"\0\x80\xff")
    image.save(tmp_path / "c.gif")
    for name in ("a.png", "b.png", "c.gif"):
        np.testing.assert_array_equal(read_image(tmp_path / name, 8), pixels.transpose(2, 0, 1))


def test_cmyk_is_converted(tmp_path: Path) -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    found = read_image(save(tmp_path / "a.jpg", red, "CMYK", quality=95), 16).astype(int)
    assert np.abs(found[0] - 250).max() < 6
    assert found[1:].max() < 6


def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path: Path) -> None:
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", deep), 8), np.stack([deep >> 8] * 3))


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "bmp", "webp", "ppm"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9])
def test_truncated_files_are_named(tmp_path: Path, ending: str, kept: float) -> None:
    path = save(tmp_path / f"cut.{ending}", noise(40, 40))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=rf"cut\.{ending} is not .*replace or remove it"):
        read_image(path, 40)


def test_what_is_no_image_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(DataError, match=r"text\.jpg is not an image of a known format"):
        read_image(tmp_path / "text.jpg", 8)
    with pytest.raises(DataError, match=r"gone\.jpg"):
        read_image(tmp_path / "gone.jpg", 8)


def test_of_a_large_image_no_warning_is_shown_and_one_far_too_large_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise(12, 12))
    code = """
import sys
from pathlib import Path
from PIL import Image
from mdfa_core.data.images import read_image
for Image.MAX_IMAGE_PIXELS in (100, 50):
    print(read_image(Path(sys.argv[1]), 4).shape)
"""
    command = [sys.executable, "-c", code, str(path)]
    root = Path(images.__file__).parents[2]

    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)

    assert done.stdout == "(3, 4, 4)\n"
    assert done.stderr.startswith("Traceback"), "no warning"
    assert "is not a readable image" in done.stderr
