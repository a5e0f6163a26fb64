"""Pictures and masks as conditions."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.contract import conditions
from zoo.contract.assets import NO_ASSETS
from zoo.contract.conditions import Condition, arrays, image, kind, null
from zoo.contract.errors import RequestError
from zoo.contract.graph import TensorSpec
from zoo.images import to_pixels
from zoo.plain import PlainError

PICTURE = Condition("image", "image", image.Options(4, 6))
MASK = Condition("mask_image", "image", image.Options(4, 6, 1, low=0.0))
SIZED = Condition("control", "image", image.Options("height/8", "width"))
SIZES = {"height": 32, "width": 5}


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def encoded(condition: Condition, *values: Any) -> np.ndarray:
    found = kind(condition).encode(condition, arrays(condition, values), NO_ASSETS)
    return found[condition.name]


def saved(path: Path, picture: Image.Image, **options: Any) -> str:
    picture.save(path, **options)
    return str(path)


def test_edge_and_tensors_are_declared() -> None:
    assert kind(SIZED).edge(SIZED) == TensorSpec("control", "uint8", ("height/8", "width", 3))
    assert kind(SIZED).tensors(SIZED) == (TensorSpec("control", "float32", (3, "height/8", "width")),)


def test_pixels_are_those_of_training_bit_for_bit() -> None:
    picture = pixels(4, 6, 3)
    assert np.array_equal(encoded(PICTURE, picture), to_pixels(picture[None]))


def test_a_mask_is_zero_to_one_with_exact_ends() -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[0, 0], mask[0, 1] = 255, 51
    found = encoded(MASK, mask)
    assert found.shape == (1, 1, 4, 6)
    assert found.dtype == np.float32
    assert found[0, 0, 0, :3].tolist() == [1.0, np.float32(0.2), 0.0]


def test_any_other_range() -> None:
    half = Condition("image", "image", image.Options(1, 1, 1, low=-0.5, high=2.0))
    assert encoded(half, 0, 255).ravel().tolist() == [-0.5, 2.0]


def test_a_number_is_a_picture_of_that_grey_level() -> None:
    assert np.array_equal(arrays(SIZED, [7], SIZES), np.full((1, 4, 5, 3), 7, np.uint8))


@pytest.mark.parametrize(
    ("condition", "value", "sentence"),
    [
        (PICTURE, pixels(6, 4, 3), r"image is uint8 \(6, 4, 3\): expected pixels from 0 to 255, uint8 \(4, 6, 3\)"),
        (PICTURE, pixels(4, 6), r"image is uint8 \(4, 6\): expected"),
        (PICTURE, pixels(4, 6, 3).astype(np.float32), r"image is float32 \(4, 6, 3\): expected"),
        (PICTURE, "boot.png", r"image is of type str: expected pixels"),
        (PICTURE, 256, "image is of type int: expected pixels"),
        (PICTURE, True, "image is of type bool: expected pixels"),
        (MASK, pixels(4, 6, 3), r"mask_image is uint8 \(4, 6, 3\): expected pixels from 0 to 255, uint8 \(4, 6, 1\)"),
    ],
)
def test_refused_values(condition: Condition, value: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        arrays(condition, [value])


def test_a_picture_is_brought_to_the_size(tmp_path: Path) -> None:
    path = saved(tmp_path / "red.png", Image.new("RGB", (30, 20), (200, 10, 20)))
    assert np.array_equal(kind(SIZED).parse(SIZED, path, SIZES), np.tile(np.uint8([200, 10, 20]), (4, 5, 1)))
    assert np.array_equal(kind(SIZED).parse(SIZED, f"@{path}", SIZES), kind(SIZED).parse(SIZED, path, SIZES))


def test_a_picture_of_the_size_is_itself(tmp_path: Path) -> None:
    picture = pixels(4, 6, 3)
    path = saved(tmp_path / "noise.png", Image.fromarray(picture))
    assert np.array_equal(kind(PICTURE).parse(PICTURE, path, {}), picture)


def test_a_camera_held_upright(tmp_path: Path) -> None:
    """Orientation 6: the picture was stored lying on its left side."""
    picture = pixels(4, 6, 3)
    rotated, exif = Image.fromarray(np.rot90(picture).copy()), Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "held.png", rotated, exif=exif)
    assert np.array_equal(kind(PICTURE).parse(PICTURE, path, {}), picture)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    clear = Image.new("RGBA", (6, 4), (0, 0, 0, 0)).convert(mode)
    options = {"transparency": clear.getpixel((0, 0))} if mode == "P" else {}
    path = saved(tmp_path / "clear.png", clear, **options)
    assert (kind(PICTURE).parse(PICTURE, path, {}) == 255).all()
    assert (kind(MASK).parse(MASK, path, {}) == 255).all()


def test_sixteen_bits_lose_the_lower_eight(tmp_path: Path) -> None:
    deep = np.arange(24, dtype=np.uint16).reshape(4, 6) * 256 + 99
    path = saved(tmp_path / "deep.png", Image.fromarray(deep))
    assert np.array_equal(kind(MASK).parse(MASK, path, {})[..., 0], np.arange(24).reshape(4, 6))


def _damaged(folder: Path) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels(40, 60, 3)).save(file, "PNG")
    (folder / "damaged.png").write_bytes(file.getvalue()[:900])
    return str(folder / "damaged.png")


def _text(folder: Path) -> str:
    (folder / "text.png").write_text("no picture")
    return str(folder / "text.png")


def _program(folder: Path) -> str:
    return saved(folder / "program.eps", Image.new("RGB", (6, 4)), format="EPS")


def _floats(folder: Path) -> str:
    return saved(folder / "floats.tiff", Image.fromarray(np.ones((4, 6), np.float32)))


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (
            lambda folder: str(folder / "none.png"),
            r"image: .*none.png cannot be read \(No such file or directory\): give a",
        ),
        (str, r"image: .* cannot be read \(Is a directory\)"),
        (_text, r"image: .*text.png is no picture: give a PNG"),
        (_damaged, r"image: .*damaged.png cannot be read \(.*truncated.*\): give a PNG"),
        (_program, r"image: .*program.eps is no picture: give a PNG"),
        (_floats, r"image has pixels of 32 bits, whose range nothing says: save it with 8"),
    ],
)
def test_refused_files(tmp_path: Path, made: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        kind(PICTURE).parse(PICTURE, made(tmp_path), {})


@pytest.mark.parametrize("most", [10, 20])
def test_a_picture_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Pillow warns above its limit and refuses above twice that."""
    path = saved(tmp_path / "large.png", Image.new("L", (6, 4)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(RequestError, match=rf"image: .*large.png has more than {most} pixels: give a smaller one"):
        kind(PICTURE).parse(PICTURE, path, {})


def test_no_file_has_more_channels_than_three(tmp_path: Path) -> None:
    many = Condition("layers", "image", image.Options(4, 6, 9))
    with pytest.raises(RequestError, match="layers has 9 channels, which no picture has: give an array"):
        kind(many).parse(many, "a.png", {})
    assert arrays(many, [pixels(4, 6, 9)]).shape == (1, 4, 6, 9)


def test_none_of_it_is_black_unless_the_condition_says_otherwise() -> None:
    assert np.array_equal(null(PICTURE), np.zeros((4, 6, 3), np.uint8))
    grey = Condition("image", "image", image.Options("height", "width"), null=128)
    assert np.array_equal(null(grey, {"height": 2, "width": 1}), np.full((2, 1, 3), 128, np.uint8))


@pytest.mark.parametrize("condition", [PICTURE, MASK, Condition("image", "image", image.Options(4, 6), default=255)])
def test_json_and_back(condition: Condition) -> None:
    assert Condition.from_json(json.loads(json.dumps(condition.to_json()))) == condition


def test_json_with_a_size_that_is_the_generators() -> None:
    white = Condition("control", "image", image.Options("height/8", "width"), default=255, guided=True)
    assert Condition.from_json(white.to_json(), SIZES) == white
    with pytest.raises(PlainError, match="condition control has a size that is not declared, 'height'"):
        Condition.from_json(white.to_json())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"height": 0, "width": 6}, "a side of image is 0, expected 1 to 16384 or the name of a size"),
        ({"height": 4, "width": 1 << 15}, "a side of image is 32768, expected"),
        ({"height": "4; x", "width": 6}, "a side of image is 4; x, expected"),
        ({"height": 4, "width": 6, "channels": 0}, "the image image has 0 channels, expected 1 to 64"),
        ({"height": 4, "width": 6, "low": 1.0}, "the pixels of image are 1 to 1, the lower comes first"),
        ({"height": 4}, "condition image lacks width"),
        ({"height": 4, "width": 6, "depth": 1}, "condition image has 'depth'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlainError, match=sentence):
        Condition.from_json({"name": "image", "kind": "image", "options": options})


def test_a_default_that_is_no_picture() -> None:
    with pytest.raises(PlainError, match="condition image: image is of type str: expected pixels"):
        Condition.from_json({**PICTURE.to_json(), "default": "white"})


def test_nobody_gave_one_and_there_are_no_examples() -> None:
    with pytest.raises(RequestError, match="no image was given, and this generator has no examples: give one"):
        conditions.default(PICTURE, 0, NO_ASSETS)
