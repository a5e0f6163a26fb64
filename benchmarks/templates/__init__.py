"""The words around measured numbers: the report, the cards, the pictures. Knows nothing of what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def template(name: str) -> Any:
    """The Jinja template in this folder; an undefined name in it is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    autoescape = name.endswith((".html.j2", ".svg.j2"))
    return Environment(loader=loader, autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True).get_template(
        name
    )
