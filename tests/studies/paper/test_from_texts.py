"""From texts to plans, and from plans to a filled store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mdfa_core.base.errors import DeviceError, InvalidValue, MdfaError, UnknownName
from mdfa_core.runs.notes import CellNote
from mdfa_core.runs.store import Store
from mdfa_core.studies.paper import from_texts
from mdfa_core.studies.paper.published import CELLS, TABLES
from mdfa_core.studies.paper.recipes import PROFILES

ONE = {"profile": "smoke", "methods": "dfa", "activations": "tanh", "networks": "fc"}


@pytest.mark.parametrize("profile", list(PROFILES))
def test_nothing_chosen_is_every_cell_the_data_has_classes_for(profile: str) -> None:
    plan = from_texts.plan(tuple(TABLES), profile=profile)

    most = 10 if profile == "smoke" else 1000  # the digits have ten classes
    assert plan.cells == tuple(cell for cell in CELLS.values() if cell.classes <= most)
    assert plan.variant == profile


def test_lists_are_separated_by_commas_and_may_have_spaces() -> None:
    plan = from_texts.plan((3, 4), profile="smoke", methods=" mdfa, bp", classes="10,3", seeds="4, 2", epochs=7)

    assert {(c.table, c.method, c.classes) for c in plan.cells} == {
        (table, method, classes) for table in (3, 4) for method in ("mdfa", "bp") for classes in (3, 10)
    }
    assert (plan.seeds, plan.epochs, plan.tasks, plan.final_epochs) == ((2, 4), 7, (2, 4), 7)
    assert plan.variant == "smoke@seeds=2,4;epochs=7"


def test_seeds_may_be_ranges_and_draws_are_named() -> None:
    plan = from_texts.plan(1, **{**ONE, "seeds": " 7, 0 - 2", "draws": 3})  # type: ignore[arg-type]

    assert plan.tasks == (0, 1, 2, 7)
    assert plan.variant == "smoke@seeds=0,1,2,7;draws=3"


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"profile": "huge"}, UnknownName, "unknown profile 'huge': choose one of full, quick, released, smoke"),
        ({"methods": "mdfa,sgd"}, UnknownName, "unknown method 'sgd': choose one of bp, dfa, fa, mdfa"),
        ({"activations": "sigmoid"}, UnknownName, "unknown activation 'sigmoid'"),
        ({"networks": "cnn"}, UnknownName, "unknown network 'cnn': choose one of conv, fc"),
        ({"classes": "two"}, InvalidValue, "classes is 'two': give numbers separated by commas"),
        ({"classes": "3"}, UnknownName, "unknown classes 3: choose one of 2"),
        ({"seeds": "1,0-2"}, InvalidValue, "seeds is '1,0-2', which has 1 twice: give each seed once"),
        ({"seeds": "3-1"}, InvalidValue, "seeds has the item '3-1': give numbers from 0 and rising ranges of at most"),
        ({"seeds": "0, two"}, InvalidValue, "seeds has the item 'two'"),
        ({"seeds": "0-99999999"}, InvalidValue, "separated by commas, such as 0-9 or 0,3,5"),
        ({"seeds": "-1"}, InvalidValue, "seeds has the item '-1': give numbers from 0"),
        ({"draws": 0}, InvalidValue, "draws is 0: give a positive integer"),
        ({"seeds": "1000", "draws": 2}, InvalidValue, "the largest seed is 1000 with 2 draws: give seeds below 1000"),
        ({"epochs": -1}, InvalidValue, "epochs is -1"),
        ({"image_size": -1}, InvalidValue, "image size is -1"),
    ],
    ids=str,
)
def test_a_wrong_text_is_refused_in_a_sentence(
    settings: dict[str, object], kind: type[MdfaError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        from_texts.plan(1, **{**ONE, **settings})  # type: ignore[arg-type]

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_data_has_too_few_classes_for_is_told() -> None:
    with pytest.raises(InvalidValue, match="needs 50 classes, but digits has 10: choose a cell of fewer classes"):
        from_texts.plan(3, profile="smoke", classes="50")


def test_filling_a_store_twice_trains_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = from_texts.plan(1, **ONE)
    from_texts.fill(plan, tmp_path / "runs.sqlite")
    with Store(tmp_path / "runs.sqlite") as store:
        finished = {record.key: record.provenance.finished for record in store.records()}
        assert list(store.notes(CellNote)) == ["smoke/table-1/fc/tanh/dfa/2"]
    assert "100%" in capsys.readouterr().err

    from_texts.fill(plan, tmp_path / "runs.sqlite")
    with Store(tmp_path / "runs.sqlite") as store:
        assert {record.key: record.provenance.finished for record in store.records()} == finished


def test_an_estimate_is_words_and_trains_nothing(tmp_path: Path) -> None:
    words = from_texts.estimate(from_texts.plan(1, **ONE), tmp_path / "runs.sqlite", device="cpu")

    assert words.startswith("1 cell, about ")
    assert "of one CPU core" in words
    with Store(tmp_path / "runs.sqlite") as store:
        assert len(store) == 0


@pytest.mark.parametrize(
    ("where", "device", "words"),
    [
        ("", "cpu", "8 hours of one CPU core;"),
        ("local:1", "cpu", "8 hours of one CPU core;"),
        ("local:4", "cpu", "2 hours of 4 CPU cores;"),
        ("tcp://host:8786", "cpu", "8 hours of one CPU core;"),
        ("local:4", "cuda", "8 hours of one device;"),
    ],
)
def test_an_estimate_is_shared_by_the_processes_of_this_machine(
    where: str, device: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_texts.Reproduction, "seconds", lambda _: 8 * 3600.0)
    monkeypatch.setattr(from_texts.devices, "resolve", torch.device)

    estimate = from_texts.estimate(from_texts.plan(1, **ONE), tmp_path / "runs.sqlite", device=device, where=where)

    assert estimate.startswith(f"1 cell, about {words}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_an_estimate_for_the_gpus_of_other_machines_needs_none_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mdfa_core.studies.paper.reproduction.seconds_an_epoch", lambda *_, device, **__: len(device))
    wanted, store = from_texts.plan(1, **ONE), tmp_path / "runs.sqlite"
    here, there = (
        from_texts.estimate(wanted, store, device=device, where="tcp://host:8786") for device in ("auto", "cuda")
    )
    assert here == there
    assert from_texts.training_share(wanted, store, device="cuda", where="tcp://host:8786") == 1
    for where in ("", "local:2"):
        with pytest.raises(DeviceError, match="no CUDA device"):
            from_texts.estimate(wanted, store, device="cuda", where=where)


def test_the_estimate_and_the_bar_cover_the_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_texts.Reproduction, "seconds", lambda _: 9 * 20.0)
    wanted, store = from_texts.plan(1, **ONE), tmp_path / "runs.sqlite"

    assert from_texts.estimate(wanted, store, device="cpu", notebooks=6).endswith("; then 6 notebooks, about 2 minutes")
    assert "notebooks" not in from_texts.estimate(wanted, store, device="cpu")
    assert from_texts.training_share(wanted, store, device="cpu", notebooks=6) == 0.6
    assert from_texts.training_share(wanted, store, device="cpu", where="local:9", notebooks=1) == 0.5

    with from_texts.progress_bar() as bar:
        seen = []

        def stages(_: object) -> Iterator[SimpleNamespace]:
            for part in (0.25, 0.5):
                yield SimpleNamespace(cell=wanted.cells[0], doing="tuning", part=part)
                seen.append(bar.n)

        monkeypatch.setattr(from_texts.Reproduction, "__iter__", stages)
        from_texts.fill(wanted, store, device="cpu", bar=bar, share=0.6)
        assert [*seen, bar.n] == pytest.approx([0.15, 0.3, 0.6])


@pytest.mark.parametrize("where", ["local:none", "everywhere", 4])
def test_a_cluster_there_is_not_is_refused_before_anything_is_timed(
    where: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mdfa_core.studies.paper.reproduction.seconds_an_epoch", lambda *_, **__: pytest.fail("timed"))
    with pytest.raises(InvalidValue, match="the cluster is"):
        from_texts.estimate(from_texts.plan(1, **ONE), tmp_path / "runs.sqlite", where=where)  # type: ignore[arg-type]
    assert not (tmp_path / "runs.sqlite").exists()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 seconds"), (40, "40 seconds"), (119, "119 seconds"), (120, "2 minutes"), (12600, "3.5 hours")],
)
def test_durations_have_two_digits(seconds: float, words: str) -> None:
    assert from_texts.duration(seconds) == words
