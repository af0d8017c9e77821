"""Saving and resuming: the same run goes on, an old file survives a failing write, a bad file is refused."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdfa_core import DATASETS, OPTIMIZERS, Every, Experiment, Run
from mdfa_core.base.errors import CheckpointError, MdfaError
from mdfa_core.data import ArrayDataSet
from mdfa_core.training.checkpoint import write_content
from mdfa_core.training.events import to_json
from tests.support.runs import CASES, lines

ROOT = Path(__file__).resolve().parents[2]
SMALL = Experiment(network="fc:8", epochs=2, drop_last=False, batch_size=100)  # 3 steps an epoch, the last one smaller
OFTEN: dict[str, Any] = {"progress": Every(steps=2), "probe": Every(steps=3)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.pt"


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


def _write(path: Path, content: dict[str, Any]) -> None:
    """A checkpoint with any content and a right checksum, as an attacker would write it."""
    with path.open("wb") as file:
        write_content(content, file)


# --------------------------------------------------------------------------------------------------------- the same run


@pytest.mark.parametrize(
    ("optimizer", "step"), [(name, step) for name in OPTIMIZERS for step in (range(7) if name == "adam" else (0, 4))]
)
def test_a_loaded_run_goes_on_as_if_nothing_had_happened(optimizer: str, step: int, path: Path) -> None:
    experiment = SMALL.replace(optimizer=optimizer, l2=0.01)
    whole = lines(_run(experiment).events(**OFTEN))
    run = _run(experiment)
    first = lines(run.events(steps=step, **OFTEN)) if step else []

    run.save(path)
    again = _loaded(path)

    assert again.experiments == (experiment,)
    assert (again.step, again.epoch, again.started, again.finished) == (step, -(-step // 3), step > 0, step == 6)
    assert first + lines(again.events(**OFTEN)) == whole
    assert first + lines(run.events(**OFTEN)) == whole  # and saving left the saved run alone


@pytest.mark.parametrize(("method", "network"), CASES)
def test_every_method_and_kind_of_net_is_saved_whole(method: str, network: str, path: Path) -> None:
    experiment = Experiment(method=method, network=network, optimizer="adam", epochs=2)
    run = _run(experiment)
    first = lines(run.events(steps=2, **OFTEN))

    run.save(path)
    again = _loaded(path)

    for ours, theirs in zip(
        (*run.learner.parameters.tensors(), *run.learner.feedback),
        (*again.learner.parameters.tensors(), *again.learner.feedback),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    assert first + lines(again.events(**OFTEN)) == lines(_run(experiment).events(**OFTEN))


def test_events_not_yet_taken_are_saved_too(path: Path) -> None:
    pace: dict[str, Any] = {"progress": Every(steps=1), "probe": Every(steps=1)}
    whole = lines(_run().events(**pace))
    assert len(whole) > 14
    for taken in range(len(whole) + 1):
        run = _run()
        stream = run.events(**pace)
        first = [to_json(next(stream)) for _ in range(taken)]
        run.save(path)
        stream.close()
        assert first + lines(_loaded(path).events(**pace)) == whole, taken


def test_saving_and_loading_after_every_step_changes_nothing(path: Path) -> None:
    run = _run()
    seen: list[str] = []
    while not run.finished:
        seen += lines(run.events(steps=1, **OFTEN))
        run.save(path)
        run = _loaded(path)

    assert seen == lines(_run().events(**OFTEN))
    assert list(run.events()) == []


def test_a_stack_with_tasks_of_its_own_and_a_diverged_replica_is_saved_whole(path: Path) -> None:
    base = Experiment(network="fc:8", epochs=3)
    experiments = [base, base.replace(seed=1, learning_rate=1e38), base.replace(seed=4, forward_init="zeros")]
    for steps in (1, 4, 8):
        run = _run(experiments)
        first = lines(run.events(steps=steps, **OFTEN))
        run.save(path)
        assert first + lines(_loaded(path).events(**OFTEN)) == lines(_run(experiments).events(**OFTEN))


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

    rest = lines(prepared().events(**OFTEN))
    assert lines(_loaded(path).events(**OFTEN)) == rest
    assert rest != lines(_run().events(**OFTEN))[-len(rest) :]


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
from mdfa_core.base.errors import CheckpointError
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
    with pytest.raises(CheckpointError, match="is no file"):
        run.save(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Not a directory"):
        run.save(tmp_path / "file" / "run.pt")
    assert sorted(os.listdir(tmp_path)) == ["file"]
    assert list(run.events())[-1].kind == "finished"


# ----------------------------------------------------------------------------------------------- files that are refused


def test_a_save_replaces_no_pipe_and_follows_a_link(tmp_path: Path, path: Path) -> None:
    run = Run(Experiment(network="fc:3"), device="cpu")
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    with pytest.raises(CheckpointError, match="pipe is no file, and a checkpoint would replace it"):
        run.save(pipe)
    assert pipe.is_fifo()
    path.write_text("before")
    link.symlink_to(path)
    run.save(link)
    assert link.is_symlink()
    assert Run.load(path, device="cpu").step == 0


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

    needed = set(whole) - {name for name, tensors in run.learner.state().items() if not tensors} - {"not finite"}
    for name in needed:
        _write(path, {key: value for key, value in whole.items() if key != name})
        assert str(path) in _refused(path), name
    for name, value in whole.items():
        if isinstance(value, list) and value:
            _write(path, {**whole, name: value[:-1]})
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
        _write(path, {**content, "outcomes": trap})
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


# ------------------------------------------------------------------------------------------- damaged and forged entries


@pytest.fixture
def whole(path: Path) -> dict[str, Any]:
    """The entries of a checkpoint of two replicas in the middle of a run, written by this version."""
    base = SMALL.replace(optimizer="adam")
    run = _run([base, base.replace(seed=3, task_seed=0)])
    stream = run.events(**OFTEN)
    while run.step < 3:
        next(stream)
    run.save(path)  # at the end of an epoch, with two events that were not taken
    content = torch.load(path, weights_only=True)
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("unit", ["bit", "byte", "cut", "inserted", "swapped"])
def test_a_damaged_byte_anywhere_is_noticed(unit: str, whole: dict[str, Any], path: Path) -> None:
    """200 damaged copies of one file, at places that a seed chooses."""
    right, rng = path.read_bytes(), np.random.default_rng(7)
    for _ in range(40):
        data, place = bytearray(right), int(rng.integers(len(right) - 1))
        match unit:
            case "bit":
                data[place] ^= 1 << int(rng.integers(8))
            case "byte":
                data[place] = (data[place] + int(rng.integers(1, 256))) % 256
            case "cut":
                del data[place:]
            case "inserted":
                data[place:place] = rng.bytes(int(rng.integers(1, 100)))
            case "swapped":
                data[place], data[-1 - place] = data[-1 - place] ^ 1, data[place]
        path.write_bytes(data)
        assert str(path) in _refused(path), place


@pytest.mark.parametrize("place", range(-73, 0, 5))
def test_a_damaged_checksum_is_noticed(place: int, whole: dict[str, Any], path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 32  # a letter of the other case, among others
    path.write_bytes(data)

    assert "damaged" in _refused(path)


def _first(change: Any) -> Any:
    """A change of the first tensor of a list."""

    def changed(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        return [change(tensors[0].clone()), *tensors[1:]]

    return changed


def _with(place: Any, value: Any) -> Any:
    def changed(tensor: torch.Tensor) -> torch.Tensor:
        tensor[place] = value
        return tensor

    return _first(changed)


def _outcome(**values: Any) -> Any:
    return lambda outcomes: [outcomes[0], {**outcomes[1], **values}]


def _event(**values: Any) -> Any:
    return lambda lines: [json.dumps({**json.loads(lines[0]), **values}), *lines[1:]]


FORGED: dict[str, tuple[str, Any]] = {
    "far step": ("step", lambda step: 10**9),
    "huge step": ("step", lambda step: 10**5000),
    "negative step": ("step", lambda step: -1),
    "real step": ("step", float),
    "text step": ("step", str),
    "true step": ("step", lambda step: True),
    "finished early": ("finished", lambda finished: True),
    "not started": ("started", lambda started: False),
    "started by a number": ("started", int),
    "optimizer ahead": ("optimizer step", lambda step: step + 1),
    "optimizer before": ("optimizer step", lambda step: -1),
    "examples": ("examples", lambda examples: 10**7),
    "negative examples": ("examples", lambda examples: -1),
    "no rate": ("learning rates", lambda rates: [rates[0], None]),
    "rate NaN": ("learning rates", lambda rates: [rates[0], float("nan")]),
    "rate infinite": ("learning rates", lambda rates: [rates[0], float("inf")]),
    "rate zero": ("learning rates", lambda rates: [rates[0], 0.0]),
    "rate of float64": ("learning rates", lambda rates: [rates[0], 1e39]),
    "rates of one": ("learning rates", lambda rates: rates[:1]),
    "weight NaN": ("parameters", _with((1, 0, 0), float("nan"))),
    "weight infinite": ("parameters", _with((0, 0, 0), float("inf"))),
    "weight below the floor": ("parameters", lambda ts: [*ts[:2], ts[2].clone().fill_(-0.1), *ts[3:]]),
    "weights of float64": ("parameters", _first(torch.Tensor.double)),
    "weights of int64": ("parameters", _first(torch.Tensor.long)),
    "weights of another shape": ("parameters", _first(lambda t: t[:, :1])),
    "weights of one replica": ("parameters", _first(lambda t: t[:1])),
    "weights from nowhere": ("parameters", _first(lambda t: torch.zeros(1).expand(t.shape))),
    "weights on no device": ("parameters", _first(lambda t: t.to("meta"))),
    "weights as text": ("parameters", _first(str)),
    "one tensor": ("parameters", lambda tensors: tensors[0]),
    "best NaN": ("best parameters", _with((1, 0, 0), float("nan"))),
    "feedback NaN": ("feedback", _with((1, 0, 0), float("nan"))),
    "negative feedback": ("feedback", _with((1, 0, 0), -1.0)),
    "slot NaN": ("optimizer slots", _with((0, 0, 0), float("nan"))),
    "a slot more": ("optimizer slots", lambda slots: [*slots, slots[0]]),
    "sum NaN": ("loss sum", _first(lambda t: t.fill_(float("nan")))),
    "sum of another shape": ("loss sum", _first(lambda t: t[:1])),
    "correct below 0": ("correct", _first(lambda t: t.fill_(-1))),
    "correct of more than there were": ("correct", _first(lambda t: t.fill_(10**6))),
    "correct in float": ("correct", _first(torch.Tensor.float)),
    "outcomes of one": ("outcomes", lambda outcomes: outcomes[:1]),
    "accuracy 7": ("outcomes", _outcome(best_train_accuracy=7.0)),
    "accuracy as text": ("outcomes", _outcome(best_validation_accuracy="0.5")),
    "a best epoch without its accuracy": ("outcomes", _outcome(best_train_accuracy=None)),
    "later epoch": ("outcomes", _outcome(best_validation_epoch=9)),
    "tested already": ("outcomes", _outcome(test_accuracy=0.9)),
    "diverged later": ("outcomes", _outcome(diverged_at=10**6)),
    "another outcome": ("outcomes", _outcome(luck=1)),
    "outcomes no list": ("outcomes", lambda outcomes: 3),
    "event later": ("pending", _event(step=10**6)),
    "event of text": ("pending", _event(epoch="1")),
    "event of one replica": ("pending", lambda lines: [line.replace("], ", ", 0.5], ") for line in lines]),
    "event of nothing": ("pending", lambda lines: ["{}"]),
    "event nested": ("pending", lambda lines: ["[" * 10**5]),
    "events no texts": ("pending", lambda lines: [3]),
    "mark missing": ("not finite", lambda marks: marks[:1]),
    "mark of a number": ("not finite", lambda marks: [0, 0]),
    "no test": ("test", lambda test: 1),
    "another network": ("experiments", lambda texts: [text.replace("fc:8", "fc:99999999") for text in texts]),
    "nested experiment": ("experiments", lambda texts: ["[" * 10**5] * 2),
    "experiments no texts": ("experiments", lambda texts: [1, 2]),
    "replicas that differ": ("experiments", lambda texts: [texts[0], texts[1].replace("tanh", "relu")]),
}


@pytest.mark.parametrize(("name", "change"), FORGED.values(), ids=FORGED)
def test_an_impossible_entry_is_refused_though_its_checksum_is_right(
    name: str, change: Any, whole: dict[str, Any], path: Path
) -> None:
    _write(path, {**whole, name: change(whole[name])})

    assert "damaged" in _refused(path)


def test_without_an_impossible_entry_it_is_loaded(whole: dict[str, Any], path: Path) -> None:
    """So it is the change alone that is refused above."""
    _write(path, whole)
    assert _loaded(path).step == 3


def test_numbers_that_overflowed_in_training_are_saved_and_loaded(path: Path) -> None:
    """A step may make weights infinite: the loss shows it only at the next one."""
    run = _run(SMALL.replace(method="bp", learning_rate=3e38, activation="relu", forward_init="normal:10"))
    list(run.events(steps=1))
    assert any(not torch.isfinite(tensor).all() for tensor in run.learner.parameters.tensors())
    rest_before = run.step
    run.save(path)

    again = _loaded(path)

    assert again.step == rest_before
    assert lines(again.events(**OFTEN)) == lines(run.events(**OFTEN))


def test_files_of_format_2_are_read_and_their_values_checked(whole: dict[str, Any], path: Path) -> None:
    """Older versions wrote no checksum, no marks, and a list of slots for every parameter."""
    slots = whole["optimizer slots"]
    old = {name: value for name, value in whole.items() if name != "not finite"}
    old |= {"format": 2, "optimizer slots": [slots[n : n + 2] for n in range(0, len(slots), 2)]}
    torch.save(old, path)
    assert lines(_loaded(path).events(**OFTEN)) != []

    torch.save({**old, "step": 10**9}, path)
    assert "step 1000000000" in _refused(path)

    torch.save({**old, "format": 3}, path)  # the checksum cannot be left out
    assert "checksum is missing" in _refused(path)


def test_a_compressed_archive_is_refused_before_it_is_read(whole: dict[str, Any], path: Path) -> None:
    """It could take a thousand times its size in memory."""
    torch.save({**whole, "format": 2}, path)
    with zipfile.ZipFile(path) as plain:
        members = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)

    assert "compressed" in _refused(path)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert "no file" in _refused(tmp_path / "pipe")


KILLED = """
import os, signal, sys
from mdfa_core import Experiment, Run
os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)
Run(Experiment(network="fc:8"), device="cpu").save(sys.argv[1])
"""


def test_a_leftover_of_a_killed_save_is_removed_by_the_next_one(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    (left,) = path.parent.iterdir()
    assert left.name.startswith(".run.pt.")
    other = path.with_name(".other.pt." + 32 * "0")
    other.write_bytes(b"of another checkpoint")
    busy = path.with_name(".run.pt." + 32 * "0")

    with busy.open("wb") as file:
        file.write(b"being written")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        _run().save(path)
        assert sorted(path.parent.iterdir()) == sorted([path, other, busy])
    _run().save(path)
    assert sorted(path.parent.iterdir()) == sorted([path, other])


SAVES = """
import sys
import time
from mdfa_core import Experiment, Run
run = Run(Experiment(network="fc:256", epochs=100), device="cpu")
for _ in run.events():
    run.save(sys.argv[1])
    print(run.step, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_no_save_that_had_returned(path: Path) -> None:
    draw = random.Random(0)
    for _ in range(4):
        command = [sys.executable, "-c", SAVES, str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told = [int(process.stdout.readline())]
            time.sleep(draw.uniform(0, 0.5))
            process.kill()
            told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        assert Run.load(path, device="cpu").step >= told[-1]
    for left in set(path.parent.iterdir()) - {path}:
        os.utime(left, (0, 0))  # an empty leftover stays for a minute
    _run().save(path)
    assert list(path.parent.iterdir()) == [path]
