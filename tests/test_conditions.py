"""The page of conditions says what the checkpoints and the kinds say."""

from __future__ import annotations

import re

from tests import condition_table
from zoo.contract import conditions

PAGE = condition_table.PAGE.read_text()


def test_the_table_is_what_the_checkpoints_declare() -> None:
    assert "\n".join(condition_table.page_says()) == condition_table.table(), "run `python -m tests.condition_table`"


def test_every_kind_of_condition_has_its_line() -> None:
    told = set(re.findall(r"^\| `(\w+)` \| .* \| .* \|$", PAGE.split("## Kinds")[1].split("\n## ")[0], re.MULTILINE))
    assert told == set(conditions.KINDS)
