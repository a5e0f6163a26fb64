"""LoRA fused at import: every way of naming it gives the same weights, and without it everything is as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from zoo.exchange.importing import ImportingError, weights
from zoo.exchange.importing.pipelines.adapters import Adapter, asked, fused

RANK = 2
LINEAR, CONV = "unet.down.0.attn1.to_q.weight", "unet.conv_in.weight"
TEXT = "text_encoder.text_model.layers.0.q_proj.weight"
SHAPES = {LINEAR: (6, 4), CONV: (5, 3, 3, 3), TEXT: (4, 4)}


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


BASE = {name: array(*shape) for name, shape in SHAPES.items()} | {"unet.conv_in.bias": array(5)}
DOWN = {LINEAR: array(RANK, 4), CONV: array(RANK, 3, 3, 3), TEXT: array(RANK, 4)}
UP = {LINEAR: array(6, RANK), CONV: array(5, RANK, 1, 1), TEXT: array(4, RANK)}


def named(style: str, alpha: float | None = None) -> dict[str, np.ndarray]:
    """The adapter as one of the tools names it."""
    found: dict[str, np.ndarray] = {}
    for name in SHAPES:
        module = name.removesuffix(".weight")
        component, _, inner = module.partition(".")
        if style == "kohya":
            prefix = ("lora_unet_" if component == "unet" else "lora_te_") + inner.replace(".", "_")
            found |= {f"{prefix}.lora_down.weight": DOWN[name], f"{prefix}.lora_up.weight": UP[name]}
            found |= {f"{prefix}.alpha": np.array(alpha, np.float32)} if alpha else {}
        elif style == "diffusers":
            found |= {f"{module}.lora_A.weight": DOWN[name], f"{module}.lora_B.weight": UP[name]}
        elif component == "unet":
            found |= {f"base_model.model.{inner}.lora_A.weight": DOWN[name]}
            found |= {f"base_model.model.{inner}.lora_B.weight": UP[name]}
    return found


@pytest.fixture
def base(tmp_path: Path) -> weights.Tensors:
    save_file(BASE, tmp_path / "base.safetensors")
    return weights.read(tmp_path / "base.safetensors")


def adapter(folder: Path, content: dict[str, np.ndarray], scale: float = 1.0, name: str = "lora") -> Adapter:
    save_file(content, folder / f"{name}.safetensors")
    return Adapter(folder / f"{name}.safetensors", scale)


def result(tensors: weights.Tensors, scratch: Path) -> dict[str, np.ndarray]:
    return load_file(weights.settled(tensors, scratch)[0])


@pytest.mark.parametrize(("style", "alpha"), [("diffusers", None), ("kohya", None), ("kohya", 1.0), ("peft", None)])
def test_the_product_is_added_under_every_name(
    style: str, alpha: float | None, base: weights.Tensors, tmp_path: Path
) -> None:
    found, (note,) = fused(base, (adapter(tmp_path, named(style, alpha), 0.5),), tmp_path)
    changed = [name for name in SHAPES if style != "peft" or name.startswith("unet")]
    assert note == f"lora.safetensors is fused at 0.5 into {len(changed)} weights"
    values = result(found, tmp_path)
    for name, before in BASE.items():
        expected = before
        if name in changed:
            product = np.einsum("or...,r...->o...", UP[name].reshape(-1, RANK), DOWN[name].reshape(RANK, -1))
            expected = before + 0.5 * (alpha or RANK) / RANK * product.reshape(before.shape)
        np.testing.assert_allclose(values[name], expected, rtol=1e-5, atol=1e-6)


def test_one_then_another_then_the_first_is_the_first_to_the_byte(base: weights.Tensors, tmp_path: Path) -> None:
    files = []
    for turn, (name, style) in enumerate((("a", "diffusers"), ("b", "peft"), ("a", "diffusers"))):
        scratch = tmp_path / str(turn)
        scratch.mkdir()
        found, _ = fused(base, (adapter(tmp_path, named(style), name=name),), scratch)
        files.append(weights.settled(found, scratch)[0].read_bytes())
    assert files[0] == files[2] != files[1]


def test_two_adapters_add_up(base: weights.Tensors, tmp_path: Path) -> None:
    twice = tuple(adapter(tmp_path, named("kohya"), scale, name) for scale, name in ((0.25, "a"), (0.75, "b")))
    (tmp_path / "once").mkdir()
    both = result(fused(base, twice, tmp_path)[0], tmp_path)
    whole = result(fused(base, (Adapter(twice[0].path),), tmp_path / "once")[0], tmp_path / "once")
    for name in SHAPES:
        np.testing.assert_allclose(both[name], whole[name], rtol=1e-5, atol=1e-6)


FAULTS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "another method": ({"unet.conv_in.hada_w1_a": array(2, 2)}, "hada_w1_a, which is no low-rank part"),
    "another network": ({"unet.there.lora_A.weight": array(2, 4)}, "unet.there.lora_A.weight, which is no low-rank"),
    "half": ({"unet.conv_in.lora_A.weight": DOWN[CONV]}, "has down alone of unet.conv_in.weight"),
    "other shapes": (
        {"unet.conv_in.lora_A.weight": array(2, 4), "unet.conv_in.lora_B.weight": array(5, 2)},
        "it is of another network",
    ),
    "nothing": ({}, "no tensor"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_adapter_of_the_pipeline_is_named(fault: str, base: weights.Tensors, tmp_path: Path) -> None:
    content, expected = FAULTS[fault]
    with pytest.raises(ImportingError, match=expected):
        fused(base, (adapter(tmp_path, content),), tmp_path)


def test_a_scale_follows_a_colon() -> None:
    assert asked("a/b.safetensors:0.8") == Adapter(Path("a/b.safetensors"), 0.8)
    assert asked("a/b.safetensors") == Adapter(Path("a/b.safetensors"))
    with pytest.raises(ImportingError, match="from -100 to 100"):
        asked("b.safetensors:1000")
