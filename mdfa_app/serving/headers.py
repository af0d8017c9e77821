"""Headers of every answer: what a browser may load, run and frame."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

from mdfa_core import MdfaError

_ORIGIN = re.compile(r"(https?://)?[A-Za-z0-9*][A-Za-z0-9.*-]*(:([0-9]{1,5}|\*))?|\*")
_SCRIPT = re.compile(r"<script(?=[\s>])")


def new_nonce() -> str:
    """A word that only the scripts of one answer know."""
    return secrets.token_urlsafe(16)


def with_nonce(page: str, nonce: str) -> str:
    """A page whose own scripts a browser runs under `security_headers(nonce=nonce)`."""
    return _SCRIPT.sub(f'<script nonce="{nonce}"', page)


def check_ancestors(origins: Sequence[str]) -> tuple[str, ...]:
    """The origins whose pages may frame the app.

    Raises:
        MdfaError: if one is not `host`, `host:port` or `https://host`, which would let it change the policy.
    """
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise MdfaError(f"the page cannot be embedded in {origin!r}: give a host as in https://example.org")
    return tuple(origins)


def security_headers(*, nonce: str = "", ancestors: Sequence[str] = ()) -> dict[str, str]:
    """Headers of an answer.

    Everything comes from the server itself. Bokeh compiles the callbacks that run in the browser (`unsafe-eval`), Panel
    loads components from `blob:` addresses, and both write styles into the page. Inline scripts run with the answer's
    nonce only, inline event handlers never.

    Args:
        nonce: of the scripts in the answer; none is allowed without it.
        ancestors: origins whose pages may frame this one, besides its own.
    """
    scripts = f"'self' blob: 'unsafe-eval' 'nonce-{nonce}'" if nonce else "'none'"
    policy = {
        "default-src": "'none'",
        "script-src": scripts,
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self' blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "object-src": "'none'",
        "frame-ancestors": " ".join(["'self'", *ancestors]),
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if not ancestors:  # browsers that know frame-ancestors ignore this one
        headers["X-Frame-Options"] = "SAMEORIGIN"
    return headers
