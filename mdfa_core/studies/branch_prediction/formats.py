"""The three formats of trace files, told apart by their first bytes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from mdfa_core.base.errors import DataError
from mdfa_core.studies.branch_prediction.bt9 import TITLE, read_bt9
from mdfa_core.studies.branch_prediction.cbp2025 import read_cbp2025
from mdfa_core.studies.branch_prediction.traces import BranchTrace, read_trace

_ZIP, _GZIP = b"PK", b"\x1f\x8b"


def read_any(path: str | Path) -> BranchTrace:
    """Read a trace that `write_trace` wrote, or one of the championships of 2016 (BT9) and 2025.

    Raises:
        DataError: as `read_trace`, `read_bt9` and `read_cbp2025`.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(2)
        if head == _GZIP:
            with gzip.open(path) as file:
                unpacked = file.read(len(TITLE))
    except (OSError, EOFError, zlib.error) as error:
        said = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read ({said}): give a branch trace") from None
    if not head:
        raise DataError(f"{path} is empty: give a branch trace")
    if head == _ZIP:
        return read_trace(path)
    if head == _GZIP:
        return read_bt9(path) if unpacked == TITLE.encode() else read_cbp2025(path)
    if head != TITLE[:2].encode():
        raise DataError(f"{path} is no branch trace: give a file of `mdfa branches record`, or of BT9 or CBP-2025")
    return read_bt9(path)
