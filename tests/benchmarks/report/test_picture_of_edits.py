"""The README's pictures of what can be asked for: well-formed, and showing what their captions say."""

from __future__ import annotations

import base64
import io
from functools import cache
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from benchmarks.report import conditioned, edits
from export.runtimes import Runtime
from zoo import files

DOCS = Path(__file__).parents[3] / "docs"
DRAWN = {"edits.svg": edits, "conditioned.svg": conditioned}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def home() -> Path:
    """Everybody's, with its data and the bundles that were exported already: nothing is changed there."""
    return files.home()


@cache
def drawn(name: str) -> str:
    """By torch, which exports nothing; what is published is by ONNX Runtime."""
    return str(DRAWN[name].svg(Runtime.TORCH))


def pictures(svg: str) -> list[list[np.ndarray]]:
    """Rows of pictures, by where they stand."""
    rows: dict[str, list[np.ndarray]] = {}
    for each in ElementTree.fromstring(svg).iter(f"{SVG}image"):
        data = base64.b64decode(each.attrib["href"].partition("base64,")[2])
        rows.setdefault(each.attrib["y"], []).append(np.array(Image.open(io.BytesIO(data))))
    return list(rows.values())


def words(svg: str) -> list[str]:
    return [" ".join("".join(each.itertext()).split()) for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", DRAWN)
def test_a_published_picture_is_what_its_command_draws(name: str) -> None:
    """Here a pixel may be a grey level off, where kernels sum in another order."""
    published = (DOCS / name).read_text()
    assert words(published) == words(drawn(name))
    for ours, theirs in zip(chain(*pictures(drawn(name))), chain(*pictures(published)), strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= 2


def test_what_was_edited_is_what_is_said() -> None:
    painted, changed, begun, (source, mask, *parts), mixed = pictures(drawn("edits.svg"))
    assert [len({each.tobytes() for each in row}) for row in (painted, changed)] == [7, 6]
    distances = [np.abs(each.astype(float) - begun[0]).mean() for each in begun]
    assert distances == sorted(distances)
    assert all((each[mask == 0] == source[mask == 0]).all() for each in parts)
    assert len({each.tobytes() for each in parts}) == len(parts)
    assert len({each.tobytes() for each in mixed}) == len(edits.SHARES)


def test_each_of_a_row_is_another_and_scenes_are_within_their_boxes() -> None:
    *rows, (frames, scene, *_) = pictures(drawn("conditioned.svg"))
    assert all(len({each.tobytes() for each in row}) == len(row) for row in rows)
    assert frames.shape[-1] == scene.shape[-1] == 3
