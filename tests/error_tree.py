"""The tree of genzoo's errors as docs/errors.md shows it: `python tests/error_tree.py > docs/errors.md`.

It is read from the sources, so that no dependency need be installed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("zoo", "export", "serving", "benchmarks", "genzoo")
HEAD = """# Errors

What a person can act on derives from `GenzooError`: the command line prints it as one sentence, and under `--json`
names it as `type`. `python tests/error_tree.py > docs/errors.md` reads this page from the sources; a test watches it.

"""


@dataclass(frozen=True)
class Class:
    """One class of the sources: where it stands, and what it says of itself."""

    name: str
    bases: tuple[str, ...]
    file: str
    sentence: str


def classes() -> Iterator[Class]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    bases = tuple(ast.unparse(base).rpartition(".")[2] for base in node.bases)
                    sentence = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                    yield Class(node.name, bases, str(path.relative_to(ROOT)), sentence)


def lines(root: str, found: list[Class], depth: int = 0) -> Iterator[str]:
    """A class and all that derives from it, first base first, as a list in Markdown."""
    for each in found:
        if each.name == root:
            yield f"{'  ' * depth}- `{each.name}` ({each.file}): {each.sentence}"
    for each in found:
        if each.bases and root == next((base for base in each.bases if base in {one.name for one in found}), None):
            yield from lines(each.name, found, depth + 1)


def page() -> str:
    return HEAD + "\n".join(lines("GenzooError", list(classes()))) + "\n"


if __name__ == "__main__":
    print(page(), end="")
