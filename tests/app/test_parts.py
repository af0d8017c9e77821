"""The parts of the app that need neither a page nor a thread: curves, words, limits, colours."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import shlex
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pandas as pd
import pytest
from bokeh.models.scales import LogScale
from bokeh.models.tools import HoverTool

from mdfa_app.charts.axis import LEAD, Axis, Epochs, round_up
from mdfa_app.charts.chart import SHARES, Chart, Style
from mdfa_app.charts.names import spread
from mdfa_app.charts.style import PAGE
from mdfa_app.comparison import export
from mdfa_app.comparison.comparison import Lane
from mdfa_app.comparison.history import Curve, History, Reader, Series
from mdfa_app.page.words import PHASE_WORDS, outcomes
from mdfa_app.settings import link, words
from mdfa_app.settings.limits import LIMITS, Limits
from mdfa_app.settings.presets import PRESETS
from mdfa_app.settings.rules import rules
from mdfa_app.stage.meaning import meaning_of
from mdfa_app.tabs import TABS
from mdfa_app.trainer.messages import Phase
from mdfa_core import METHODS, Experiment, MdfaError, Run
from mdfa_core.base.colours import DARK, LIGHT, Palette, dash_of_rule
from mdfa_core.base.errors import InvalidValue
from mdfa_core.training.events import Agreement, Evaluated, Finished, Probed, Progress


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_no_two_rules_look_the_same(palette: Palette) -> None:
    assert len({(palette.rule(number), dash_of_rule(number)) for number in range(24)}) == 24


def agreement(share: float | None, undefined: float = 0.0) -> Agreement:
    return Agreement(layers=((share,), (share,)), overall=(share,), undefined=((undefined,), (undefined,)))


def probed(unit: float | None = 1.0, batch: float | None = 0.9, undefined: float = 0.0) -> Probed:
    return Probed(
        step=3, epoch=1, unit=agreement(unit, undefined), example=agreement(unit), batch=agreement(batch),
        angle=((30.0,), (None,)), angle_overall=(40.0,), norm_ratio=((1.0,), (1.0,)), saturation=((0.0,), (0.0,)),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- curves


def test_a_curve_stays_bounded_and_keeps_its_ends() -> None:
    curve = Curve(limit=50)
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
    curve = Curve(limit=10)
    reader = Reader(curve, {"value": "y"})
    drawn: list[float] = []
    for number in range(300):
        curve.add(number, {"y": number})
        anew, columns = reader.news()
        drawn = columns["x"] if anew else drawn + columns["x"]
        assert drawn == [row["x"] for row in curve.rows]


def test_a_history_takes_what_events_say() -> None:
    history = History("mDFA", steps_per_epoch=3)
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
    assert history.probed.last["ratio1"] == 1.0
    assert history.probed.last["undefined_batch0"] == 0.0
    assert "unit2" not in history.probed.last, "there is no third layer"
    assert math.isnan(history.probed.last["angle1"]), "an undefined angle is not drawn"
    assert history.evaluated.last is not None
    assert math.isnan(history.evaluated.last["validation"])


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
    unit, batch = (
        meaning_of(METHODS["mdfa"], mdfa, "unit", probed()),
        meaning_of(METHODS["mdfa"], mdfa, "batch", probed()),
    )
    assert unit.measured == "100 % of the unit error signals have the true sign."
    assert "Theorem 2 holds" in unit.reason
    assert "mini-batch" not in unit.reason
    assert batch.measured == "90.0 % of the mini-batch updates have the true sign."
    assert "a mini-batch update is a sum over examples" in batch.reason
    convolution = meaning_of(METHODS["mdfa"], mdfa.replace(network="digits-conv"), "example", probed())
    assert "a convolution uses each weight at many places" in convolution.reason
    assert "a convolution" not in meaning_of(METHODS["mdfa"], mdfa, "example", probed()).reason
    assert "sum" not in meaning_of(METHODS["bp"], mdfa, "batch", probed()).reason
    assert "50 % is chance" in meaning_of(METHODS["fa"], mdfa, "unit", probed(0.5)).reason
    assert "Theorem 5" in meaning_of(METHODS["mdfa"], mdfa.replace(outputs=3), "unit", probed(0.6)).reason
    assert "are measured" not in unit.reason
    sampled = dataclasses.replace(probed(), units=32)
    assert "32 units of each layer are measured" in meaning_of(METHODS["mdfa"], mdfa, "unit", sampled).reason


def test_what_is_undefined_is_said() -> None:
    def measured(probe: Probed | None) -> str:
        return meaning_of(METHODS["mdfa"], Experiment(), "unit", probe).measured

    assert "12.5 % are zero or undefined" in measured(probed(undefined=0.125))
    assert "none has a sign" in measured(probed(None))
    assert measured(None) == "Not measured yet."


def test_every_state_has_its_words() -> None:
    assert set(PHASE_WORDS) == set(Phase)
    assert len(set(PHASE_WORDS.values())) == len(Phase)


def test_the_outcome_names_the_test_accuracy() -> None:
    finished = Finished(
        step=9, epoch=3, best_train_accuracy=(1.0,), best_validation_accuracy=(0.9,), best_validation_epoch=(2,),
        test_accuracy=(0.875,), diverged_at=(None,),
    )  # fmt: skip
    assert outcomes({"mDFA": finished}) == (
        "Test accuracy, evaluated once at the end: mDFA 87.5 % (weights of epoch 2)."
    )
    lost = dataclasses.replace(finished, test_accuracy=(None,), diverged_at=(4,))
    assert "FA diverged (its loss became NaN or infinite at mini-batch 4)" in outcomes({"mDFA": finished, "FA": lost})
    assert outcomes({}) == ""
    several = dataclasses.replace(finished, test_accuracy=(0.75, 0.25, 0.5), diverged_at=(None, 4, None))
    assert "FA 62.5 % (mean of 2 seeds, 50.0 % to 75.0 %; 1 of 3 seeds diverged)" in outcomes({"FA": several})


def test_names_of_lines_keep_apart() -> None:
    assert spread([0.0, 0.01, 0.99, 1.0], 0.1, 0.05, 0.95) == pytest.approx([0.05, 0.15, 0.85, 0.95])
    assert spread([0.3, 0.5, 0.5, 0.5, 0.8], 0.1, 0.05, 0.95) == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.8])
    crowd = [0.5] * 9
    places = spread(crowd, 0.1, 0.05, 0.95)
    assert np.diff(places) == pytest.approx(0.1)
    assert max(abs(place - 0.5) for place in places) == pytest.approx(0.4), "no further than they must"


def test_an_axis_begins_at_chance_if_no_value_is_far_below_it() -> None:
    def begin(chance: float, *values: float) -> float:
        axis = Axis(1.06, log=False)
        axis.note([*values, math.nan])
        axis.fit(chance)
        return axis.start

    assert begin(0.5) == begin(0.5, 0.47, 1.0) == pytest.approx(0.44)
    assert begin(0.5, 0.4, 0.9) == pytest.approx(0.3)
    assert begin(0.5, 0.1, 0.9) == 0
    assert begin(0.1, 0.3) == 0, "little would be gained"


def test_a_logarithmic_axis_shows_every_positive_number() -> None:
    axis = Axis(None, log=True)
    assert (axis.start, axis.end) == (0.1, 10)
    axis.note([0.0, 0.002, 7e6, math.inf])
    axis.fit()
    assert (axis.start, axis.end) == pytest.approx((1e-3, 1e7))
    assert axis.share(1e2) == pytest.approx(0.5)
    assert axis.value(axis.share(7.0)) == pytest.approx(7)
    assert axis.share(0.0) == 0
    axis.note([7e30])
    axis.fit()
    assert axis.start == pytest.approx(1e19), "and no more decades than can be read"


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.2, 0.9], [0.1, 0.2, 0.5, 1]),
        ([0.02, 0.9], [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]),
        ([1e-3, 5e2], [1e-3, 1e-2, 0.1, 1, 10, 100, 1000]),
        ([1e-6, 5e5], [1e-6, 1e-4, 1e-2, 1, 100, 1e4, 1e6]),
    ],
)
def test_a_logarithmic_axis_has_as_many_ticks_as_can_be_read(values: list[float], ticks: list[float]) -> None:
    axis = Axis(None, log=True)
    axis.note(values)
    axis.fit()
    assert axis.log_ticks == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("classes", "label", "ticks"),
    [
        (2, "\u200350 %\nchance", [0, 0.25, 0.5, 0.75, 1]),
        (3, "\u200333 %\nchance", [0, 1 / 3, 0.75, 1]),
        (10, "\u200310 %\nchance", [0.1, 0.5, 0.75, 1]),
    ],
)
def test_chance_stands_at_the_axis_in_place_of_numbers_that_it_would_touch(
    classes: int, label: str, ticks: list[float]
) -> None:
    style = Style(title="Accuracy", height=168, format="0.0 %", slots=3, ticks=SHARES, mark=(0.5, "chance"))
    chart = Chart(style, Epochs())
    chart.show({}, {}, mark=1 / classes)
    axis = chart.figure.yaxis[0]
    assert axis.ticker.ticks == ticks
    assert axis.major_label_overrides[1 / classes] == label
    assert [text for text in axis.major_label_overrides.values() if "chance" in text] == [label]
    assert axis.major_label_overrides.keys() >= set(SHARES), "a browser keeps what a tick has said"


def test_a_zoomed_axis_stays_until_its_visitor_goes_back() -> None:
    epochs = Epochs()
    epochs.fit(8, 0)
    assert (epochs.range.start, epochs.range.end) == (0, 10)
    epochs.range.update(start=2, end=4.5)  # a browser zooms
    epochs.fit(20, 0)
    assert (epochs.range.start, epochs.range.end, epochs.range.reset_end) == (2, 4.5, 30)


@pytest.mark.parametrize(("name", "letters"), [("BP", 19), ("mDFA", 35), ("mDFA, W free", 80)])  # as Chromium draws
def test_the_names_of_lines_have_room_at_every_epoch(name: str, letters: int) -> None:
    axis = 236  # pixels
    for epoch in range(1, 101):
        epochs = Epochs()
        epochs.fit(epoch, 0, len(name))
        free = axis * (1 - epoch / epochs.shown[1])
        assert free - LEAD * axis >= letters, epoch


def test_a_tooltip_has_a_row_for_each_line_and_a_column_for_each_run() -> None:
    chart = Chart(Style(title="Loss", height=168, format="0.0000", slots=3, top=None), Epochs())
    curve = Curve()
    curve.add(1.0, {"loss": 0.5})
    lines = {0: Series(curve, "loss", "BP"), 2: Series(curve, "loss", "<A@1>")}
    before = {0: Series(curve, "loss", "BP", "before")}
    pinned = [(0, Series(curve, "loss", "BP", "<b>$x")), (1, Series(curve, "loss", "FA", "<b>$x"))]
    chart.show(lines, before, pinned)
    (hover,) = (tool for tool in chart.figure.tools if isinstance(tool, HoverTool))
    text = str(hover.tooltips)
    assert re.findall(r"<th style[^>]+>(.+?)</th>", text) == ["now", "before", "&lt;b&gt;&#36;x"]
    cells = [re.findall(r"<td[^>]*>(?:<b>)?([^<]+)<", row) for row in text.split("<tr>")]
    assert [row for row in cells if row] == [
        ["BP", "$x{l0}", "$x{b0}", "$x{p0}"], ["&lt;A&#64;1&gt;", "$x{l2}", "–", "–"], ["FA", "–", "–", "$x{p1}"],
    ]  # fmt: skip
    assert len(hover.renderers) == 1, "so there is one tooltip"
    assert chart.axis.end == 0.5
    chart.set_log(True)
    assert isinstance(chart.figure.y_scale, LogScale)
    assert chart.axis.start > 0


# ----------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 513}, "batch size is 513: this server allows at most 512"),
        ({"epochs": 2001}, "epochs is 2001"),
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


def test_several_seeds_cost_as_much_as_several_networks() -> None:
    one, three = (LIMITS.check(Experiment(), seeds) for seeds in (1, 3))
    assert 2.5 * one < three < 3 * one, "they share the images"
    limits = Limits(run_bytes=three - 1)
    assert limits.fits(Experiment())
    with pytest.raises(MdfaError, match="or fewer seeds"):
        limits.check(Experiment(), 3)
    with pytest.raises(MdfaError, match="compare fewer rules or seeds"):
        Limits(run_bytes=three + 1).check_all([Experiment(), Experiment(method="bp")], 3)


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
    assert all(contrast(colour) >= 3 for colour in (palette.train, palette.validation, *palette.layers, *palette.rules))


def test_charts_and_style_sheet_have_the_same_colours() -> None:
    light, dark = PAGE.split(':root[data-theme="dark"]')
    for palette, text in ((LIGHT, light), (DARK, dark)):
        named = dict(re.findall(r"--([a-z]+\d?): (#[0-9a-f]{6})", text))
        for name in ("train", "validation", "batch", "ghost"):
            assert named[name] == getattr(palette, name)
        assert [named[f"layer{number}"] for number in range(len(palette.layers))] == list(palette.layers)
        assert [named[f"rule{number}"] for number in range(len(palette.rules))] == list(palette.rules)
        assert (named["card"], named["text"], named["muted"]) == (palette.surface, palette.text, palette.muted)


# ------------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_is_a_link_and_within_the_limits(preset: str) -> None:
    state = link.of_preset(preset)
    assert link.read(link.write(state), tabs=tuple(TABS)) == (state, [])
    LIMITS.check_all([rules()[name].experiment(state.settings) for name in state.rules])
    assert set(state.rules) <= set(rules())
    assert not PRESETS[preset].tab or PRESETS[preset].tab in TABS


def test_a_link_holds_only_what_differs() -> None:
    assert link.write(link.Link()) == ""
    settings = link.Link().settings.replace(outputs=2, network="fc:8,8", forward_init="zeros", drop_last=False)
    state = link.Link(settings=settings, rules=("bp", "mdfa-free"), draw="bp", level="batch", speed="max", embed=True)
    query = link.write(state)
    assert set(dict(parse_qsl(query))) == {
        "outputs", "network", "forward_init", "drop_last", "rules", "level", "speed", "embed",
    }  # fmt: skip
    assert link.read("?" + query) == (state, [])


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("outputs=nine", "the link's outputs is 'nine'"),
        ("outputs=-1", "the number of outputs is -1"),
        ("epochs=99999999", "epochs is 99999999: this server allows at most"),
        ("network=fc:99999,99999", "this server allows"),
        ("network=../../etc/passwd", "unknown network"),
        ("data=__import__('os')", "unknown data"),
        ("rules=<script>", "unknown learning rule"),
        ("draw=bp", "which is not compared"),
        ("level=x", "unknown level"),
        ("tab=x", "unknown tab"),
        ("preset=x", "unknown preset"),
        ("nonsense=1", "unknown part of the link"),
        ("method=bp", "unknown part of the link"),
        ("drop_last=maybe", "the link's drop_last"),
        ("network=" + "f" * 300, "longer than 200 characters"),
        ("&".join(f"a{n}=1" for n in range(60)), "too many parts"),
    ],
)
def test_what_a_link_may_not_say_is_left_out_with_a_sentence(query: str, sentence: str) -> None:
    state, complaints = link.read(query, tabs=tuple(TABS))
    assert any(sentence in complaint for complaint in complaints)
    LIMITS.check_all([rules()[name].experiment(state.settings) for name in state.rules])


@pytest.mark.parametrize("preset", ["one-output", "plane"])
def test_settings_that_do_not_fit_together_leave_the_preset_as_it_is_and_are_told(preset: str) -> None:
    opened, complaints = link.read(f"preset={preset}&data=blobs&outputs=5&network=fc:16")
    assert opened.settings == PRESETS[preset].experiment
    assert complaints == [
        "the link's settings are not used: 5 outputs need as many classes, but two blobs has 2: choose fewer "
        "outputs or other data"
    ]


# --------------------------------------------------------------------------------------------------------- take away


def test_curves_are_taken_away_whole() -> None:
    history = History("mDFA", steps_per_epoch=3)
    history.add(probed())
    history.add(Progress(step=3, epoch=1, loss=(0.5,), accuracy=(0.75,)))
    runs = {"mine": {"mdfa": Lane((history,), rules()["mdfa"], Experiment(seed=7))}}
    made = pd.read_csv(io.BytesIO(export.csv(runs)))
    assert list(made.columns) == ["rule", "epoch", "quantity", "value", "run", "seed"]
    assert (set(made.run), set(made.seed)) == ({"mine"}, {7})
    assert made.set_index("quantity").value["progress: loss"] == 0.5
    assert made.set_index("quantity").value["probed: batch0"] == 0.9
    pytest.importorskip("pyarrow", reason="needs pyarrow for Parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(export.parquet(runs))), made)


def test_the_python_code_runs_and_trains_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [rules()[name] for name in ("bp", "mdfa-free")]
    settings = Experiment(network="fc:4", epochs=1, seed=3)
    code = export.python(settings, chosen)
    try:
        exec(code, {"__name__": "__main__"})
    finally:
        METHODS.remove("mdfa-free")  # which the code adds
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["bp", "mdfa-free"]
    assert err == ""
    exec(export.python(settings, chosen[:1], 3), {"__name__": "__main__"})
    out, err = capsys.readouterr()
    assert out.count("0.") >= 3, "a figure for each seed"
    assert err == ""
    assert "--replicas 3" in export.commands(settings, chosen, 3)
    assert json.loads(export.configuration(settings, chosen, 3))["seeds"] == [3, 4, 5]


def test_the_notebook_takes_the_parameters_and_has_the_defaults_that_the_commands_assume() -> None:
    notebook = json.loads((Path(__file__).parents[2] / export.NOTEBOOK).read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    (parameters,) = ["".join(cell["source"]) for cell in cells]
    found: dict[str, object] = {}
    exec(parameters, {}, found)
    assert {name: found[name] for name in export.NOTEBOOK_PARAMETERS} == {
        name: getattr(export.NOTEBOOK_DEFAULTS, name) for name in export.NOTEBOOK_PARAMETERS
    }
    experiment_settings = {field.name for field in dataclasses.fields(Experiment)} - {"method"}
    assert found.keys() & experiment_settings == set(export.NOTEBOOK_PARAMETERS)
    assert {"methods"} <= found.keys()


def test_commands_are_quoted_and_name_what_the_notebook_cannot_take() -> None:
    settings = Experiment(network="fc:4", batch_size=8, drop_last=False, epochs=1)
    text = export.commands(settings, [rules()["bp"], rules()["mdfa-free"]])
    words_ = shlex.split(text.splitlines()[0])
    assert words_[:4] == ["mdfa", "train", "--method", "bp"]
    assert {"--no-drop-last", "--batch-size"} <= set(words_)
    assert "no parameter for batch_size, drop_last" in text
    assert "mDFA, W free exists only on the page" in text
    assert set(json.loads(export.configuration(settings, [rules()["bp"]]))["experiments"]) == {"bp"}


def test_a_checkpoint_goes_on_where_it_was(tmp_path: Path) -> None:
    run = Run(Experiment(network="fc:4", epochs=1), device="cpu")
    list(run.events(steps=2))
    path = tmp_path / "run.pt"
    path.write_bytes(export.checkpoint(run))
    assert Run.load(path, device="cpu").step == 2
    with pytest.raises(InvalidValue, match="the page sends at most"):
        export.checkpoint(Run(Experiment(network="fc:1024,1024", epochs=1), device="cpu"))
