"""Links of a page as the site needs them: a page on a code host may link to any file of the repository."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
PAGES = {  # files of the repository that are pages of the site
    ROOT / "README.md": DOCS / "index.md",
    ROOT / "CONTRIBUTING.md": DOCS / "contributing/index.md",
    ROOT / "CHANGELOG.md": DOCS / "contributing/changelog.md",
}
FENCED = re.compile(r"^(?P<indent> *)(?P<fence>```+|~~~+).*?^(?P=indent)(?P=fence) *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s:]+)\)")


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """`text` with `change` made to all that is no fenced block."""
    parts, end = [], 0
    for block in FENCED.finditer(text):
        parts += [change(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, change(text[end:])])


def rewritten(text: str, folder: Path, page_folder: Path | None = None) -> str:
    """The text of a page with links for the site.

    Args:
        text: Markdown whose links start at `folder`.
        folder: where the text lies.
        page_folder: where the page lies that shows the text, if it is another folder.
    """
    here = page_folder or folder

    def link(match: re.Match[str]) -> str:
        name, _, fragment = match["target"].partition("#")
        file = Path(os.path.normpath(folder / name)) if name else None
        if file is None:
            return match[0]
        file = PAGES.get(file, file)
        relative = Path(os.path.relpath(file, here)).as_posix()
        hash_ = f"#{fragment}" if fragment else ""
        if file.is_dir() and not match["image"]:
            return f"`{os.path.relpath(file, ROOT)}`"  # the site shows no folders
        if file.suffix == ".html":  # a finished page, which is copied beside the others
            return f'<a href="{relative}{hash_}">{match["text"]}</a>'
        if file.is_relative_to(DOCS):
            return f"{match['image']}[{match['text']}]({relative}{hash_})"
        return f"[{match['text']}](path:{relative})"  # the site offers the file itself

    return outside_code(text, lambda part: LINK.sub(link, part))
