"""Whether a data set is on this server."""

from __future__ import annotations

import os

from mdfa_core import DATASETS, MdfaError
from mdfa_core.data.data_dir import find_data_dir

DOWNLOADS = "MDFA_DOWNLOADS"
"""The environment variable that says whether visitors may have data sets downloaded: 1 or 0."""


def downloads() -> bool:
    """Whether visitors may have data sets downloaded, and see where this server keeps them.

    Whoever serves the page decides it: `mdfa app` allows it on this machine only unless --downloads is given,
    `panel serve app/` needs `MDFA_DOWNLOADS=1`. A notebook, which has no visitors, allows it.
    """
    return os.environ.get(DOWNLOADS, "1") == "1"


def missing(data: str) -> str | None:
    """A sentence that says how to get a data set that is not on this server; None if it is here."""
    entry = DATASETS[data]
    elsewhere = f"{entry.title} is not on this server: choose other data, or ask whoever serves this page for it."
    try:
        data_dir = find_data_dir()
        if entry.bundled or entry.find(data_dir) is not None:
            return None
    except MdfaError as error:
        return str(error) if downloads() else elsewhere
    if not downloads():
        return elsewhere
    if data_dir.named or not entry.downloads:
        return f"{entry.title} is not in the data folder of this server: press Start to see which files are missing."
    return f"{entry.title} is not on this server yet: Start downloads it once, if it can ({entry.source})."
