"""LoRA of a pipeline: every way of naming it gives the same weights, and without it everything is as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from zoo.exchange.importing import ImportingError, weights
from zoo.exchange.importing.pipelines.adapter_names import heard, spoken
from zoo.exchange.importing.pipelines.adapters import Adapted, Adapter, adapted, asked

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


def result(made: Adapted, scratch: Path) -> dict[str, np.ndarray]:
    return load_file(weights.settled(made.tensors, scratch)[0])


def product(name: str) -> np.ndarray:
    return (UP[name].reshape(-1, RANK) @ DOWN[name].reshape(RANK, -1)).reshape(SHAPES[name])


def check(values: dict[str, np.ndarray], times: float, changed: set[str]) -> None:
    for name, before in BASE.items():
        expected = before + times * product(name) if name in changed else before
        np.testing.assert_allclose(values[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("style", "alpha"), [("diffusers", None), ("kohya", None), ("kohya", 1.0), ("peft", None)])
def test_the_product_is_added_under_every_name(
    style: str, alpha: float | None, base: weights.Tensors, tmp_path: Path
) -> None:
    made = adapted(base, (adapter(tmp_path, named(style, alpha), 0.5),), tmp_path)
    changed = {name for name in SHAPES if style != "peft" or name.startswith("unet")}
    assert made.notes == (f"lora.safetensors is fused at 0.5 into {len(changed)} weights",)
    assert made.conditions == ()
    check(result(made, tmp_path), 0.5 * (alpha or RANK) / RANK, changed)


CONFIGURED = {"r": RANK, "lora_alpha": 3.0}


def test_alpha_is_what_peft_was_configured_with(base: weights.Tensors, tmp_path: Path) -> None:
    """In the header, as diffusers writes it, by component; beside the file, as peft does; a layer's own before all."""
    told = {f"unet.{key}": value for key, value in CONFIGURED.items()}
    told |= {"text_encoder.lora_alpha": 5.0, "text_encoder.use_rslora": True, "unet.alpha_pattern": {"conv_in": 1.0}}
    path = tmp_path / "lora.safetensors"
    save_file(named("diffusers"), path, metadata={"lora_adapter_metadata": json.dumps(told)})
    values = result(adapted(base, (Adapter(path),), tmp_path), tmp_path)
    for name, times in ((LINEAR, 1.5), (CONV, 0.5), (TEXT, 5.0 / 2**0.5)):
        np.testing.assert_allclose(values[name], BASE[name] + times * product(name), rtol=1e-5, atol=1e-5)
    save_file(named("peft"), path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIGURED))
    check(result(adapted(base, (Adapter(path),), tmp_path), tmp_path), 1.5, {LINEAR, CONV})
    (tmp_path / "adapter_config.json").write_text(json.dumps({**CONFIGURED, "use_dora": True}))
    with pytest.raises(ImportingError, match="was trained with use_dora, which is not done here"):
        adapted(base, (Adapter(path),), tmp_path)


def test_one_then_another_then_the_first_is_the_first_to_the_byte(base: weights.Tensors, tmp_path: Path) -> None:
    files = []
    for turn, (name, style) in enumerate((("a", "diffusers"), ("b", "peft"), ("a", "diffusers"))):
        scratch = tmp_path / str(turn)
        scratch.mkdir()
        made = adapted(base, (adapter(tmp_path, named(style), name=name),), scratch)
        files.append(weights.settled(made.tensors, scratch)[0].read_bytes())
    assert files[0] == files[2] != files[1]


def test_two_adapters_add_up(base: weights.Tensors, tmp_path: Path) -> None:
    twice = tuple(adapter(tmp_path, named("kohya"), scale, name) for scale, name in ((0.25, "a"), (0.75, "b")))
    (tmp_path / "once").mkdir()
    both = result(adapted(base, twice, tmp_path), tmp_path)
    whole = result(adapted(base, (Adapter(twice[0].path),), tmp_path / "once"), tmp_path / "once")
    for name in SHAPES:
        np.testing.assert_allclose(both[name], whole[name], rtol=1e-5, atol=1e-6)


def test_one_with_a_name_leaves_the_weights_and_is_beside_them(base: weights.Tensors, tmp_path: Path) -> None:
    path = adapter(tmp_path, named("kohya", 1.0)).path
    made = adapted(base, (Adapter(path, 0.7, "ink"), Adapter(path)), tmp_path)
    check(values := result(made, tmp_path), 0.5, set(SHAPES))  # by the other, which has no name
    assert [(each.name, each.kind, each.default) for each in made.conditions] == [("ink", "scalar", 0.7)]
    assert made.ranks == {"ink": dict.fromkeys(sorted(name.removesuffix(".weight") for name in SHAPES), RANK)}
    for name in SHAPES:
        layer = name.removesuffix(".weight")
        np.testing.assert_array_equal(values[f"{layer}.adapters.ink.down.weight"], DOWN[name])
        np.testing.assert_array_equal(values[f"{layer}.adapters.ink.up.weight"], UP[name] / 2)
    with pytest.raises(ImportingError, match="two adapters have one name"):
        adapted(base, (Adapter(path, 1.0, "ink"), Adapter(path, 1.0, "ink")), tmp_path)


def test_blocks_are_counted_as_the_authors_of_sdxl_do() -> None:
    """Names as kohya's scripts write them, read off files of SDXL: two layers a level, a level of resnets alone."""
    known = [f"unet.down_blocks.{level}.resnets.{index}.conv1" for level in range(3) for index in range(2)]
    known += [f"unet.down_blocks.{level}.downsamplers.0.conv" for level in range(2)]
    known += [f"unet.up_blocks.{level}.resnets.{index}.conv2" for level in range(3) for index in range(3)]
    known += [f"unet.up_blocks.{level}.upsamplers.0.conv" for level in range(2)]
    inner = "transformer_blocks.0.attn1.to_q"
    known += [f"unet.down_blocks.{level}.attentions.1.{inner}" for level in (1, 2)]
    known += [f"unet.up_blocks.0.attentions.2.{inner}", f"unet.mid_block.attentions.0.{inner}"]
    known += ["unet.mid_block.resnets.1.time_emb_proj", "unet.time_embedding.linear_2", "unet.conv_out"]
    found = spoken(known)
    for name, layer in {
        "input_blocks_1_0_in_layers_2": "down_blocks.0.resnets.0.conv1",
        "input_blocks_3_0_op": "down_blocks.0.downsamplers.0.conv",
        "input_blocks_5_1_transformer_blocks_0_attn1_to_q": f"down_blocks.1.attentions.1.{inner}",
        "input_blocks_8_1_transformer_blocks_0_attn1_to_q": f"down_blocks.2.attentions.1.{inner}",
        "middle_block_1_transformer_blocks_0_attn1_to_q": f"mid_block.attentions.0.{inner}",
        "middle_block_2_emb_layers_1": "mid_block.resnets.1.time_emb_proj",
        "output_blocks_2_1_transformer_blocks_0_attn1_to_q": f"up_blocks.0.attentions.2.{inner}",
        "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks_8_0_out_layers_3": "up_blocks.2.resnets.2.conv2",
        "time_embed_2": "time_embedding.linear_2",
        "out_2": "conv_out",
    }.items():
        assert found[f"lora_unet_{name}"] == (f"unet.{layer}",), name


def test_a_layer_of_flux_is_several_of_diffusers(tmp_path: Path) -> None:
    """Their rows lie one after another, and each is given its own."""
    single = "transformer.single_transformer_blocks.0"
    rows = {f"{single}.attn.to_q": 4, f"{single}.attn.to_k": 4, f"{single}.attn.to_v": 4, f"{single}.proj_mlp": 8}
    save_file({f"{layer}.weight": array(count, 4) for layer, count in rows.items()}, tmp_path / "flux.safetensors")
    down, up, name = array(RANK, 4), array(20, RANK), "lora_unet_single_blocks_0_linear1"
    one = adapter(tmp_path, {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up})
    values = result(adapted(weights.read(tmp_path / "flux.safetensors"), (one,), tmp_path), tmp_path)
    found = np.concatenate([values[f"{layer}.weight"] - array(count, 4) for layer, count in rows.items()])
    np.testing.assert_allclose(found, up @ down, atol=1e-5)


def test_old_names_of_attention_are_heard() -> None:
    assert heard("unet.a.attn1.processor.to_q") == "unet.a.attn1.to_q"
    assert heard("unet.a.attn1.processor.to_out") == "unet.a.attn1.to_out.0"
    assert heard("text_encoder.a.self_attn.to_k") == "text_encoder.a.self_attn.k_proj"
    assert heard("text_encoder.a.self_attn.to_out") == "text_encoder.a.self_attn.out_proj"


FAULTS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "LoHa": (named("diffusers") | {"unet.conv_in.hada_w1_a": array(2, 2)}, "hada_w1_a, which is LoHa: LoRA and LoCon"),
    "DoRA": (named("kohya") | {"lora_unet_conv_in.dora_scale": array(5, 1)}, "dora_scale, which is DoRA"),
    "DoRA of peft": (
        named("diffusers") | {"unet.conv_in.lora_magnitude_vector": array(5)},
        "lora_magnitude_vector, which is DoRA",
    ),
    "a core": (named("kohya") | {"lora_unet_conv_in.lora_mid.weight": array(2, 2)}, "which is LoCon with a core"),
    "a bias": (named("diffusers") | {"unet.conv_in.lora_B.bias": array(5)}, "lora_B.bias, which is a bias"),
    "another architecture": (
        {"transformer.blocks.0.lora_A.weight": array(2, 4), "transformer.blocks.0.lora_B.weight": array(4, 2)},
        "is of another architecture: this pipeline has no layer for transformer.blocks.0.lora_A.weight",
    ),
    "one layer of another": (
        named("diffusers") | {"unet.there.lora_A.weight": array(2, 4)},
        "has unet.there.lora_A.weight, for which this pipeline has no layer",
    ),
    "half": ({"unet.conv_in.lora_A.weight": DOWN[CONV]}, "has down alone of unet.conv_in, expected down and up"),
    "other shapes": (
        {"unet.conv_in.lora_A.weight": array(2, 4), "unet.conv_in.lora_B.weight": array(5, 2)},
        "it is of another network",
    ),
    "nothing": ({}, "has no tensor"),
    "twice": (
        named("diffusers") | {"conv_in.lora_A.weight": DOWN[CONV], "conv_in.lora_B.weight": UP[CONV]},
        "has two products for unet.conv_in",
    ),
    "two alphas": (
        named("kohya") | {"lora_unet_conv_in.alpha": array(2)},
        "2 numbers for the alpha of lora_unet_conv_in",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_adapter_of_the_pipeline_is_named(fault: str, base: weights.Tensors, tmp_path: Path) -> None:
    content, expected = FAULTS[fault]
    with pytest.raises(ImportingError, match=expected):
        adapted(base, (adapter(tmp_path, content),), tmp_path)


def test_a_name_comes_before_an_adapter_and_a_scale_after_it(tmp_path: Path) -> None:
    assert asked("/a/b.safetensors:0.8") == Adapter(Path("/a/b.safetensors"), 0.8)
    assert asked("/a/b.safetensors") == Adapter(Path("/a/b.safetensors"))
    assert asked("ink=/a/b.safetensors:-1") == Adapter(Path("/a/b.safetensors"), -1.0, "ink")
    assert asked("/a=b/c.safetensors") == Adapter(Path("/a=b/c.safetensors"))
    (tmp_path / "own.safetensors").touch()
    assert asked("own.safetensors", tmp_path).path == tmp_path / "own.safetensors"
    for text, expected in {
        "b.safetensors:1000": "from -100 to 100",
        "ink=b.safetensors:11": "from -10 to 10",
        "b.safetensors:1.1.1": "is no number",
        "": "expected .NAME=.FILE",
    }.items():
        with pytest.raises(ImportingError, match=expected):
            asked(text)
