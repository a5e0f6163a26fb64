"""What each checkpoint's weights take, as docs/weights.md shows it: `python -m tests.weights_table` writes it there.

Read from the zoo's index, without torch. The page's other table, by hand, is what may come to those that are not here.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.templates.marks import replace_marked
from zoo import index, registry

PAGE, HERE, TO_COME = Path(__file__).parents[1] / "docs" / "weights.md", "here", "to-come"
HEAD = ("checkpoint", "systems", "bytes", "at most")
MEGABYTE = 1_000_000
BASES = ("t2i-base",)  # what others are built on
BASE_MOST, MOST, ALL = 12 * MEGABYTE, 6 * MEGABYTE, 170 * MEGABYTE


def most(name: str) -> int:
    return BASE_MOST if name in BASES else MOST


def weights() -> dict[str, int]:
    """The bytes of each checkpoint's weights, by its name."""
    return {name: int(known["weights"]["bytes"]) for name, known in sorted(index.records().items())}


def table() -> str:
    """A row of each checkpoint of the tree, in Markdown."""
    found = weights()
    rows = [HEAD, tuple("---" for _ in HEAD)]
    rows += [(f"`{name}`", systems(name), f"{size:,}", f"{most(name):,}") for name, size in found.items()]
    rows.append(("together", "", f"{sum(found.values()):,}", f"{ALL:,}"))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def systems(name: str) -> str:
    return ", ".join(system.title for system in registry.entry(name).systems) or "a step on the way to others"


def between(mark: str) -> list[str]:
    """The lines of the page between two marks."""
    rest = PAGE.read_text().split(f"<!-- {mark}:begin -->")[1]
    return rest.split(f"<!-- {mark}:end -->")[0].strip().splitlines()


def to_come() -> dict[str, int]:
    """The bytes that each system still to come may take, by its title."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in between(TO_COME)[2:]]
    return {title: round(float(megabytes) * MEGABYTE) for title, _, megabytes in cells}


if __name__ == "__main__":
    replace_marked(PAGE, HERE, table())
