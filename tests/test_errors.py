"""The tree of errors that the documents draw is the tree that the code has."""

from __future__ import annotations

import importlib
import signal

import pytest

from genzoo import failures
from tests import error_tree
from zoo.errors import GenzooError


def test_the_page_of_errors_is_what_the_sources_say() -> None:
    page = (error_tree.ROOT / "docs" / "errors.md").read_text()
    assert page == error_tree.page(), "run `python tests/error_tree.py > docs/errors.md`"


@pytest.mark.parametrize("module", ["zoo.registry", "zoo.store.local.partial", "serving.endpoint", "export.bundle"])
def test_the_sources_are_read_as_python_reads_them(module: str) -> None:
    drawn = {line.split("`")[1] for line in error_tree.page().splitlines() if line.lstrip().startswith("- `")}
    found = vars(importlib.import_module(module)).values()
    errors = {each.__name__ for each in found if isinstance(each, type) and issubclass(each, GenzooError)}
    assert errors
    assert errors <= drawn


def test_what_a_library_made_of_ctrl_c_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with failures.interrupts() as seen, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(SystemExit) as left:
        failures.end(RuntimeError("the graph could not be traced"), [], interrupted=bool(seen))
    assert (left.value.code, capsys.readouterr()) == (130, ("", ""))
    with pytest.raises(RuntimeError, match="could not be traced"):
        failures.end(RuntimeError("the graph could not be traced"), [])
