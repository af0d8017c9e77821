"""The parts of the app that need neither a page nor a thread: curves, words, limits, colours."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from app import diagram, words
from app.colours import DARK, LIGHT, Palette
from app.history import Curve, History
from app.limits import LIMITS, Limits
from app.style import PAGE
from app.views import round_up
from mdfa_core import METHODS, Experiment, MdfaError
from mdfa_core.events import Agreement, Evaluated, Finished, Probed, Progress


def agreement(share: float | None, undefined: float = 0.0) -> Agreement:
    return Agreement(layers=((share,), (share,)), overall=(share,), undefined=((undefined,), (undefined,)))


def probed(unit: float | None = 1.0, batch: float | None = 0.9, undefined: float = 0.0) -> Probed:
    return Probed(
        step=3, epoch=1, unit=agreement(unit, undefined), example=agreement(unit), batch=agreement(batch),
        angle=((30.0,), (None,)), angle_overall=(40.0,), norm_ratio=((1.0,), (1.0,)), saturation=((0.0,), (0.0,)),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- curves


def test_a_curve_stays_bounded_and_keeps_its_ends() -> None:
    curve = Curve(["y"], limit=50)
    for number in range(10_000):
        curve.add(number, {"y": number})
        assert len(curve.rows) <= 50
    places = [row["x"] for row in curve.rows]
    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] > 9_000
    assert len(places) >= 20
    assert curve.last == {"x": 9_999, "y": 9_999}


def test_news_are_told_once_and_all_anew_after_thinning() -> None:
    curve = Curve(["y"], limit=10)
    drawn: list[float] = []
    for number in range(300):
        curve.add(number, {"y": number})
        anew, columns = curve.news()
        drawn = columns["x"] if anew else drawn + columns["x"]
        assert drawn == [row["x"] for row in curve.rows]


def test_a_history_takes_what_events_say() -> None:
    history = History("mDFA", layers=3, steps_per_epoch=3)
    history.add(probed())
    history.add(Progress(step=3, epoch=1, loss=(0.5,), accuracy=(0.75,)))
    history.add(
        Evaluated(
            step=3, epoch=1, train_loss=(0.4,), train_accuracy=(0.8,), validation_loss=(None,),
            validation_accuracy=(None,),
        )
    )  # fmt: skip
    assert history.end == 1.0
    assert history.probed.last is not None
    assert history.probed.last["unit0"] == 1.0
    assert math.isnan(history.probed.last["unit2"]), "there is no third layer"
    assert math.isnan(history.probed.last["angle1"]), "an undefined angle is not drawn"
    assert history.evaluated.last is not None
    assert math.isnan(history.evaluated.last["validation"])
    assert history.highest_loss() == 0.5


@pytest.mark.parametrize(("value", "rounded"), [(5, 5), (5.1, 7.5), (0.11, 0.15), (76, 100), (1000, 1000)])
def test_axes_end_at_round_numbers(value: float, rounded: float) -> None:
    assert round_up(value) == pytest.approx(rounded)


# ------------------------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "100 %"),
        (0.99999, "99.9 %"),
        (0.5, "50.0 %"),
        (0.00001, "0.1 %"),
        (0.0, "0 %"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_percent_never_rounds_to_all_or_nothing(share: float | None, text: str) -> None:
    assert words.percent(share) == text


def test_what_is_said_of_each_level() -> None:
    mdfa = Experiment()
    unit, batch = words.meaning(mdfa, "unit", probed()), words.meaning(mdfa, "batch", probed())
    assert unit.measured == "100 % of the unit error signals have the true sign."
    assert "Theorem 2 holds" in unit.reason
    assert "mini-batch" not in unit.reason
    assert batch.measured == "90.0 % of the mini-batch updates have the true sign."
    assert "a mini-batch is a sum over examples" in batch.reason
    convolution = words.meaning(mdfa.replace(network="digits-conv"), "example", probed())
    assert "a convolution uses each weight at many places" in convolution.reason
    assert "a convolution" not in words.meaning(mdfa, "example", probed()).reason
    assert "sum" not in words.meaning(mdfa.replace(method="bp"), "batch", probed()).reason
    assert "50 % is chance" in words.meaning(mdfa.replace(method="fa"), "unit", probed(0.5)).reason
    assert "Theorem 5" in words.meaning(mdfa.replace(outputs=3), "unit", probed(0.6)).reason
    assert "are measured" not in unit.reason
    sampled = dataclasses.replace(probed(), units=32)
    assert "32 units of each layer are measured" in words.meaning(mdfa, "unit", sampled).reason


def test_what_is_undefined_is_said() -> None:
    assert "12.5 % of a layer's are exactly 0" in words.meaning(Experiment(), "unit", probed(undefined=0.125)).measured
    assert "no sign is defined" in words.meaning(Experiment(), "unit", probed(None)).measured
    assert words.meaning(Experiment(), "unit", None).measured == "Not measured yet."


def test_every_state_has_its_words() -> None:
    assert set(words.STATE_WORDS) == set(words.State)
    assert len(set(words.STATE_WORDS.values())) == len(words.State)


def test_the_outcome_names_the_test_accuracy() -> None:
    finished = Finished(
        step=9, epoch=3, best_train_accuracy=(1.0,), best_validation_accuracy=(0.9,), best_validation_epoch=(2,),
        test_accuracy=(0.875,), diverged_at=(None,),
    )  # fmt: skip
    assert words.outcome(finished) == (
        "Test accuracy 87.5 %, with the weights after epoch 2, the best on the validation images."
    )


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("network", ["fc:", "fc:4", "fc:4,4,4", "conv:4/3+fc:8"])
def test_every_net_can_be_drawn(method: str, network: str) -> None:
    drawing = diagram.draw(Experiment(method=method, network=network), None, [])
    assert drawing.startswith("<svg")
    assert ("≥ 0" in drawing) == (method == "mdfa" and network != "fc:")


# ----------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 513}, "the batch size is 513: this server allows at most 512"),
        ({"epochs": 2001}, "the epochs is 2001"),
        ({"outputs": 11}, "11 outputs need as many classes, but scikit-learn digits has 10"),
        ({"network": "fc:" + ",".join(["4"] * 9)}, "9 hidden layers"),
        ({"network": "fc:20000,20000", "batch_size": 1}, "would need about"),
        ({"network": "fc:4000,4000", "batch_size": 512}, "billion multiplications"),
        ({"data": "imagefolder", "network": "imagenet-fc"}, "this server allows"),
    ],
)
def test_what_is_too_much_is_refused_in_a_sentence(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(MdfaError, match=re.escape(sentence)):
        LIMITS.check(Experiment().replace(**changes))
    assert not LIMITS.fits(Experiment().replace(**changes))


def test_limits_are_the_servers_to_set() -> None:
    assert not Limits(epochs=10).fits(Experiment(epochs=11))
    assert Limits(epochs=10).fits(Experiment(epochs=10))


# ---------------------------------------------------------------------------------------------------------- colours


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_and_texts_stand_out_from_their_ground(palette: Palette) -> None:
    def contrast(colour: str) -> float:
        a, b = sorted((luminance(colour), luminance(palette.surface)))
        return (b + 0.05) / (a + 0.05)

    assert all(contrast(colour) >= 4.5 for colour in (palette.text, palette.muted))
    assert all(contrast(colour) >= 3 for colour in (palette.train, palette.validation, *palette.layers))


def test_charts_and_style_sheet_have_the_same_colours() -> None:
    light, dark = PAGE.split(':root[data-theme="dark"]')
    for palette, text in ((LIGHT, light), (DARK, dark)):
        named = dict(re.findall(r"--([a-z]+\d?): (#[0-9a-f]{6})", text))
        for name in ("train", "validation", "batch", "ghost"):
            assert named[name] == getattr(palette, name)
        assert [named[f"layer{number}"] for number in range(len(palette.layers))] == list(palette.layers)
        assert (named["card"], named["text"], named["muted"]) == (palette.surface, palette.text, palette.muted)
