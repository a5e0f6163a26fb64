"""What a process says for machines: an object a line, whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

WORDS = """
import logging
from serving.logs import LogFormat, begin
begin(LogFormat({form!r}))
log = logging.getLogger("some.place")
log.warning("it has %d\\nlines", 2, extra={{"facts": {{"model": "gan", "path": "\\u2028"}}}})
log.info("not this")
logging.getLogger("serving.doors.watch").info("a request")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broken")
"""


def said(form: str) -> list[str]:
    command = [sys.executable, "-c", WORDS.format(form=form)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    ).stderr.split("\n")[:-1]


def test_for_machines_a_line_is_an_object() -> None:
    first, request, broken = (json.loads(line) for line in said("json"))
    assert {key: first[key] for key in ("level", "logger", "message", "model")} == {
        "level": "warning",
        "logger": "some.place",
        "message": "it has 2\nlines",
        "model": "gan",
    }
    assert request["message"] == "a request"
    assert "ZeroDivisionError" in broken["exception"]


def test_for_people_requests_are_not_told() -> None:
    lines = said("text")
    assert lines[0].endswith("some.place: it has 2")
    assert not [line for line in lines if "a request" in line]
