"""A visitor's own file on the page: sent in parts, read, trained on, named in links and exports, and nobody else's."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
from PIL import Image

from mdfa_app.page import own_files
from mdfa_app.page.own_files import FILES, LARGEST, TRIES, OwnFiles, fitted
from mdfa_app.settings import link
from mdfa_app.settings.limits import LIMITS
from mdfa_app.settings.rules import rules
from mdfa_app.stage.replay import replay
from mdfa_app.trainer.messages import Phase
from mdfa_core import DATASETS, Experiment
from mdfa_core.base.errors import DataError
from mdfa_core.data.own_file import CSV_BYTES, read
from mdfa_core.stage import recording_in
from tests.app.visits import Visit, browser_says
from tests.support.patience import PATIENCE

PART = 1000
LABELS = ("a", "<b>b</b>", "c")


def points(classes: int = 2, each: int = 30) -> bytes:
    random = np.random.default_rng(classes)
    return "".join(
        f"{x},{y},{LABELS[label]}\n"
        for label in range(classes)
        for x, y in random.normal((2 * label, label * label), 0.5, (each, 2))
    ).encode()


def images(each: int = 8) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for place, name in enumerate(("cat", "dog")):
            for number in range(each):
                made = io.BytesIO()
                Image.fromarray(np.full((9, 9), 10 * number + 100 * place, np.uint8)).save(made, "PNG")
                archive.writestr(f"{name}/{number}.png", made.getvalue())
    return file.getvalue()


def messages(name: str, content: bytes) -> Iterator[dict[str, Any]]:
    """As form.js sends a file."""
    yield {"name": name, "size": len(content)}
    for start in range(0, len(content), PART):
        yield {"part": base64.b64encode(content[start : start + PART]).decode()}


def send(visit: Visit, name: str, content: bytes) -> None:
    for message in messages(name, content):
        browser_says(visit.controls.form, {"name": "file", "value": message})


def use(visit: Visit, name: str, content: bytes) -> str:
    """Send a file, and wait until the nets for it are made; returns the name of its data set."""
    before = visit.comparison.number
    send(visit, name, content)
    own_files._reader.submit(lambda: None).result(PATIENCE)  # without a screen, the thread that reads changes the page
    visit.until(lambda: visit.comparison.number > before, "new networks")
    visit.until_phase(Phase.IDLE)
    return visit.comparison.experiment.data


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    yield
    assert not DATASETS._unlisted


# -------------------------------------------------------------------------------------------------------------- trained


def test_points_become_the_data_of_new_networks(visit: Visit) -> None:
    name = use(visit, "my points.csv", points(3))
    experiment = visit.comparison.experiment
    assert visit.controls.experiment() == experiment
    assert (experiment.outputs, experiment.network, experiment.learning_rate) == (3, "fc:32,32", 0.1)
    assert name.startswith("own-my-points-")
    assert "your file my points.csv" in visit.controls.data.to_dict()["options"]
    assert "90 points in 3 classes. Both columns are standardised" in visit.controls.file.value
    assert "New networks for my points.csv: press Start." in visit.view.status
    assert "You changed data to your file my points.csv" in visit.view.claim
    scene = visit.stage.scene
    assert set(scene["class_names"]) == set(LABELS)
    assert scene["points"] is not None
    visit.press("epoch")
    visit.until_phase(Phase.PAUSED)
    assert visit.comparison.position.epoch == 1


def test_images_become_the_data_of_new_networks(visit: Visit) -> None:
    use(visit, "pets.zip", images())
    experiment = visit.comparison.experiment
    assert (experiment.outputs, experiment.network) == (1, "fc:128,128")
    assert experiment.batch_size == 8  # of 10 images
    assert visit.stage.scene["pictures"]["shape"][1:] == [1, 16, 16]
    visit.press("epoch")
    visit.until_phase(Phase.PAUSED)


@pytest.mark.parametrize("rule", sorted(rules()))
def test_every_rule_takes_it(rule: str) -> None:
    own = read("a.csv", points())
    DATASETS.add("test-own", own.data, listed=False)
    try:
        LIMITS.check(rules()[rule].experiment(fitted(Experiment(), "test-own", own)))
    finally:
        DATASETS.remove("test-own")


def test_training_goes_on_with_the_new_data(visit: Visit) -> None:
    visit.train()
    use_while_training = visit.comparison.number
    send(visit, "a.csv", points())
    visit.until(lambda: visit.comparison.number > use_while_training, "new networks")
    visit.until(lambda: visit.comparison.position.step > 0, "training")
    assert visit.comparison.before
    visit.press("pause")
    visit.until_phase(Phase.PAUSED)


def test_an_old_file_can_be_chosen_again_and_two_of_a_name_are_told_apart(visit: Visit) -> None:
    first, second = use(visit, "a.csv", points()), use(visit, "a.csv", points(3))
    options = visit.controls.data.options
    assert options is not None
    assert (options["your file a.csv"], options["your file a.csv (2)"]) == (first, second)
    place = list(options.values()).index(first)
    browser_says(visit.controls.form, {"name": "data", "value": place})
    visit.until_phase(Phase.IDLE)
    assert visit.comparison.experiment.data == first
    assert visit.comparison.experiment.outputs in (1, 2)


def test_pinned_runs_of_one_file_are_named_by_the_settings_that_differ(visit: Visit) -> None:
    use(visit, "a file with a long name.csv", points(3))
    visit.train()
    visit.page.pin("")
    for name, value in (("activation", "relu"), ("batch_size", 16)):
        getattr(visit.controls, name).value = value
        visit.until(lambda: visit.comparison.measured, "a measurement")
        visit.page.pin("")
    visit.press("pause")
    visit.until_phase(Phase.PAUSED)
    first, *others = [run["name"] for run in visit.view.pins["runs"]]
    assert first.startswith("data your file a file with a long name.csv, ")
    assert first.endswith(", …")
    assert others == ["activation relu", "batch size 16, activation relu"]


# -------------------------------------------------------------------------------------------------------------- refused


def refused(visit: Visit, name: str, content: bytes) -> str:
    before = visit.comparison.number
    visit.page.own.wrong = ""
    send(visit, name, content)
    visit.until(lambda: bool(visit.page.own.wrong), "a refusal")
    assert visit.comparison.number == before
    assert visit.controls.file.to_dict()["wrong"] == visit.page.own.wrong
    return visit.page.own.wrong


def test_a_wrong_file_leaves_everything_as_it_was(visit: Visit) -> None:
    assert refused(visit, "a.csv", b"1,2,a\n1,nan,a\n") == (
        "Line 2 of a.csv: y is nan; give a finite number, or remove the line."
    )
    assert refused(visit, "a.csv", b"") == "a.csv is empty: give a CSV file of points, or a ZIP archive of images."
    assert "256 kB are allowed" in refused(visit, "a.csv", b"1" * (CSV_BYTES + 1))
    visit.press("1")
    visit.until(lambda: visit.comparison.position.step == 1, "a step")
    use(visit, "a.csv", points())
    assert not visit.page.own.wrong


def test_a_large_file_is_refused_by_its_size_and_its_parts_are_not_kept(resting: Visit) -> None:
    form = resting.controls.form
    for size in (LARGEST + 1, 10**30, -1):
        browser_says(form, {"name": "file", "value": {"name": "a.zip", "size": size}})
        assert resting.page.own.wrong.startswith("a.zip has ")
        assert "a CSV file may have 256 kB, and a ZIP archive 2 MB" in resting.page.own.wrong
        browser_says(form, {"name": "file", "value": {"part": "AAAA"}})
        assert resting.page.own._parts is None


@pytest.mark.parametrize("part", ["AAAAAAAA", "no base64!", "", "é", "A" * 10**6])
def test_parts_that_do_not_fit_the_size_end_it(part: str, resting: Visit) -> None:
    form = resting.controls.form
    browser_says(form, {"name": "file", "value": {"name": "a.csv", "size": 4}})
    browser_says(form, {"name": "file", "value": {"part": part}})
    assert resting.page.own.wrong == "a.csv was not received whole: choose it again."
    assert resting.page.own._parts is None


STRANGE: list[Any] = [
    None, 7, "x", [], {}, {"name": 1, "size": 2}, {"name": "a", "size": "2"}, {"name": "a", "size": True},
    {"name": "a", "size": 1.5}, {"part": 7}, {"part": ["A"]}, {"part": "AAAA"}, {"name": "\ud800", "size": 0},
]  # fmt: skip


@pytest.mark.parametrize("sent", STRANGE, ids=repr)
def test_strange_messages_change_nothing(sent: Any, resting: Visit) -> None:
    before = resting.comparison.experiment
    browser_says(resting.controls.form, {"name": "file", "value": sent})
    resting.until(lambda: not resting.page.own._reading, "the end of reading")
    assert resting.comparison.experiment == before


def test_a_page_takes_so_many_files_only(wait_until: Callable[..., None]) -> None:
    own = OwnFiles(lambda edit: edit(), lambda name: None, lambda: None)

    def give(content: bytes) -> None:
        for message in messages("a.csv", content):
            own.take(message)
        wait_until(lambda: not own._reading, "the end of reading")

    for _ in range(FILES):
        give(points())
    assert len(own.files) == FILES
    give(points())
    assert own.wrong == "This page has taken many files: reload it to add others."
    own.close()
    assert own.files == {}
    own = OwnFiles(lambda edit: edit(), lambda name: None, lambda: None)
    for _ in range(TRIES):
        give(b"rubbish")
    assert "give three" in own.wrong
    give(b"rubbish")
    assert "many files" in own.wrong


def test_one_file_is_read_at_a_time_and_none_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[Callable[[], None]] = []

    class Reader:
        @staticmethod
        def submit(work: Callable[..., None], *arguments: Any) -> None:
            waiting.append(lambda: work(*arguments))

    monkeypatch.setattr(own_files, "_reader", Reader)
    used: list[str] = []
    own = OwnFiles(lambda edit: edit(), used.append, lambda: None)
    for message in (*messages("a.csv", points()), *messages("b.csv", points())):
        own.take(message)
    assert len(waiting) == 1
    assert "Another file is being read" in own.wrong
    own.close()
    waiting[0]()
    assert not used


def test_an_error_of_ours_is_a_sentence_and_a_line_in_the_log(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(name: str, content: bytes) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(own_files, "read", fails)
    said = refused(visit, "a.csv", points())
    assert "RuntimeError" in said
    assert "secret" not in said
    assert "secret" in caplog.text


# -------------------------------------------------------------------------------------------------------- nobody else's


def test_nobody_else_finds_it(visit: Visit, wait_until: Callable[..., None]) -> None:
    name = use(visit, "secret.csv", points())
    other = Visit(wait_until, f"data={name}&rules=mdfa")
    try:
        assert other.comparison.experiment.data == "digits"
        assert "Unknown data" in other.view.status
        assert name not in other.view.status.partition("choose one of")[2]
        assert "secret" not in json.dumps(other.controls.form.shown)
        assert name not in list(DATASETS)
    finally:
        other.close()


def test_it_goes_with_the_page(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until)
    visit.until_phase(Phase.IDLE)
    name = use(visit, "a.csv", points())
    assert name in DATASETS
    visit.close()
    assert name not in DATASETS


# ---------------------------------------------------------------------------------------------------- links and exports


def test_a_link_names_the_file_and_takes_its_settings_back(visit: Visit, wait_until: Callable[..., None]) -> None:
    content = points()
    name = use(visit, "a.csv", content)
    query = link.write(visit.page.link())
    parts = dict(parse_qsl(query))
    sha256 = read("a.csv", content).sha256
    assert (parts["file"], parts["sha256"]) == ("a.csv", sha256)
    assert name not in query
    other = Visit(wait_until, query)
    try:
        assert f"This link needs your own file a.csv (SHA-256 {sha256})" in other.view.status
        assert "Your own data" in other.view.status
        assert other.comparison.experiment.data == "digits"
        assert dict(parse_qsl(link.write(other.page.link())))["sha256"] == sha256  # until other data is chosen
        other.until_phase(Phase.IDLE)
        use(other, "a.csv", points(3))
        assert "It is not the file a.csv of the link: its SHA-256 differs." in other.view.status
        use(other, "renamed.csv", content)
        assert "renamed.csv, the file of the link" in other.view.status
        ours, theirs = visit.comparison.experiment.to_dict(), other.comparison.experiment.to_dict()
        assert ours.pop("data") != theirs.pop("data")
        assert ours == theirs
    finally:
        other.close()


@pytest.mark.parametrize(
    "query",
    ["file=a.csv", "file=a.csv&sha256=x", f"file=../a.csv&sha256={'0' * 64}", f"file={'a' * 50}&sha256={'0' * 64}"],
)
def test_a_file_that_no_page_writes_is_left_out(query: str) -> None:
    state, complaints = link.read(query)
    assert state == link.Link()
    assert complaints == ["the link names a file in a way that no page writes, so it was left out"]


def test_exports_say_which_file_they_need(visit: Visit) -> None:
    use(visit, "a.csv", points())
    own = visit.page.own_file
    assert own is not None
    needed = f"your own file a.csv (SHA-256 {own.sha256})"
    visit.page.open_tab("take")
    tab = visit.export
    for form in ("python", "commands", "json"):
        tab._form.value = form
        assert needed in tab.text.value
    assert needed in tab.own_note.object
    assert "A replay contains some of its points." in tab.own_note.object
    recorded = recording_in(replay(visit.comparison, "a").decode())
    assert recorded["settings"]["data"] == f"a.csv, SHA-256 {own.sha256}"
    visit.page._choose("one-output")
    visit.until_phase(Phase.IDLE)
    assert needed not in tab.text.value + tab.own_note.object


def test_the_program_trains_on_the_file_beside_it(visit: Visit, tmp_path: Path) -> None:
    use(visit, "a.csv", points())
    visit.page.change_settings(set())
    visit.page.open_tab("take")
    program = visit.export.text.value.replace("epochs=200", "epochs=2")
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False)

    (tmp_path / "a.csv").write_bytes(points(3))
    assert "give the file of the run" in run().stderr
    (tmp_path / "a.csv").write_bytes(points())
    done = run()
    assert "training accuracy" in done.stdout, done.stderr


def test_a_checkpoint_needs_the_data_set_under_its_name(visit: Visit, tmp_path: Path) -> None:
    from mdfa_core import Run

    name = use(visit, "a.csv", points())
    path = tmp_path / "run.pt"
    visit.run("mdfa").save(path)
    own = visit.page.own_file
    assert own is not None
    visit.page.own.close()
    with pytest.raises(Exception, match="unknown data"):
        Run.load(path)
    DATASETS.add(name, own.data, listed=False)
    try:
        assert Run.load(path).experiments[0].data == name
    finally:
        DATASETS.remove(name)


def test_what_is_read_is_never_written_to_disk(visit: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import builtins

    opened: list[str] = []
    real = builtins.open

    def noted(file: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        if set(mode) & set("wax+"):
            opened.append(str(file))
        return real(file, mode, *more, **options)

    monkeypatch.setattr(builtins, "open", noted)
    use(visit, "pets.zip", images())
    with pytest.raises(DataError):
        read("a.csv", b"x")
    assert opened == []
