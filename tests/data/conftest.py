"""Fixtures: small data sets in the official file formats, and an HTTP server that can misbehave."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from mdfa_core.data.mnist import Mnist


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes strings and bytes as Python 2 wrote its one string type, so that files look like the official ones."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(content: Any) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, 2).dump(content)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


class Writer:
    """Writes small data sets into a folder, and returns what the loaders must find: {part: (pixels, class ids)}."""

    python2_pickle = staticmethod(python2_pickle)
    idx = staticmethod(idx)

    def mnist(self, folder: Path, *, packed: bool = True, each: int = 10, seed: int = 0) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        folder.mkdir(parents=True, exist_ok=True)
        parts = {}
        for part, prefix, n in (("train", "train", 10 * each), ("test", "t10k", 3 * each)):
            pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
            labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)
            for name, array in ((f"{prefix}-images-idx3-ubyte", pixels), (f"{prefix}-labels-idx1-ubyte", labels)):
                if packed:
                    (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array), mtime=0))
                else:
                    (folder / name).write_bytes(idx(array))
            parts[part] = pixels[:, None], labels.astype(np.int64)
        return parts

    def cifar10(self, folder: Path, *, each: int = 4, python: int = 2) -> dict[str, Any]:
        names = [f"data_batch_{number}" for number in range(1, 6)]
        batches = [self._cifar(folder / name, 10, each, "labels", seed, python) for seed, name in enumerate(names)]
        test = self._cifar(folder / "test_batch", 10, each, "labels", 9, python)
        meta = {"num_cases_per_batch": 10_000, "label_names": [f"thing {c}" for c in range(10)], "num_vis": 3072}
        (folder / "batches.meta").write_bytes(python2_pickle(meta) if python == 2 else pickle.dumps(meta))
        train = np.concatenate([pixels for pixels, _ in batches]), np.concatenate([labels for _, labels in batches])
        return {"train": train, "test": test}

    def cifar100(self, folder: Path, *, each: int = 6, python: int = 2) -> dict[str, Any]:
        train = self._cifar(folder / "train", 100, each, "fine_labels", 0, python)
        test = self._cifar(folder / "test", 100, 2, "fine_labels", 1, python)
        meta = {"fine_label_names": [f"kind {c}" for c in range(100)], "coarse_label_names": ["a", "b"]}
        (folder / "meta").write_bytes(python2_pickle(meta) if python == 2 else pickle.dumps(meta))
        return {"train": train, "test": test}

    def _cifar(self, path: Path, classes: int, each: int, key: str, seed: int, python: int) -> Any:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat(np.arange(classes), each))
        pixels = rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        content = {"data": pixels, key: labels.tolist(), "batch_label": "a batch", "filenames": ["x.png"] * len(labels)}
        path.write_bytes(python2_pickle(content) if python == 2 else pickle.dumps(content))
        return pixels.reshape(-1, 3, 32, 32), labels

    def image_folder(self, root: Path, *, classes: int = 4, train: int = 10, val: int = 3, size: int = 16) -> list[str]:
        """JPEG files of changing sizes, some greyscale, one CMYK; names of the class folders."""
        rng = np.random.default_rng(0)
        names = [f"n{c:08d}" for c in range(classes)]
        for part, n in (("train", train), ("val", val)):
            for name in names:
                folder = root / part / name
                folder.mkdir(parents=True)
                for i in range(n):
                    pixels = rng.integers(0, 256, (size + i % 3, size + 2 * (i % 4), 3), dtype=np.uint8)
                    mode = "CMYK" if i == 1 else "L" if i % 4 == 2 else "RGB"
                    Image.fromarray(pixels).convert(mode).save(folder / f"{name}_{i}.JPEG", "JPEG")
        lines = [f"{name}\tcreature {c}, beast {c}" for c, name in enumerate(names[:-1])]
        (root / "words.txt").write_text("\n".join(lines) + "\n")
        return names


@pytest.fixture(scope="session")
def write() -> Writer:
    return Writer()


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory, write: Writer) -> Path:
    """A data folder with a small version of every data set in the table that has files; not to be changed."""
    folder = tmp_path_factory.mktemp("everything")
    write.mnist(folder / "mnist")
    write.cifar10(folder / "cifar-10-batches-py")
    write.cifar100(folder / "cifar-100-python")
    write.image_folder(folder / "pictures")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the user's cache, on every operating system."""
    folder = tmp_path / "user cache" / "mdfa"
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(folder.parent / name))
    return folder


@dataclass
class Server:
    """What a local web server serves: whole files, files cut in the middle; everything else is not found."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    """Bytes after which the connection breaks, by name."""
    asked: list[str] = field(default_factory=list)
    ranges: bool = False
    """Whether the server sends the rest of a file if it is asked for."""

    def archive(self, name: str, folder: Path, *, top: str | None = None) -> str:
        """Serve a folder as .tar.gz under `name`; returns its MD5."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            tar.add(folder, arcname=top or folder.name)
        self.files[name] = buffer.getvalue()
        return hashlib.md5(self.files[name]).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A web server of this machine, and MDFA_MIRROR pointing to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/mirror/")
            served.asked.append(name)
            if name not in served.files:
                self.send_error(404)
                return
            content = served.files[name]
            wanted = self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
            if served.ranges and wanted:
                content = content[int(wanted) :]
                self.send_response(206)
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: served.cut.get(name, len(content))])

        def log_message(self, *arguments: object) -> None:
            """Nothing on the screen."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        served = Server(f"http://127.0.0.1:{http.server_port}/mirror")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("MDFA_MIRROR", served.address)
        monkeypatch.setattr("mdfa_core.data.download.PAUSES", (0.0, 0.0))
        yield served
        http.shutdown()
        thread.join()


@pytest.fixture
def served_mnist(server: Server, write: Writer, tmp_path: Path) -> Mnist:
    """An MNIST whose official files are small ones on the local server."""
    from mdfa_core.data.download import RemoteFile

    write.mnist(tmp_path / "published")
    files = []
    for path in sorted((tmp_path / "published").iterdir()):
        server.files[path.name] = path.read_bytes()
        files.append(RemoteFile("http://unused.invalid", path.name, hashlib.md5(path.read_bytes()).hexdigest()))
    return Mnist(files=tuple(files))
