"""Saving and resuming: the same run goes on, an old file survives a failing write, a bad file is refused."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pickle
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdfa_core import DATASETS, METHODS, OPTIMIZERS, Every, Experiment, Run
from mdfa_core.data import ArrayDataSet
from mdfa_core.errors import CheckpointError, MdfaError
from mdfa_core.events import Event, to_json

ROOT = Path(__file__).resolve().parents[1]
SMALL = Experiment(network="fc:8", epochs=2, drop_last=False, batch_size=100)  # 3 steps an epoch, the last one smaller
OFTEN: dict[str, Any] = {"progress": Every(steps=2), "probe": Every(steps=3)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.pt"


def _lines(events: Iterator[Event] | Sequence[Event]) -> list[str]:
    return [to_json(event) for event in events]


def _run(experiments: Experiment | Sequence[Experiment] = SMALL) -> Run:
    return Run(experiments, device="cpu")


def _loaded(path: Path) -> Run:
    return Run.load(path, device="cpu")


def _refused(path: Path) -> str:
    """The one sentence with which `path` is refused."""
    with pytest.raises(CheckpointError) as caught:
        _loaded(path)
    message = str(caught.value)
    assert "\n" not in message
    assert not message.endswith(".")
    return message


# --------------------------------------------------------------------------------------------------------- the same run


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("step", range(7))
def test_a_loaded_run_goes_on_as_if_nothing_had_happened(optimizer: str, step: int, path: Path) -> None:
    experiment = SMALL.replace(optimizer=optimizer, l2=0.01)
    whole = _lines(_run(experiment).events(**OFTEN))
    run = _run(experiment)
    first = _lines(run.events(steps=step, **OFTEN)) if step else []

    run.save(path)
    again = _loaded(path)

    assert again.experiments == (experiment,)
    assert (again.step, again.epoch, again.started, again.finished) == (step, -(-step // 3), step > 0, step == 6)
    assert first + _lines(again.events(**OFTEN)) == whole
    assert first + _lines(run.events(**OFTEN)) == whole  # and saving left the saved run alone


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["fc:8,6", "conv:3/3/1,4/3/2"])
def test_every_method_and_kind_of_net_is_saved_whole(method: str, network: str, path: Path) -> None:
    experiment = Experiment(method=method, network=network, optimizer="adam", epochs=2)
    run = _run(experiment)
    first = _lines(run.events(steps=2, **OFTEN))

    run.save(path)
    again = _loaded(path)

    for ours, theirs in zip(
        (*run.learner.parameters.tensors(), *run.learner.feedback),
        (*again.learner.parameters.tensors(), *again.learner.feedback),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    assert first + _lines(again.events(**OFTEN)) == _lines(_run(experiment).events(**OFTEN))


def test_events_not_yet_taken_are_saved_too(path: Path) -> None:
    pace: dict[str, Any] = {"progress": Every(steps=1), "probe": Every(steps=1)}
    whole = _lines(_run().events(**pace))
    assert len(whole) > 14
    for taken in range(len(whole) + 1):
        run = _run()
        stream = run.events(**pace)
        first = [to_json(next(stream)) for _ in range(taken)]
        run.save(path)
        stream.close()
        assert first + _lines(_loaded(path).events(**pace)) == whole, taken


def test_saving_and_loading_after_every_step_changes_nothing(path: Path) -> None:
    run = _run()
    seen: list[str] = []
    while not run.finished:
        seen += _lines(run.events(steps=1, **OFTEN))
        run.save(path)
        run = _loaded(path)

    assert seen == _lines(_run().events(**OFTEN))
    assert list(run.events()) == []


def test_a_stack_with_tasks_of_its_own_and_a_diverged_replica_is_saved_whole(path: Path) -> None:
    base = Experiment(network="fc:8", epochs=3)
    experiments = [base, base.replace(seed=1, learning_rate=1e38), base.replace(seed=4, forward_init="zeros")]
    for steps in (1, 4, 8):
        run = _run(experiments)
        first = _lines(run.events(steps=steps, **OFTEN))
        run.save(path)
        assert first + _lines(_loaded(path).events(**OFTEN)) == _lines(_run(experiments).events(**OFTEN))


def test_the_best_epoch_so_far_is_saved(path: Path) -> None:
    """The best validation accuracy comes before the saved step, and its weights are tested after it."""
    experiment = Experiment(method="bp", network="fc:16", outputs=10, epochs=9, learning_rate=3.0)
    finished = list(_run(experiment).events())[-1]
    best = finished.best_validation_epoch[0]  # type: ignore[attr-defined]
    assert best < 9
    run = _run(experiment)
    list(run.events(steps=best * run.steps_per_epoch + 5))

    run.save(path)

    assert to_json(list(_loaded(path).events())[-1]) == to_json(finished)


def test_given_arrays_and_a_new_learning_rate_are_saved(path: Path) -> None:
    def prepared() -> Run:
        run = _run()
        random = np.random.default_rng(0)
        run.set_parameters([random.uniform(0, 0.3, layer.weight_shape) for layer in run.network.layers])
        run.set_feedback([random.uniform(0, 2, (1, 8))])
        list(run.events(steps=2))
        run.set_learning_rate(0.5)
        return run

    run = prepared()
    run.save(path)

    rest = _lines(prepared().events(**OFTEN))
    assert _lines(_loaded(path).events(**OFTEN)) == rest
    assert rest != _lines(_run().events(**OFTEN))[-len(rest) :]


def test_a_checkpoint_replaces_the_one_before(path: Path) -> None:
    run = _run()
    for steps in (1, 3):
        list(run.events(steps=steps))
        run.save(str(path))  # a path may be text
    assert _loaded(path).step == 4
    assert os.listdir(path.parent) == ["run.pt"]


# --------------------------------------------------------------------------------------------------- writing that fails


@contextlib.contextmanager
def _files_no_larger_than(size: int) -> Iterator[None]:
    """The operating system refuses to write more; Python ignores the signal that would end the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def saved(path: Path) -> tuple[Path, Run]:
    """A checkpoint at step 1 and its run, now at step 3."""
    run = _run()
    list(run.events(steps=1))
    run.save(path)
    list(run.events(steps=2))
    return path, run


def _assert_untouched(path: Path, before: bytes) -> None:
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]  # and no half a file beside it
    assert _loaded(path).step == 1


@pytest.mark.parametrize("size", [0, 1, 1000, 5000])
def test_a_write_that_breaks_off_keeps_the_checkpoint_before(size: int, saved: tuple[Path, Run]) -> None:
    path, run = saved
    before = path.read_bytes()
    assert len(before) > 5000

    with (
        _files_no_larger_than(size),
        pytest.raises(CheckpointError, match="previous checkpoint is untouched") as caught,
    ):
        run.save(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    _assert_untouched(path, before)
    run.save(path)
    assert _loaded(path).step == 3


def test_a_first_write_that_breaks_off_leaves_nothing(path: Path) -> None:
    with _files_no_larger_than(1000), pytest.raises(CheckpointError, match="nothing was written"):
        _run().save(path)

    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_disk_that_is_full_at_the_last_moment_keeps_the_checkpoint_before(
    function: str, saved: tuple[Path, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = saved
    before = path.read_bytes()

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, function, full)
        with pytest.raises(CheckpointError, match="No space left on device"):
            run.save(path)

    _assert_untouched(path, before)


FULL_DISK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from mdfa_core import Experiment, Run
from mdfa_core.errors import CheckpointError
path = os.path.join(sys.argv[2], "run.pt")
run = Run(Experiment(network="fc:8", epochs=2), device="cpu")
list(run.events(steps=1))
run.save(path)
before = open(path, "rb").read()
room = os.statvfs(sys.argv[2])
with open(os.path.join(sys.argv[2], "ballast"), "wb") as file:
    file.write(bytes(room.f_bavail * room.f_frsize - 4096))
list(run.events(steps=1))
try:
    run.save(path)
except CheckpointError as error:
    print(error)
assert open(path, "rb").read() == before
assert sorted(os.listdir(sys.argv[2])) == ["ballast", "run.pt"]
os.remove(os.path.join(sys.argv[2], "ballast"))
run.save(path)
assert Run.load(path, device="cpu").step == 2
"""


def test_a_disk_that_is_really_full_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    """On a disk of 256 KiB in a mount namespace of its own, which vanishes with the process."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, to mount a small disk of its own")
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=256k none '{tmp_path}'"
    if subprocess.run([*prefix, mount], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small disk in a namespace of its own")

    done = subprocess.run(
        [*prefix, f'{mount} && exec "$0" -c "$1" "$2" "$3"', sys.executable, FULL_DISK, str(ROOT), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert "previous checkpoint is untouched" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    run = _run()
    with pytest.raises(CheckpointError, match="No such file or directory"):
        run.save(tmp_path / "missing" / "run.pt")
    with pytest.raises(CheckpointError, match="directory"):
        run.save(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Not a directory"):
        run.save(tmp_path / "file" / "run.pt")
    assert sorted(os.listdir(tmp_path)) == ["file"]
    assert list(run.events())[-1].kind == "finished"


# ----------------------------------------------------------------------------------------------- files that are refused


def test_a_missing_file_is_refused(path: Path) -> None:
    assert _refused(path).startswith(f"there is no checkpoint {path}")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert str(tmp_path) in _refused(tmp_path)


def test_a_truncated_checkpoint_is_refused(path: Path) -> None:
    run = _run()
    list(run.events(steps=4))
    run.save(path)
    whole = path.read_bytes()

    for size in [0, 1, 4, 100, *range(500, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:size])
        assert str(path) in _refused(path), size


@pytest.mark.parametrize(
    "content",
    [b"hello\n", b"\x00" * 5000, b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"PK\x03\x04 not really"],
    ids=["text", "zeros", "picture", "zip"],
)
def test_a_file_of_something_else_is_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)

    assert str(path) in _refused(path)


def test_an_archive_of_something_else_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")

    assert str(path) in _refused(path)


FOREIGN: dict[str, Any] = {
    "tensor": torch.zeros(3),
    "list": [1, 2, 3],
    "nothing": None,
    "weights": {"layer.weight": torch.zeros(3)},
    "no format": {"step": 3},
    "later format": {"format": 10**6},
    "empty of this format": {"format": 1},
    "strange of this format": {"format": 1, "experiments": [], "data checksums": []},
    "wrong kinds": {"format": 1, "experiments": 3, "data checksums": None},
    "broken experiment": {"format": 1, "experiments": ["{"], "data checksums": []},
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_another_programs_file_is_refused(content: Any, path: Path) -> None:
    torch.save(content, path)

    assert str(path) in _refused(path)


def test_a_checkpoint_with_a_missing_or_shortened_part_is_refused(path: Path) -> None:
    run = _run()
    list(run.events(steps=4))
    run.save(path)
    whole = torch.load(path, weights_only=True)
    assert isinstance(whole, dict)

    for name in whole:
        torch.save({key: value for key, value in whole.items() if key != name}, path)
        assert str(path) in _refused(path), name
    for name, value in whole.items():
        if isinstance(value, list) and value:
            torch.save({**whole, name: value[:-1]}, path)
            assert str(path) in _refused(path), name


class _Trap:
    """Unpickled, it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("disguise", ["pickle", "checkpoint", "part of a checkpoint", "inside a format 1 dictionary"])
def test_code_in_a_checkpoint_is_never_run(disguise: str, path: Path, tmp_path: Path) -> None:
    trap, sprung = _Trap(tmp_path / "sprung"), tmp_path / "sprung"
    if disguise == "pickle":
        path.write_bytes(pickle.dumps(trap))
    elif disguise == "checkpoint":
        torch.save(trap, path)
    elif disguise == "part of a checkpoint":
        run = _run()
        run.save(path)
        content = torch.load(path, weights_only=True)
        torch.save({**content, "outcomes": trap}, path)
    else:
        buffer = io.BytesIO()
        torch.save({"format": 1, "experiments": trap}, buffer, _use_new_zipfile_serialization=False)
        path.write_bytes(buffer.getvalue())
    # The trap works: an unpickler that trusts its file would spring it.
    pickle.loads(pickle.dumps(_Trap(tmp_path / "works")))
    assert (tmp_path / "works").is_dir()

    _refused(path)

    assert not sprung.exists()


def _stripes(*, changed: bool, shift: int = 0) -> ArrayDataSet:
    rows = np.arange(60)
    images = np.zeros((60, 1, 2, 2), np.uint8)
    images[rows, 0, 0, rows % 2] = 200
    images[7, 0, 1, 1] = 1 if changed else 0
    return ArrayDataSet(
        train_images=images,
        train_labels=(rows + shift) % 2,
        test_images=images[:20],
        test_labels=rows[:20] % 2,
        class_names=["left", "right"],
    )


@pytest.mark.parametrize("other", [_stripes(changed=True), _stripes(changed=False, shift=1)], ids=["pixel", "labels"])
def test_other_data_under_the_same_name_is_refused(other: ArrayDataSet, path: Path) -> None:
    DATASETS.add("test-stripes", _stripes(changed=False))
    try:
        run = _run(Experiment(data="test-stripes", network="fc:4", epochs=2, batch_size=10))
        list(run.events(steps=3))
        run.save(path)
        assert _loaded(path).step == 3

        DATASETS.remove("test-stripes")
        DATASETS.add("test-stripes", other)

        assert "checksum" in _refused(path)
    finally:
        DATASETS.remove("test-stripes")
    with pytest.raises(MdfaError, match="unknown data 'test-stripes'"):  # not there at all any more
        _loaded(path)
