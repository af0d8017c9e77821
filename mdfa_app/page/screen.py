"""What a page needs of the place where it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Edit = Callable[[], None]


class Screen(Protocol):
    """A place where one page is shown, such as a document of a server."""

    def soon(self, edit: Edit) -> None:
        """Run `edit`, which changes Bokeh models, as soon as that is allowed. Any thread may call this."""

    def when_drawn(self, edit: Edit) -> None:
        """Run `edit` as soon as the browser keeps up with what it was sent. Call it while an edit runs.

        An edit that waits already is not added again.
        """
