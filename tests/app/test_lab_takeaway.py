"""What is taken away from the page inside a notebook: every download in a real JupyterLab is opened and read."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from mdfa_core import Experiment, Run
from tests.app.test_lab import Reader, address, reader  # noqa: F401 - two are fixtures

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def download(reader: Reader, label: str, filename: str) -> Path:  # noqa: F811
    with reader.page.expect_download(lambda file: file.suggested_filename == filename) as file:
        reader.page.get_by_text(label, exact=True).click()
    return file.value.path()


def test_what_is_taken_away_from_a_notebook_can_be_read(reader: Reader) -> None:  # noqa: F811
    page = reader.page
    reader.begin("explore")
    page.get_by_text("100 % of the unit error signals have the true sign.").wait_for()
    reader.press("Take away")
    content = download(reader, "Curves as CSV", "curves.csv").read_text()
    assert content.startswith("rule,epoch,quantity,value")
    assert "mdfa" in content
    assert "mdfa" in set(pd.read_parquet(download(reader, "Curves as Parquet", "curves.parquet")).rule)
    experiments = json.loads(download(reader, "Configuration as JSON", "configuration.json").read_text())["experiments"]
    assert Experiment.from_dict(experiments["mdfa"]).method == "mdfa"
    assert Run.load(download(reader, "Checkpoint of the net that is drawn", "run.pt"), device="cpu").step > 0
    for kind, first in (("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        picture = download(reader, f"Charts as {kind}", f"Training accuracy.{kind.lower()}")
        assert picture.read_bytes().lstrip().startswith(first)
