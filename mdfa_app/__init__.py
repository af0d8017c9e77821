"""The live app: a Panel page over `mdfa_core`. It draws and asks; all learning is in `mdfa_core`.

One name is public: `build` makes the page for a visitor of a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdfa_app.serving.server import build

__all__ = ["build"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: presets and other plain data are used without the server.
    if name != "build":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mdfa_app.serving.server import build

    return build
