"""The script that `panel serve app/` runs for every visitor. Its handlers are in `mdfa_app`, which outlives a visit."""

from mdfa_app import build
from mdfa_app.serving.guard import require

require()
build().servable()
