"""Record the presets of the app and write them into docs/gallery/: pages that open from disk and replay by themselves.

Usage: python studies/gallery.py [--pages | --first] [PRESET ...]; all presets if left out. It takes some minutes.
With --pages, nothing is trained: the recordings in the pages get the current module, texts and index. With --first,
only the recording that a first visit to the page shows is written (mdfa_app/assets/first.json).
"""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdfa_app.settings.presets import PRESETS
from mdfa_app.stage import first
from mdfa_app.stage.replay import record_preset
from mdfa_core.stage import recording_in, replay_page

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "docs" / "gallery"
FIRST = ROOT / "mdfa_app" / "assets" / first.RECORDING
QUESTION = "Is each hidden unit told the right direction to change?"
INDEX = Path(__file__).with_suffix(".html")


def page_of(name: str, recording: dict[str, Any]) -> str:
    """The page of a preset."""
    preset = PRESETS[name]
    source = f"python studies/gallery.py {name}"
    return replay_page(recording, title=preset.heading, lead=QUESTION, text=preset.claim, source=source)


def index() -> str:
    """The page that lists the replays."""
    cards = [
        f'<li><a href="{name}.html"><h2>{html.escape(preset.heading)}</h2><p>{html.escape(preset.claim)}</p></a></li>'
        for name, preset in PRESETS.items()
    ]
    return INDEX.read_text(encoding="utf-8").replace("%cards%", "\n".join(cards))


def main(words: Sequence[str]) -> None:
    """Write the replays of these presets, and the index."""
    if "--first" in words:
        FIRST.write_text(first.written(first.recorded()), encoding="utf-8")
        print(f"{FIRST.name}: {FIRST.stat().st_size / 1000:.0f} kB")
        return
    names = [word for word in words if word != "--pages"] or list(PRESETS)
    GALLERY.mkdir(exist_ok=True)
    for name in names:
        path = GALLERY / f"{name}.html"
        old = "--pages" in words
        recording = recording_in(path.read_text(encoding="utf-8")) if old else record_preset(PRESETS[name]).to_dict()
        path.write_text(page_of(name, recording), encoding="utf-8")
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)
    (GALLERY / "index.html").write_text(index(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
