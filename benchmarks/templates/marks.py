"""What a command writes into a page that people write: between marks, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from zoo import files
from zoo.errors import GenzooError


class MarkError(GenzooError, ValueError):
    """A page that lacks the marks between which a text goes."""


def replace_marked(path: Path, name: str, text: str) -> None:
    """Put `text` between `<!-- name:begin -->` and `<!-- name:end -->`. Raises MarkError where they are missing."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if not path.is_file():
        raise MarkError(f"there is no file {path}: the text goes between {begin} and {end} of a checkout's README.md")
    page = path.read_text()
    if page.count(begin) != 1 or page.count(end) != 1:
        raise MarkError(f"{path} needs one {begin} and one {end}: the text goes between them")
    head, rest = page.split(begin)
    with files.atomic(path) as temporary:
        temporary.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}")
