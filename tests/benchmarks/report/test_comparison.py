"""Who is better beyond chance, who is on the front, and what the opinions dispute."""

from __future__ import annotations

from benchmarks.report import summary
from benchmarks.report.comparison import Comparison
from benchmarks.report.summary import Section
from tests.benchmarks.made_up import made_up, quality

NETS = ("classifier", "critic")


def section(*distances: tuple[str, float, float, float]) -> Section:
    """Rows of (name, milliseconds, how many floors from real images, says the classifier, says the critic)."""
    found = [
        record
        for name, p50, *shifts in distances
        for record in made_up(name, p50, 100, 1.0, shifts=dict(zip(NETS, shifts, strict=True)))
    ]
    return summary.main(found)


def test_a_verdict_needs_more_than_chance_and_the_same_number_of_images() -> None:
    found = Comparison(section(("a", 1.0, 2.0, 2.0), ("b", 1.0, 2.05, 2.0), ("c", 1.0, 3.0, 3.0)).rows, NETS)
    assert found.verdict(0, 2, "critic") == "better"
    assert found.verdict(2, 0, "critic") == "worse"
    assert found.verdict(0, 1, "critic") == "indistinguishable"
    assert found.opinion(0, 2) == "better"
    assert found.against(found.rows[2]) == ["better", "better", ""]
    assert found.against(None) == ["", "", ""]
    assert found.letters("critic") == ["-ib", "i-b", "ww-"]
    others = [*found.rows, *summary.main([quality("few", 60, 1.0)]).rows]
    assert Comparison(others, NETS).verdict(0, 3, "critic") == ""


def test_who_is_beaten_is_beaten_in_time_and_under_every_opinion() -> None:
    of = section(("a", 1.0, 2.0, 2.0), ("b", 2.0, 4.0, 4.0), ("c", 3.0, 4.0, 1.0), ("d", 0.5, 8.0, 8.0))
    found = Comparison(of.rows, NETS)
    assert found.beaten([1.0, 2.0, 3.0, 0.5]) == {1}, "c is the critic's favourite, d the fastest"
    assert Comparison(of.rows, ("classifier",)).beaten([1.0, 2.0, 3.0, 0.5]) == {1, 2}
    assert found.beaten([1.0, None, 3.0, 0.5]) == set(), "what was not timed beats nothing and is not beaten"


def test_a_dispute_needs_two_nets_that_are_both_sure() -> None:
    of = section(("a", 1.0, 1.0, 4.0), ("b", 1.0, 2.0, 2.0), ("c", 1.0, 2.0, 4.0))
    [dispute] = Comparison(of.rows, NETS).disputes
    assert {net: row.title for net, row in dispute.better.items()} == {"classifier": "a", "critic": "b"}
