from __future__ import annotations

import hashlib
import io
import socket
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from mdfa_core.base.errors import DataError
from mdfa_core.data import DATASETS, check, fetch, load_task
from mdfa_core.data.cifar import CIFAR10, CIFAR100, Cifar
from mdfa_core.data.data_dir import find_data_dir
from mdfa_core.data.download import RemoteFile, download, extract
from mdfa_core.data.mnist import Mnist

CONTENT = np.random.default_rng(0).bytes(300_000)
FILE = RemoteFile("http://official.invalid/folder", "some.bin", hashlib.md5(CONTENT).hexdigest())


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MDFA_MIRROR", raising=False)
    assert FILE.address() == "http://official.invalid/folder/some.bin"
    monkeypatch.setenv("MDFA_MIRROR", "http://variable.invalid/")
    assert FILE.address() == "http://variable.invalid/some.bin"
    assert FILE.address("http://argument.invalid") == "http://argument.invalid/some.bin"
    monkeypatch.setenv("MDFA_MIRROR", "")
    assert FILE.address() == "http://official.invalid/folder/some.bin"


def test_a_good_file_is_downloaded_once(server: Any, tmp_path: Path) -> None:
    server.files["some.bin"] = CONTENT
    for _ in range(2):
        path = download(FILE, tmp_path / "new" / "folder")
        assert path == tmp_path / "new" / "folder" / "some.bin"
        assert path.read_bytes() == CONTENT
    assert server.asked == ["some.bin"]
    assert listing(path.parent) == ["some.bin"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_progress_bar_on_terminals_only(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("sys.stderr", screen)
    server.files["some.bin"] = CONTENT
    download(FILE, tmp_path)
    assert ("some.bin: 100%" in screen.getvalue()) == terminal


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_goes_on(server: Any, tmp_path: Path, ranges: bool) -> None:
    server.files["some.bin"], server.cut["some.bin"], server.ranges = CONTENT, 70_000, ranges
    if not ranges:  # every try starts anew, so it succeeds only once the server has recovered
        with pytest.raises(DataError, match="the connection broke off"):
            download(FILE, tmp_path)
        assert len(server.asked) == 4  # the first bytes start the row of pauses anew
        return
    assert download(FILE, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 5  # 4 × 70,000 bytes and the rest


@pytest.mark.parametrize(
    ("mirror", "named"),
    [
        ("http://user:secret@127.0.0.1:9", "http://127.0.0.1:9/some.bin"),
        ("http://user:secret@[::1", "http://[::1/some.bin"),  # no address, and urlsplit raises ValueError
        ("http://user:se/cr?et@secret@127.0.0.1:9", "http://127.0.0.1:9/some.bin"),
        ("user:secret@127.0.0.1:9", "download 127.0.0.1:9/some.bin"),
        ("http://127.0.0.1:9/?token=secret", "http://127.0.0.1:9/?…"),
    ],
)
def test_a_mirrors_password_is_in_no_message(
    mirror: str, named: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError) as caught:
        download(FILE, tmp_path, mirror=mirror)
    said = capfd.readouterr()
    assert named in str(caught.value)
    assert not any(part in f"{caught.value}{said.out}{said.err}" for part in ("secret", "user", "cr?et"))


@pytest.mark.parametrize("stands", [None, b"an older file"])
class TestFailuresLeaveWhatWasThere:
    def download(self, folder: Path, stands: bytes | None, message: str) -> None:
        path = folder / "some.bin"
        if stands is not None:
            path.write_bytes(stands)
        with pytest.raises(DataError, match=message) as caught:
            download(FILE, folder)
        assert "MDFA_MIRROR" in str(caught.value)
        assert f"put some.bin into {folder} by hand" in str(caught.value)
        assert listing(folder) == ([] if stands is None else ["some.bin"])
        assert stands is None or path.read_bytes() == stands

    def test_connection_breaks(self, server: Any, tmp_path: Path, stands: bytes | None) -> None:
        server.files["some.bin"], server.cut["some.bin"] = CONTENT, 200_000
        self.download(tmp_path, stands, r"cannot download http://127.*/some\.bin \(the connection broke off")

    def test_truncated_on_the_server(self, server: Any, tmp_path: Path, stands: bytes | None) -> None:
        server.files["some.bin"] = CONTENT[:200_000]
        self.download(tmp_path, stands, rf"some\.bin did not send the official file \(its MD5 is not {FILE.md5}\)")

    def test_another_file_on_the_server(self, server: Any, tmp_path: Path, stands: bytes | None) -> None:
        server.files["some.bin"] = b"<html>please log in</html>"
        self.download(tmp_path, stands, "so the download was discarded")

    def test_not_on_the_server(self, server: Any, tmp_path: Path, stands: bytes | None) -> None:
        self.download(tmp_path, stands, r"\(the server answers 404 Not Found\)")

    def test_no_server(
        self, server: Any, tmp_path: Path, stands: bytes | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            monkeypatch.setenv("MDFA_MIRROR", f"http://127.0.0.1:{unused.getsockname()[1]}")
            self.download(tmp_path, stands, r"\(no connection\)")

    def test_a_certificate_that_cannot_be_verified(
        self, tmp_path: Path, stands: bytes | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: Any, **more: Any) -> None:
            raise requests.exceptions.SSLError("certificate verify failed")

        monkeypatch.setattr(requests.Session, "request", refuse)
        self.download(tmp_path, stands, r"\(the server's certificate cannot be verified\)")

    def test_no_address(self, tmp_path: Path, stands: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MDFA_MIRROR", "not an address")
        self.download(tmp_path, stands, r"cannot download not an address/some.bin: give an http\(s\) address")

    def test_another_kind_of_address(
        self, tmp_path: Path, stands: bytes | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MDFA_MIRROR", "file:///tmp")
        self.download(tmp_path, stands, r"cannot download file:///tmp/some.bin: give an http\(s\) address")


def test_a_wrong_file_that_stands_is_replaced_by_a_good_download(server: Any, tmp_path: Path) -> None:
    (tmp_path / "some.bin").write_bytes(b"wrong")
    server.files["some.bin"] = CONTENT
    assert download(FILE, tmp_path).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made(server: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server.files["some.bin"] = CONTENT
    with pytest.raises(DataError, match=r"cannot write .*file/some\.bin"):
        download(FILE, tmp_path / "file")


class TestExtract:
    def archive(self, path: Path, members: dict[str, bytes | None]) -> Path:
        with tarfile.open(path, "w:gz") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                if content is None:
                    member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
                    tar.addfile(member)
                else:
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        return path

    def test_takes_the_named_files_only(self, tmp_path: Path) -> None:
        members = {"top/a": b"A", "top/b": b"B", "top/evil": b"E", "../outside": b"O", "/absolute": b"O"}
        archive = self.archive(tmp_path / "x.tar.gz", members)
        extract(archive, "top", ["a", "b"], tmp_path / "into")
        assert listing(tmp_path / "into") == ["a", "b"]
        assert listing(tmp_path) == ["into", "x.tar.gz"]
        assert (tmp_path / "into" / "b").read_bytes() == b"B"

    @pytest.mark.parametrize("broken", [{"top/a": b"A"}, {"top/a": b"A", "top/b": None}])
    def test_an_incomplete_archive_changes_nothing(self, tmp_path: Path, broken: dict[str, bytes | None]) -> None:
        (tmp_path / "into").mkdir()
        (tmp_path / "into" / "a").write_bytes(b"older")
        with pytest.raises(DataError, match=r"x\.tar\.gz .* top/b: delete it and fetch the data set again"):
            extract(self.archive(tmp_path / "x.tar.gz", broken), "top", ["a", "b"], tmp_path / "into")
        assert listing(tmp_path / "into") == ["a"]
        assert (tmp_path / "into" / "a").read_bytes() == b"older"

    @pytest.mark.parametrize("kept", [0, 20, 5000])
    def test_a_broken_archive_changes_nothing(self, tmp_path: Path, kept: int) -> None:
        members: dict[str, bytes | None] = {"top/a": CONTENT[:9000], "top/b": CONTENT[9000:20_000]}
        archive = self.archive(tmp_path / "x.tar.gz", members)
        archive.write_bytes(archive.read_bytes()[:kept])
        with pytest.raises(DataError, match=r"x\.tar\.gz is not a readable archive"):
            extract(archive, "top", ["a", "b"], tmp_path / "into")
        assert listing(tmp_path / "into") == []


@pytest.fixture(params=[CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])
def served_cifar(request: pytest.FixtureRequest, server: Any, write: Any, tmp_path: Path) -> Cifar:
    """A CIFAR whose official archive is a small one on the local server."""
    data: Cifar = request.param
    folder = tmp_path / "published" / data.folder
    (write.cifar10 if data.classes == 10 else write.cifar100)(folder)
    (folder / "readme.html").write_text("not needed")
    official = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in data.files}
    md5 = server.archive(data.archive.name, folder)
    return replace(data, archive=replace(data.archive, md5=md5), official=official)


class TestCifar:
    def test_is_downloaded_into_the_cache_once(self, served_cifar: Cifar, server: Any, cache: Path) -> None:
        data_dir = find_data_dir()
        images = served_cifar.images(data_dir, "test", range(served_cifar.classes), None)
        assert len(images) > 0
        assert served_cifar.check(data_dir)[1].endswith("all checksums are the official ones")
        served_cifar.fetch(data_dir, verify=True)
        assert server.asked == [served_cifar.archive.name]
        assert listing(cache) == [served_cifar.folder]
        assert listing(cache / served_cifar.folder) == sorted(served_cifar.files)

    def test_a_good_set_survives_a_broken_repair(self, served_cifar: Cifar, server: Any, cache: Path) -> None:
        data_dir = find_data_dir()
        served_cifar.fetch(data_dir)
        path = cache / served_cifar.folder / served_cifar.test_files[0]
        good = path.read_bytes()
        path.write_bytes(good[:-5] + b".....")
        server.cut[served_cifar.archive.name] = 1000
        with pytest.raises(DataError, match="the connection broke off"):
            served_cifar.fetch(data_dir, verify=True)
        assert listing(cache) == [served_cifar.folder]
        assert listing(cache / served_cifar.folder) == sorted(served_cifar.files)
        server.cut.clear()
        served_cifar.fetch(data_dir, verify=True)
        assert path.read_bytes() == good

    def test_an_archive_put_there_by_hand_is_used(self, served_cifar: Cifar, server: Any, cache: Path) -> None:
        cache.mkdir(parents=True)
        (cache / served_cifar.archive.name).write_bytes(server.files[served_cifar.archive.name])
        served_cifar.fetch(find_data_dir())
        assert server.asked == []
        assert listing(cache) == [served_cifar.folder]

    def test_nothing_is_downloaded_into_a_named_folder(
        self, served_cifar: Cifar, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mine").mkdir()
        monkeypatch.setenv("MDFA_DATA_DIR", str(tmp_path / "mine"))
        with pytest.raises(DataError, match=r"unpack http://127.*\.tar\.gz into .*mine, or give no data folder"):
            served_cifar.fetch(find_data_dir(), verify=True)
        assert server.asked == []
        assert listing(tmp_path / "mine") == []


class TestMnist:
    def test_is_downloaded_into_the_cache_once(self, served_mnist: Mnist, server: Any, cache: Path) -> None:
        data_dir = find_data_dir()
        assert len(served_mnist.images(data_dir, "train", range(10), None)) == 100
        served_mnist.fetch(data_dir, verify=True)
        assert sorted(server.asked) == sorted(server.files) == listing(cache / "mnist")

    def test_only_what_differs_is_downloaded_again(self, served_mnist: Mnist, server: Any, cache: Path) -> None:
        data_dir = find_data_dir()
        served_mnist.fetch(data_dir)
        server.asked.clear()
        name = "t10k-labels-idx1-ubyte.gz"
        (cache / "mnist" / name).write_bytes(b"wrong")
        served_mnist.fetch(data_dir)  # ordinary loading does not spend time on checksums
        assert server.asked == []
        served_mnist.fetch(data_dir, verify=True)
        assert server.asked == [name]
        assert (cache / "mnist" / name).read_bytes() == server.files[name]

    def test_a_download_that_breaks_off_goes_on_with_the_next_file(
        self, served_mnist: Mnist, server: Any, cache: Path
    ) -> None:
        name = "train-images-idx3-ubyte.gz"
        server.cut[name] = 100
        with pytest.raises(DataError, match=rf"put {name} into .*mnist by hand"):
            served_mnist.fetch(find_data_dir())
        assert name not in listing(cache / "mnist")
        server.cut.clear()
        served_mnist.fetch(find_data_dir())
        assert listing(cache / "mnist") == sorted(server.files)
        assert len(server.asked) == 5

    def test_nothing_is_downloaded_into_a_named_folder(self, served_mnist: Mnist, server: Any, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        with pytest.raises(DataError, match=r"lacks .*mine/mnist/.*\.gz: put the official file there"):
            served_mnist.fetch(find_data_dir(tmp_path / "mine"))
        with pytest.raises(DataError, match="nowhere does not exist"):
            served_mnist.fetch(find_data_dir(tmp_path / "nowhere"))
        assert server.asked == []


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_what_is_not_the_official_file_is_not_taken_for_it(server: Any, write: Any, cache: Path, name: str) -> None:
    write.mnist(cache.parent / "fake")
    server.files |= {path.name: path.read_bytes() for path in (cache.parent / "fake").iterdir()}
    for data in (CIFAR10, CIFAR100):
        server.archive(data.archive.name, cache.parent / "fake", top=data.folder)
    for use in (lambda: load_task(name, classes=2, seed=0), lambda: fetch(name), lambda: check(name)):
        with pytest.raises(DataError, match="did not send the official file"):
            use()
    assert DATASETS[name].find(find_data_dir()) is None


def test_the_mirror_can_be_an_argument(
    served_mnist: Mnist, server: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MDFA_MIRROR")
    DATASETS.add("small mnist", served_mnist)
    try:
        assert fetch("small mnist", mirror=server.address) == cache / "mnist"
    finally:
        DATASETS.remove("small mnist")
