"""The door's page for people: plain HTML, a style sheet and a module, which ask the door as any other client would.

Nothing of it comes from elsewhere and nothing is built: the browser is told to take no script, style or picture of
another origin, and to send nothing there. Who has a key types it in; it stays in the page's memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",  # what was made, and what a person is about to send
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}
HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


@dataclass(frozen=True)
class File:
    content: bytes
    media_type: str


def files() -> Mapping[str, File]:
    """Those of this folder by their paths below the door; the page itself is `/`."""
    found = [path for path in FOLDER.iterdir() if path.suffix in TYPES]
    names = {path: "/" if path.name == "index.html" else f"/page/{path.name}" for path in found}
    return {names[path]: File(path.read_bytes(), TYPES[path.suffix]) for path in found}
