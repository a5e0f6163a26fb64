"""The README's picture of edits: well-formed, and showing what its captions say."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from benchmarks.report import edits
from zoo import files

PUBLISHED = Path(__file__).parents[3] / "docs" / "edits.svg"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def home() -> Path:
    """Everybody's, with its data and the bundles that were exported already: nothing is changed there."""
    return files.home()


@cache
def drawn() -> str:
    return edits.svg()


def pictures(svg: str) -> list[list[np.ndarray]]:
    """Rows of pictures, by where they stand."""
    rows: dict[str, list[np.ndarray]] = {}
    for each in ElementTree.fromstring(svg).iter(f"{SVG}image"):
        data = base64.b64decode(each.attrib["href"].partition("base64,")[2])
        rows.setdefault(each.attrib["y"], []).append(np.array(Image.open(io.BytesIO(data))))
    return list(rows.values())


def words(svg: str) -> list[str]:
    return [" ".join("".join(each.itertext()).split()) for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_the_published_picture_is_what_the_command_draws() -> None:
    """Here a pixel may be a grey level off, where kernels sum in another order."""
    published = PUBLISHED.read_text()
    assert words(published) == words(drawn())
    for ours, theirs in zip(pictures(drawn()), pictures(published), strict=True):
        difference = np.abs(np.stack(ours).astype(int) - np.stack(theirs))
        assert difference.max() <= 2


def test_it_shows_what_it_says() -> None:
    painted, changed, begun, (source, mask, *parts), mixed = pictures(drawn())
    assert [len({each.tobytes() for each in row}) for row in (painted, changed)] == [7, 6]
    distances = [np.abs(each.astype(float) - begun[0]).mean() for each in begun]
    assert distances == sorted(distances)
    assert all((each[mask == 0] == source[mask == 0]).all() for each in parts)
    assert len({each.tobytes() for each in parts}) == len(parts)
    assert len({each.tobytes() for each in mixed}) == len(edits.SHARES)
