"""The page of conditions says what the checkpoints say, and its commands can be given."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from genzoo import cli
from tests import condition_table
from zoo.contract import conditions

PAGE = condition_table.PAGE.read_text()
LINES = [line.split("#")[0].strip() for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
         for line in block.splitlines()]  # fmt: skip


def test_the_table_is_what_the_checkpoints_declare() -> None:
    assert "\n".join(condition_table.page_says()) == condition_table.table(), "run `python -m tests.condition_table`"


def test_every_kind_of_condition_has_its_line() -> None:
    told = set(re.findall(r"^\| `(\w+)` \| .* \| .* \|$", PAGE.split("## Kinds")[1].split("\n## ")[0], re.MULTILINE))
    assert told == set(conditions.KINDS)


@pytest.mark.parametrize("line", LINES)
def test_its_commands_have_only_options_that_there_are(line: str) -> None:
    program, name, *words = shlex.split(line)
    command = typer.main.get_command(cli.app).get_command(None, name)  # type: ignore[attr-defined, arg-type]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert program == "genzoo"
    assert {word for word in words if word.startswith("-")} <= known
