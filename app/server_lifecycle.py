"""Bokeh loads this before it makes this folder's server: `panel serve app/` is guarded from its first request on."""

import os

from mdfa_app.serving.guard import install
from mdfa_app.settings.availability import DOWNLOADS
from mdfa_core import MdfaError

os.environ.setdefault(DOWNLOADS, "0")  # a visitor may be anybody
try:
    install()
except MdfaError as error:
    raise SystemExit(f"Error: {error}") from None
