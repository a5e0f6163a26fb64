"""What a card says of a generator without classes, and of one whose images no feature net knows."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import genzoo
from benchmarks.report import cards
from tests.benchmarks.made_up import made_up, real
from tests.datasets import stripes
from zoo import files, shelf
from zoo.families.gan import GANConfig, GANGenerator
from zoo.family import Checkpoint, class_conditional
from zoo.files import HOME_VARIABLE

RELEASE = Path(__file__).parents[2] / "fixtures/first_formats/remote"
COUNT = 100
CONFIG = GANConfig(channels=(8, 8), latent=4, style=0, num_classes=0)
TRAINING = {"images": 64, "minutes": 0.1, "hardware": "a desk", "threads": 1, "torch": "2", "curves": []}


def card(
    size: int, *, judged: bool, tree: Path, monkeypatch: pytest.MonkeyPatch, dataset: str = "fashion_mnist"
) -> str:
    """The card of an unconditional generator with images of that size."""
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tree))
    entry = Checkpoint(class_conditional("free", "gan", (4,), (size, size, 1), 0), CONFIG, dataset=dataset)
    shelf.save(entry, GANGenerator(CONFIG).state_dict(), TRAINING)
    weights = shelf.config("free")["weights"]["sha256"]
    found = made_up("free", 1.0, COUNT, 3.0, weights=weights, unconditional=True, judged=judged, dataset=dataset)
    return cards.write(entry, [*found, real(COUNT)]).read_text()


def test_without_classes_a_card_tells_how_varied_the_images_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = card(32, judged=True, tree=tmp_path, monkeypatch=monkeypatch)
    assert "tags: [gan, unconditional," in text
    assert "equally frequent classes of the ten" in text
    assert "than the one asked for" not in text
    [row] = [line for line in text.splitlines() if line.startswith("| free (NFE 1)")]
    assert row.endswith("|  |"), "no accuracy"


def test_images_that_no_net_knows_get_a_card_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = card(8, judged=False, tree=tmp_path, monkeypatch=monkeypatch)
    assert "the feature nets know images of 32x32x1, and these are 8x8x1" in text
    assert "padded to 32x32 and shrunk to 8x8, and nothing else" in text
    assert "## Measured latency" in text
    assert "fd_" not in text


def test_a_card_says_what_the_data_set_s_record_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = card(32, judged=False, tree=tmp_path, monkeypatch=monkeypatch, dataset=stripes(monkeypatch, tmp_path))
    assert "Data: stripes, the 100 training pictures, drawn as they are, verified by nothing." in text
    assert "the data set is under the CC0 licence" in text
    assert "It knows stripes of 10 periods, drawn as they are, and nothing else." in text
    assert "Not judged: there are no judges of Stripes." in text
    assert not re.search("clothes|fashion|MIT|60,000|10,000", text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("kinds", "tag"),
    [
        ((), "unconditional-image-generation"),
        (("class_id",), "unconditional-image-generation"),
        (("text",), "text-to-image"),
        (("image", "text"), "image-to-image"),
    ],
)
def test_a_task_is_called_by_what_is_given(kinds: tuple[str, ...], tag: str) -> None:
    assert cards.pipeline_tag(kinds) == tag


def test_the_card_of_what_others_published_stays_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    tree = tmp_path / "site-packages" / "zoo" / "checkpoints"
    (tree / "gan").mkdir(parents=True)
    monkeypatch.setattr(shelf, "TREE", tree)
    monkeypatch.setattr(files, "checkout", lambda: None)
    with pytest.raises(shelf.StoreError, match="gan is its publisher's"):
        cards._folder("gan")

    genzoo.pull("tiny", str(RELEASE))
    with pytest.raises(shelf.StoreError, match="tiny is its publisher's"):
        cards._folder("tiny")


def test_a_curve_s_name_from_outside_is_text_in_the_picture() -> None:
    svg = cards.curves_svg(
        [{"images": 1, "<script>alert(1)</script>": 1.0}, {"images": 2, "<script>alert(1)</script>": 2.0}]
    )
    texts = [each.text or "" for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "<script>alert(1)</script>: 1 to 2" in texts
    assert "<script>" not in svg
