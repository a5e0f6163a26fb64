"""What a command line asks of a generator, read by what the generator and its data set declare."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from serving import asked
from tests.serving.conftest import ITERATIVE
from zoo.contract.errors import RequestError
from zoo.contract.request import Mixture
from zoo.datasets import fashion_mnist

LABELS = {"class_id": fashion_mnist.CLASSES}


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", "9"), (" 10 ", " 10 "), ("boot", "9"), ("ankle boot", "9"), ("SHIRT", "6"), ("t-shirt", "0"), ("top", "0")],
)
def test_a_label_is_its_number_and_a_number_is_itself(text: str, number: str) -> None:
    assert asked.value_of("class_id", text, fashion_mnist.CLASSES) == number


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("bot", "class_id 'bot' is no number from 0 to 9 and no label: did you mean boot"),
        ("Snaeker", "did you mean sneaker"),
        ("", "no label: choose one of ankle, ankle boot, bag"),
        ("boot bag", "is no number from 0 to 9 and no label"),
    ],
)
def test_what_is_no_label_is_told_the_labels(text: str, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        asked.value_of("class_id", text, fashion_mnist.CLASSES)


def test_a_word_of_two_labels_is_asked_again() -> None:
    with pytest.raises(RequestError, match="colour 'red' is dark red or light red: say which"):
        asked.value_of("colour", "red", ("dark red", "light red"))
    assert asked.value_of("colour", "red", ("dark red", "red")) == "1"


def test_values_are_read_by_labels_and_mixed_by_weights() -> None:
    given = asked.texts(["class_id=boot", "class_id=3"])
    assert asked.values(ITERATIVE, given, (), {}, LABELS) == {"class_id": [9, 3]}
    mixed = asked.values(ITERATIVE, {}, ["class_id=0.75*boot", "class_id=.25*bag"], {}, LABELS)
    assert mixed == {"class_id": [Mixture((9, 8), (0.75, 0.25))]}


def test_what_was_not_said_is_left_to_the_generator() -> None:
    assert asked.texts(None, class_id=["cycle"], prompt=None, image=None) == {}
    assert asked.texts(None, prompt=["a boot, black"]) == {"prompt": ["a boot, black"]}


def test_the_labels_of_a_checkpoint_are_its_data_sets() -> None:
    assert asked.words("ddpm")["class_id"] == fashion_mnist.CLASSES
    assert asked.words("toy-ddpm") == {}


def test_labels_need_no_torch() -> None:
    check = "import sys; from serving import asked; asked.words('ddpm'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_list_and_an_array_of_one_axis_more_are_several_values() -> None:
    row, picture = np.arange(3), np.zeros((8, 8, 1), np.uint8)
    assert asked.several(ITERATIVE, "class_id", row) == [0, 1, 2]
    assert asked.several(ITERATIVE, "class_id", (4, np.int64(5))) == [4, 5]
    assert asked.several(ITERATIVE, "class_id", 6) == [6]
    [single] = asked.several(ITERATIVE, "image", picture)
    assert single is picture
    assert len(asked.several(ITERATIVE, "image", np.stack([picture] * 3))) == 3
    assert len(asked.several(ITERATIVE, "mask_image", picture[..., 0])) == 1
