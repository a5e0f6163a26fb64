"""The page: whole without network and without script, safe against any name, and told by records only."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from benchmarks.records import Record, RecordError
from benchmarks.report import html, spending, summary
from benchmarks.report.family_tree import FamilyTree
from benchmarks.studies import NETS
from benchmarks.templates import VENDOR, vendored
from tests.benchmarks.made_up import cell, cost, made_up, real
from zoo.contract.request import Setting


class Page(HTMLParser):
    """Tags with their attributes, and the text of the visible tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found


def found() -> list[Record]:
    reference = "ddpm-pd4 4 on triton, single-stream"
    triton = {"runtime": "triton", "reference": reference}
    return [
        real(100),
        *made_up("ddpm", 60.0, 100, 1.5, setting=Setting(50, "ddim"), relative=10.0, nfe=50, **triton),
        *made_up("ddpm-pd4", 6.0, 100, 2.5, setting=Setting(4, "ddim"), relative=1.0, nfe=4, **triton),
        *made_up("gan", 1.5, 100, 8.0, relative=0.25, flags=("invalid",), **triton),
        cell("gan", 0.9, runtime="onnxruntime", scenario="offline"),
    ]


def test_nothing_is_fetched_and_only_its_own_scripts_may_run() -> None:
    text = html.render(found())
    page = Page(text)
    addresses = [each[name] for _, each in page.tags for name in ("src", "href", "action", "poster") if name in each]
    assert all(re.match(r"(data:|#)", address or "") for address in addresses)
    assert "@import" not in text.split("</style>")[0]
    [policy] = [each["content"] or "" for each in page.all("meta") if "http-equiv" in each]
    assert policy.startswith("default-src 'none'; img-src data:;")
    bodies = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(bodies) == len(vendored()) + 1
    for body in bodies:
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_vendored_libraries_are_what_their_record_says_with_their_licences() -> None:
    listed = {name for each in vendored() for name in (each["file"], each["licence_file"])}
    assert listed | {"vendor.json"} == {path.name for path in VENDOR.iterdir()}
    for each in vendored():
        data = (VENDOR / each["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == each["sha256"]
        assert b"</script" not in data
        assert each["version"] in each["from"]


def test_the_page_has_landmarks_captions_scopes_and_regions_that_can_be_scrolled_by_keys() -> None:
    page = Page(html.render(found()))
    assert all(len(page.all(tag)) == 1 for tag in ("header", "main", "footer", "nav", "h1"))
    assert all(each.get("scope") for each in page.all("th"))
    scrolled = [each for _, each in page.tags if (each.get("class") or "").split()[:1] == ["scroll"]]
    assert scrolled
    assert all(
        each.get("tabindex") == "0" and each.get("role") == "region" and each.get("aria-label") for each in scrolled
    )
    assert len(page.all("caption")) >= len(page.all("tbody"))


def test_a_name_is_text_wherever_it_stands() -> None:
    text = html.render(made_up("<b>bold</b></script>", 1.0, 100, 1.0, family="<i>&'\""))
    assert "<b>bold" not in text
    assert "<i>" not in text
    [row] = Page(text).data["sections"][0]["rows"]
    assert row["title"] == "<b>bold</b></script>"


def test_the_data_has_every_value_interval_verdict_and_flag() -> None:
    [section] = Page(html.render(found())).data["sections"]
    rows = {row["title"]: row for row in section["rows"]}
    assert set(rows) == {"ddpm 50", "ddpm-pd4 4", "gan"}
    assert section["rows"][section["reference"]]["title"] == "ddpm-pd4 4"
    assert rows["gan"]["timing"]["triton|single-stream"]["p50"] == [1.5, 1.35, 1.65]
    assert rows["gan"]["timing"]["triton|single-stream"]["relative"][0] == 0.25
    assert rows["gan"]["timing"]["triton|single-stream"]["flags"] == ["invalid"]
    assert rows["gan"]["timing"]["triton|single-stream"]["why"] == ["Min duration satisfied : NO"]
    assert len(rows["gan"]["timing"]["triton|single-stream"]["quantiles"]) == html.QUANTILES
    assert len(rows["gan"]["timing"]["triton|single-stream"]["runs"]) == 2
    keys = {each["key"] for each in section["measures"]}
    assert {"fd_classifier", "fd_critic", "recall_critic", "accuracy_classifier"} <= keys
    place = section["reference"]
    assert rows["gan"]["verdicts"]["fd_critic"][place] == "w"
    assert rows["ddpm 50"]["verdicts"]["fd_critic"][place] == "b"
    assert rows["ddpm-pd4 4"]["verdicts"]["fd_critic"][place] == "-"


def test_without_script_the_page_shows_the_same_rows_with_verdicts_and_flags() -> None:
    text = html.render(found())
    static = text.split("<script")[0]
    assert '<span class="verdict worse">worse</span>' in static
    assert re.search(r'class="flag invalid"[^>]*>INVALID<', static)
    assert 'class="static"><svg' in static, "a picture"
    assert "0.25<small>0.24 to 0.26</small>" in static.replace("0.245", "0.24").replace("0.255", "0.26")


def test_a_student_stands_beside_its_teacher_on_the_same_seeds() -> None:
    text = html.render(found())
    [pair] = re.findall(r'<details class="box" id="student-ddpm-pd4">(.*?)</details>', text, re.DOTALL)
    assert "4 network calls instead of 50" in pair
    assert "<strong>10.0 times as fast</strong>" in pair
    assert pair.count('<span class="verdict worse">worse</span>') == len(NETS)
    assert "student-gan" not in text


def test_a_picture_is_in_the_page_once_however_often_it_is_shown(small_tree: FamilyTree) -> None:
    text = html.render(small_tree.records)
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert pictures
    assert len(pictures) == len(set(pictures))


def test_the_race_is_in_the_page_with_its_extrapolated_rows_marked(small_tree: FamilyTree) -> None:
    text = html.render(small_tree.records)
    [section] = re.findall(r'<section aria-labelledby="race">(.*?)</section>', text, re.DOTALL)
    assert "≈ 20.0 h" in section
    assert re.search(r"<g class=\"[^\"]* hollow\"><title>ddpm 1000 ddpm", section)


def test_costs_stand_in_the_page_and_say_when_a_build_has_paid_off() -> None:
    timed = [
        cell("a", 3.0, runtime="onnxruntime"),
        cell("a", 1.0, runtime="torch-compile"),
        cell("a", 9.0, runtime="torch"),
    ]
    spent = [cost("a", "onnxruntime"), cost("a", "torch-compile", build_s=30.0), cost("a", "torch", build_s=1.0)]
    [section] = summary.sections([*timed, *spent])
    found = {each.runtime: each for each in spending.of(section)}
    assert found["torch-compile"].pays_off == "15,000 images of a", "30 s at 2 ms saved each"
    assert found["torch"].pays_off == "never"
    assert found["onnxruntime"].pays_off == ""
    text = html.render([*timed, *spent])
    assert "<td>15,000 images of a</td>" in text
    assert "generator 0.75" in text
    assert "no counter" in text


def test_rows_of_other_data_are_sections_of_their_own() -> None:
    page = Page(html.render([*found(), *made_up("striped", 0.5, 100, 1.0, judged=False, dataset="stripes")]))
    _, second = page.data["sections"]
    assert [row["title"] for row in second["rows"]] == ["striped"]
    assert second["measures"] == []
    alone = html.render(made_up("striped", 0.5, 100, 1.0, judged=False, dataset="stripes"))
    assert "training\npictures" not in alone
    assert "Nothing here was both timed and judged" in alone


def test_nothing_on_record_is_one_sentence() -> None:
    with pytest.raises(RecordError, match="genzoo bench"):
        html.render([])
