"""The words around measured numbers: the report, the cards, the pictures. Knows nothing of what it shows."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
VENDOR = FOLDER / "vendor"


def template(name: str) -> Any:
    """The Jinja template in this folder; an undefined name in it is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    autoescape = name.endswith((".html.j2", ".svg.j2"))
    loader = FileSystemLoader(FOLDER)
    return Environment(loader=loader, autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True).get_template(
        name
    )


def script(path: Path) -> dict[str, str]:
    """A script to be inlined: its `text`, and the `hash` by which a page's policy allows it (CSP level 3)."""
    text = path.read_text()
    digest = hashlib.sha256(text.encode()).digest()
    return {"text": text, "hash": f"sha256-{base64.b64encode(digest).decode()}"}


def vendored() -> list[dict[str, str]]:
    """Other people's libraries that pages inline, unchanged: file, name, version, licence, origin, digest."""
    found: list[dict[str, str]] = json.loads((VENDOR / "vendor.json").read_text())
    return found
