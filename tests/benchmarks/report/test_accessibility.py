"""The page in a real browser: WCAG 2.2 AA by axe-core, light and dark, desktop and phone, by mouse, touch and keys."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import html
from tests.benchmarks.made_up import made_up, race, real
from zoo.contract.request import Setting

BROWSER = Path(__file__).parents[2] / "browser"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NODE = shutil.which("node")
VIEWS = ("desktop-light", "desktop-dark", "phone-light", "phone-dark")

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and NODE and (BROWSER / "node_modules").is_dir()),
    reason="needs chromium, node and what drives it: `make browser`, after `apt-get install chromium nodejs npm`",
)


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `tests/browser/visit.cjs` found in a page of a few rows of two data sets, the race, and flags."""
    folder = tmp_path_factory.mktemp("browser")
    reference = {"runtime": "triton", "reference": "ddpm-pd4 4 on triton, single-stream"}
    found = [
        real(100),
        *made_up("ddpm", 60.0, 100, 1.5, setting=Setting(50, "ddim"), nfe=50, relative=10.0, **reference),
        *made_up("ddpm-pd4", 6.0, 100, 2.5, setting=Setting(4, "ddim"), nfe=4, relative=1.0, **reference),
        *made_up("gan", 1.5, 100, 1.0, shifts={"classifier": 8.0, "critic": 0.5}, relative=0.25, **reference),
        *made_up("vae", 2.5, 100, 9.0, family="vae", relative=0.4, flags=("invalid", "noisy"), **reference),
        *made_up("striped", 0.5, 100, 1.0, judged=False, dataset="stripes"),
        race("gan", 30.0, 2.0),
        race("ddpm", 72_000.0, 1.0, setting=Setting(1000, "ddpm"), counted=500),
    ]
    page = html.write(found, folder / "report.html", price=3.6)
    ran = subprocess.run(
        [str(NODE), str(BROWSER / "visit.cjs"), str(page), str(folder)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "CHROMIUM": str(CHROMIUM)},
    )
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_wrong_with_the_page_folded_unfolded_or_used(visit: dict[str, Any], view: str) -> None:
    found = visit[view]
    assert found["errors"] == []
    assert found["requests"] == [], "it opens without a network"
    assert (found["violations"], found["unfolded"], found["after"]) == ([], [], [])


@pytest.mark.parametrize("view", VIEWS)
def test_only_regions_scroll_sideways_never_the_page(visit: dict[str, Any], view: str) -> None:
    width = 350 if view.startswith("phone") else 1280
    assert (visit[view]["width"], visit[view]["unfoldedWidth"]) == (width, width)


def test_a_heading_sorts_and_says_so(visit: dict[str, Any]) -> None:
    up, down = visit["desktop-light"]["sorted"]
    assert (up["order"], down["order"]) == ("ascending", "descending")
    assert up["values"] == sorted(up["values"], key=int)
    assert [int(value) for value in up["values"]] == [1, 1, 4, 50]
    assert down["values"] == up["values"][::-1]


def test_filters_take_rows_and_points_away_together(visit: dict[str, Any]) -> None:
    found = visit["desktop-light"]
    assert found["before"] == 4
    assert found["hidden"]["pressed"] == "false"
    assert found["hidden"]["rows"] == ["vae"], "all others are of the first family"
    assert [label.split(",")[0] for label in found["hidden"]["points"]] == ["vae"]
    assert found["searched"] == ["gan"]
    assert found["measured"].startswith("Fréchet distance, critic")


def test_tab_and_arrow_keys_reach_every_point_and_its_values_are_read(visit: dict[str, Any]) -> None:
    found = visit["desktop-light"]
    assert [found[name]["role"] for name in ("first", "second", "last")] == ["option"] * 3
    assert [found[name]["label"].split(",")[0] for name in ("first", "second", "last")] == ["gan", "vae", "ddpm 50"]
    assert found["first"]["selected"] == "true"
    assert "p50 1.50 (1.35 to 1.65)" in found["first"]["label"]
    assert "1.50 (1.35 to 1.65) ms" in found["first"]["tip"]
    assert "1.50 ms" in found["first"]["detail"]
    assert "INVALID" in found["second"]["label"]
    assert "LoadGen holds a run of this timing for invalid" in found["second"]["detail"]
    assert "disputed against ddpm-pd4 4" in found["first"]["label"]
    assert "thin lines lead there" in found["first"]["detail"]


def test_a_finger_beside_a_point_means_it(visit: dict[str, Any]) -> None:
    tapped = visit["phone-light"]["tapped"]
    name = tapped["wanted"].split(",")[0]
    assert tapped["detail"] == name
    assert tapped["tip"].startswith(name)


def test_a_price_of_the_hour_becomes_one_of_a_thousand_images(visit: dict[str, Any]) -> None:
    found = visit["desktop-light"]
    assert "price of 1,000" in found["head"]
    assert found["prices"] == {"gan": "0.0015", "vae": "0.0025", "ddpm-pd4 4": "0.006", "ddpm 50": "0.06"}


def test_the_theme_can_be_chosen(visit: dict[str, Any]) -> None:
    theme, background = visit["desktop-light"]["theme"]
    assert (theme, background) == ("dark", "rgb(20, 22, 26)")


def test_without_script_there_are_a_picture_and_tables(visit: dict[str, Any]) -> None:
    assert visit["plain"] == {"picture": True, "table": True, "controls": False}
