"""The grammar of captions of designs, as docs/designs.md shows it: `python -m tests.grammar_table` writes it there."""

from __future__ import annotations

from math import prod
from pathlib import Path

from benchmarks.templates.marks import replace_marked
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.portrait_styles import ABSENT, GROUND, Attribute, Style

PAGE, MARK = Path(__file__).parents[1] / "docs" / "designs.md", "grammar"


def table() -> str:
    """A section of each style, in Markdown."""
    return "\n\n".join(section(style) for style in DESIGNS)


def section(style: Style) -> str:
    pairs = " and ".join(" with ".join(pair) for pair in style.held_out)
    number = prod(len(attribute.words) for attribute in style.attributes)
    lines = [
        f"### {style.word}",
        "",
        f"{style.credit}, CC0 1.0. {number:,} combinations; held out by {pairs}.",
        "",
        "| attribute | said as | words |",
        "|---|---|---|",
    ]
    lines += [f"| {each.name} | {said(style, each)} | {', '.join(words(each))} |" for each in style.attributes]
    return "\n".join(lines)


def said(style: Style, attribute: Attribute) -> str:
    if attribute.name == GROUND:
        return f"{GROUND} WORD"
    return f"WORD {attribute.name}" if style.is_named(attribute) else "WORD"


def words(attribute: Attribute) -> list[str]:
    return [each if each != ABSENT else "(nothing, if it is not there)" for each in attribute.words]


if __name__ == "__main__":
    replace_marked(PAGE, MARK, table())
