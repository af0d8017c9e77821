"""A form of settings as one component: the browser draws it, and each of its fields is checked here.

Panel's widgets would take one model and one tooltip a field, which is a third of the time until a page can be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import param

from mdfa_app.charts.live import Component
from mdfa_app.charts.style import FORM, asset
from mdfa_app.settings.words import written

_LONGEST = 400  # characters of a text that a browser may send


class Field(param.Parameterized):
    """One field of a form. Change it as often as you like: `Form.refresh` sends what differs.

    `options` makes it a choice: its value is one of the options' values. Without options it is a number or a text.
    """

    value = param.Parameter(doc="The value; of a number that cannot be read, the text as it was typed.")
    options = param.Dict(default=None, doc="Values by label; None for a number or a text.")
    visible = param.Boolean(default=True)
    disabled = param.Boolean(default=False)
    wrong = param.String(doc="Why the value is not allowed; empty if it is.")

    def __init__(self, label: str, kind: str, value: Any, help_: str, *, more: bool = False, **settings: Any) -> None:
        self.label, self.kind, self.help, self.more = label, kind, help_, more
        super().__init__(value=value, **settings)

    def take(self, sent: Any) -> None:
        """Take what a browser sends: the place of an option, or a text. Nothing else changes anything."""
        if self.options is not None:
            values = list(self.options.values())
            if isinstance(sent, int) and not isinstance(sent, bool) and 0 <= sent < len(values):
                self.value = values[sent]
        elif isinstance(sent, str) and len(sent) <= _LONGEST:
            self.value = sent if self.kind == "text" else number(sent)

    def to_dict(self) -> dict[str, Any]:
        """The field as form.js reads it."""
        value: str | int = "" if self.value is None else written(self.value)
        if self.options is not None:
            values = list(self.options.values())
            value = values.index(self.value) if self.value in values else -1
        return {
            "label": self.label, "kind": self.kind, "help": self.help, "more": self.more, "visible": self.visible,
            "disabled": self.disabled, "wrong": self.wrong, "options": list(self.options or ()), "value": value,
        }  # fmt: skip


class FileField(Field):
    """A field for a file: the browser sends its name and size, then its content in parts.

    Args:
        label, help_: as of a `Field`.
        largest: bytes above which a browser sends no content.
        on_send: called with whatever a browser sends.
    """

    def __init__(self, label: str, help_: str, *, largest: int, on_send: Callable[[Any], None]) -> None:
        self._largest, self._on_send = largest, on_send
        super().__init__(label, "file", "", help_)

    def take(self, sent: Any) -> None:
        self._on_send(sent)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "largest": self._largest}


class Form(Component):
    """The fields of a form.

    Args:
        fields: by name, in the order they are shown. Those with `more` are folded below the others.
    """

    shown = param.Dict(default={}, doc="`Field.to_dict` by name.")

    _esm = asset("form.js")

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = fields
        super().__init__(stylesheets=[FORM], sizing_mode="stretch_width", margin=0)
        self.refresh()

    def refresh(self) -> None:
        """Show the fields as they are now; nothing is sent if nothing differs."""
        shown = {name: field.to_dict() for name, field in self._fields.items()}
        if shown != self.shown:
            self.shown = shown

    def _handle_msg(self, data: Any) -> None:
        name = data.get("name") if isinstance(data, dict) else None
        if isinstance(name, str) and name in self._fields:
            field = self._fields[name]
            if field.visible and not field.disabled:
                field.take(data.get("value"))


def number(text: str) -> int | float | str | None:
    """The number that a text spells, None for no text, or the text itself."""
    text = text.strip()
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None


def watch(fields: Iterable[Field], on_change: Callable[[Field], None]) -> None:
    """Call `on_change` with the field whenever the value of one of them changes."""
    for field in fields:
        field.param.watch(lambda event: on_change(event.obj), "value")
