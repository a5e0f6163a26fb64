"""Every study is about checkpoints of the zoo, and what it finds becomes a table with its answer."""

from __future__ import annotations

import pytest

from benchmarks import records, studies
from benchmarks.report import cards, summary
from benchmarks.report.findings import concerning, markdown
from tests.benchmarks.made_up import made_up
from zoo import registry, shelf
from zoo.contract.request import Setting


@pytest.mark.parametrize("name", studies.STUDIES)
def test_a_study_asks_a_question_about_checkpoints_that_there_are(name: str) -> None:
    study = studies.study(name)
    assert study.question.endswith("?")
    assert study.checkpoints
    for checkpoint in study.checkpoints:
        assert studies.identity(name)["checkpoints"][checkpoint] == shelf.config(checkpoint)["weights"]["sha256"]
        assert registry.checkpoint(checkpoint).name == checkpoint


def test_findings_become_a_table() -> None:
    record = {"columns": ["scale", "fd"], "rows": [[1.5, "2.0 (1.0 to 3.0)"], [1000, None]], "answer": "So it is."}
    table = "| scale | fd |\n|---|---|\n| 1.5 | 2.0 (1.0 to 3.0) |\n| 1,000 |  |\n\nSo it is."
    assert markdown(record) == table


def test_a_card_shows_the_newest_findings_about_its_own_weights() -> None:
    def record(study: str, digest: str, answer: str) -> records.Record:
        identity = {"study": study, "checkpoints": {"ddpm": digest}, "settings": {}}
        return records.make("study", identity, question="?", columns=[], rows=[], answer=answer)

    found = [record("a", "1", "old"), record("a", "1", "new"), record("a", "2", "other weights"), record("b", "1", "b")]
    assert [each["answer"] for each in concerning("ddpm", "1", found)] == ["new", "b"]


def test_a_card_shows_what_is_made_where_nothing_is_asked() -> None:
    found = [
        record
        for setting in (Setting(5, "ddim"), Setting(50, "ddim"), Setting(50, "ddim", 2.0), Setting(1000, "ddpm"))
        for record in made_up("ddpm", 1.0, 100, 1.0, setting=setting)
    ]
    [section] = summary.sections(found)
    assert cards.default(registry.checkpoint("ddpm"), section.rows).title == "ddpm 50"
    assert cards.default(registry.checkpoint("ddpm"), section.rows[-1:]).title == "ddpm 1000 ddpm"


def test_an_unknown_study_is_named_with_the_nearest() -> None:
    with pytest.raises(registry.UnknownNameError, match="did you mean guidance"):
        studies.study("guidence")
