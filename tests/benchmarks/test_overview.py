"""The README's table and picture are made from records only."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import overview
from benchmarks.workload import WorkloadError


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    begin, end = "<!-- ratios:begin -->", "<!-- ratios:end -->"
    readme.write_text(f"# genzoo\n{begin}\nold\n{end}\nafter\n")
    overview.replace_marked(readme, "ratios", "| new |")
    assert readme.read_text() == f"# genzoo\n{begin}\n| new |\n{end}\nafter\n"
    readme.write_text("no marks")
    with pytest.raises(WorkloadError, match="ratios:begin"):
        overview.replace_marked(readme, "ratios", "| new |")
    assert readme.read_text() == "no marks"
