"""What an import says: what it used and what not, what is not as it was, and the true reason where it takes nothing."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.servers.static import StaticServer
from tests.zoo.exchange.test_importing import home, kandinsky, last_x, network, one_thread, pipeline, run
from zoo import registry, shelf
from zoo.exchange.importing import ImportingError, import_from, known_layouts
from zoo.exchange.importing import unet as unet_import
from zoo.sampling.samplers import WHOLE_STEP
from zoo.untrusted import UntrustedError, check_safetensors

diffusers = pytest.importorskip("diffusers")

__all__ = ["home", "one_thread"]  # fixtures
WEIGHTS = "diffusion_pytorch_model.safetensors"


def of_diffusers(scheduler: Any, num_steps: int, noise: torch.Tensor, **step: Any) -> torch.Tensor:
    """The loop of diffusers' pipelines on the tiny network; noise (draws, B, ...)."""
    unet, z = network().eval(), noise[0]
    scheduler.set_timesteps(num_steps)
    with torch.inference_mode():
        for t in scheduler.timesteps:
            z = scheduler.step(unet(z, t).sample, t, z, **step).prev_sample
    return z


@pytest.mark.parametrize(
    "changes", [{}, {"set_alpha_to_one": False}, {"set_alpha_to_one": False, "clip_sample": False}]
)
@pytest.mark.parametrize("num_steps", [5, 20])
def test_images_are_those_of_the_pipeline_s_defaults(changes: dict[str, Any], num_steps: int, tmp_path: Path) -> None:
    scheduler = diffusers.DDIMScheduler(**changes)
    import_from(pipeline(tmp_path / "pipe", scheduler))
    sampling = registry.checkpoint("pipe").spec.sampling
    assert sampling is not None
    assert sampling.samplers[0] == ("ddim" if changes.get("clip_sample") is False else WHOLE_STEP)
    tensors, found = last_x("pipe", num_steps, sampling.samplers[0])
    wanted = of_diffusers(scheduler, num_steps, torch.from_numpy(tensors["noise"]).transpose(0, 1))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_what_is_not_as_in_diffusers_is_said_at_import_by_show_and_in_the_card(tmp_path: Path) -> None:
    imported = import_from(pipeline(tmp_path / "pipe", diffusers.DDIMScheduler(timestep_spacing="linspace")))
    notes = imported.draft.notes
    assert any("ddim_eps keeps the network's noise" in note for note in notes)
    assert any("linspace grid" in note and "images differ" in note for note in notes)
    assert json.loads(run("show", "pipe", "--json").stdout)["notes"] == list(notes)
    card = (shelf.directory("pipe") / "README.md").read_text()
    assert all(f"- {note}" in card for note in notes)
    again = import_from(tmp_path / "pipe")
    assert again.digest == imported.digest


def test_a_scheduler_and_a_spacing_of_one_s_own(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipe")
    text = run("import", str(folder), "--scheduler", "DPMSolverMultistepScheduler", "--spacing", "karras").stdout
    assert "sampled by dpmpp_2m on a karras grid, as was asked; the pipeline's own is ddim_eps@leading" in text
    sampling = registry.checkpoint("pipe").spec.sampling
    assert sampling is not None
    assert sampling.samplers[0] == "dpmpp_2m"
    for option, source in (
        ("--as", folder),
        ("--range", folder),
        ("--spacing", shelf.TREE / "gan" / "model.safetensors"),
    ):
        result = run("import", str(source), option, "karras", "--name", "mine")
        assert f"takes no {option}" in str(result.exception)


def test_what_lies_beside_a_pipeline_is_listed_as_not_used(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipe")
    save_file({"unet.a.lora_A.weight": torch.zeros(2)}, folder / "pytorch_lora_weights.safetensors")
    shutil.copytree(folder / "unet", folder / "unet_ema")
    (folder / "README.md").write_text("words")
    (folder / "unet" / "notes.txt").write_text("words")
    imported = import_from(folder)
    assert imported.draft.left_out == (
        *("README.md", "pytorch_lora_weights.safetensors", "unet/notes.txt"),
        *(f"unet_ema/{name}" for name in ("config.json", WEIGHTS)),
    )
    assert any("pytorch_lora_weights.safetensors was not used: it is a LoRA" in note for note in imported.draft.notes)
    assert any(f"unet_ema/{WEIGHTS} was not used" in note for note in imported.draft.notes)
    kept = import_from(_with_lora(kandinsky(tmp_path / "sd")))
    assert any("pytorch_lora_weights.safetensors was not used" in note for note in kept.draft.notes)


def _with_lora(folder: Path) -> Path:
    save_file({"unet.a.lora.up.weight": torch.zeros(2)}, folder / "pytorch_lora_weights.safetensors")
    return folder


def test_an_artifact_without_weights_is_refused(tmp_path: Path) -> None:
    """What optimum writes: a pipeline of ONNX models."""
    folder = kandinsky(tmp_path / "sd")
    for name in ("unet", "vae", "text_encoder"):
        (folder / name / "model.safetensors").unlink()
        (folder / name / "model.onnx").write_bytes(b"\0")
    with pytest.raises(
        ImportingError, match=r"unet \(UNet2DConditionModel\) has no safetensors.* the ONNX model unet/model\.onnx"
    ):
        import_from(folder)
    assert shelf.pulled("sd") is None


def variant(folder: Path, name: str = "fp16") -> None:
    """Leave a pipeline's network in half precision only, as `save_pretrained(variant=...)` writes it."""
    unet = diffusers.UNet2DModel.from_pretrained(folder / "unet").half()
    (folder / "unet" / WEIGHTS).unlink()
    unet.save_pretrained(folder / "unet", variant=name)


def variant_shards(folder: Path) -> None:
    variant(folder)
    unet = diffusers.UNet2DModel.from_pretrained(folder / "unet", variant="fp16")
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    unet.save_pretrained(folder / "unet", variant="fp16", max_shard_size="10KB")


def shards_alone(folder: Path) -> None:
    variant_shards(folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json").unlink()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [variant, variant_shards, shards_alone])
@pytest.mark.parametrize("over_http", [False, True])
def test_half_precision_alone_is_read_whole(make: Any, over_http: bool, tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipe")
    whole = load_file(folder / "unet" / WEIGHTS)
    make(folder)
    if over_http and make is shards_alone:
        pytest.skip("a server lists no folder: without an index shards are not found")
    with StaticServer(tmp_path) as server:
        imported = import_from(f"{server.url}/pipe" if over_http else folder, name="half")
    assert "the weights are those of the variant fp16: there are no others" in imported.draft.notes
    found = load_file(shelf.directory("half") / "model.safetensors")
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[key], whole[key].half()) for key in whole)


@pytest.mark.filterwarnings("ignore")
def test_shards_that_are_not_all_there_are_missed(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipe")
    shards_alone(folder)
    next((folder / "unet").glob("*-00002-of-*")).unlink()
    with pytest.raises(ImportingError, match=r"has \d+ of \d+ shards: fetch the others too"):
        import_from(folder)


def test_pickles_alone_are_named_over_http_too(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipe")
    torch.save(load_file(folder / "unet" / WEIGHTS), folder / "unet" / "diffusion_pytorch_model.bin")
    (folder / "unet" / WEIGHTS).unlink()
    with (
        StaticServer(tmp_path) as server,
        pytest.raises(UntrustedError, match=r"diffusion_pytorch_model\.bin is a pickle"),
    ):
        import_from(f"{server.url}/pipe")


@pytest.mark.parametrize("over_http", [False, True])
def test_averaged_weights_of_a_training_run_are_taken(over_http: bool, tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "run")
    ema = diffusers.training_utils.EMAModel(
        network().parameters(), model_cls=diffusers.UNet2DModel, model_config=network().config
    )
    ema.save_pretrained(folder / "unet_ema")
    keys = set(json.loads((folder / "unet_ema" / "config.json").read_text()))
    assert set(unet_import.OF_TRAINING) <= keys
    with StaticServer(tmp_path) as server:
        imported = import_from(f"{server.url}/run/unet_ema" if over_http else folder / "unet_ema", name="ema")
    assert any("describes training too" in note for note in imported.draft.notes)


CANNOT: dict[str, tuple[Mapping[str, Any], str]] = {
    "a size that levels do not divide": (
        {
            "sample_size": 28,
            "block_out_channels": (8, 8, 8, 8),
            "down_block_types": ("DownBlock2D",) * 4,
            "up_block_types": ("UpBlock2D",) * 4,
        },
        r"makes no images of 28x28.*expected to be multiples of 8",
    ),
    "an odd size": ({"sample_size": 15}, r"makes no images of 15x15.*multiples of 2"),
    "no number at 0": ({"time_embedding_type": "fourier"}, r"no number at timestep 0"),
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_could_not_be_sampled_is_refused_at_import(case: str, tmp_path: Path) -> None:
    changes, message = CANNOT[case]
    with pytest.raises(ImportingError, match=message):
        import_from(pipeline(tmp_path / "pipe", **changes))


def test_learned_embeddings_of_timesteps_are_sampled(tmp_path: Path) -> None:
    changes = {"time_embedding_type": "learned", "num_train_timesteps": 1000}
    import_from(pipeline(tmp_path / "pipe", **changes))
    scheduler, unet = diffusers.DDIMScheduler(), network(**changes).eval()
    tensors, found = last_x("pipe", 4, WHOLE_STEP)
    z = torch.from_numpy(tensors["noise"][:, 0])
    scheduler.set_timesteps(4)
    with torch.inference_mode():
        for t in scheduler.timesteps:
            z = scheduler.step(unet(z, t).sample, t, z).prev_sample
    torch.testing.assert_close(found, z, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", "layout of Stable Diffusion 1.x"),
        ("conditioner.embedders.0.transformer.text_model.x", "layout of SDXL"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "layout of SD 3"),
        ("double_blocks.0.img_attn.qkv.weight", "layout of FLUX"),
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", "asked by text, alone"),
        ("down_blocks.0.resnets.0.conv1.weight", "a U-Net of diffusers alone"),
        ("input_blocks.1.0.in_layers.0.weight", "layout of its authors"),
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "is a LoRA"),
        ("base_model.model.unet.down_blocks.0.to_q.lora_A.weight", "is a LoRA"),
        ("unet.down_blocks.0.attn1.processor.to_q_lora.up.weight", "is a LoRA"),
        ("decoder.up_blocks.0.resnets.0.conv1.weight", "an autoencoder of diffusers"),
        ("text_model.encoder.layers.0.mlp.fc1.weight", "a text encoder alone"),
    ],
)
def test_a_file_of_something_else_is_named(name: str, message: str, tmp_path: Path) -> None:
    save_file({name: torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ImportingError, match=message) as caught:
        import_from(tmp_path / "x.safetensors")
    assert "gan" not in str(caught.value)


def test_no_checkpoint_of_the_zoo_is_taken_for_something_else() -> None:
    for name in ("ddpm", "gan", "vae", "glow", "ddpm-pd4"):
        assert known_layouts.told(check_safetensors(shelf.TREE / name / "model.safetensors")) is None


@pytest.mark.parametrize(("size", "taken"), [(2 << 20, True), (4 << 20, False)])
def test_a_header_of_up_to_4_mb_is_read(size: int, taken: bool, tmp_path: Path) -> None:
    """Training tools write what they did into the header's metadata."""
    path = tmp_path / "x.safetensors"
    header = {"__metadata__": {"log": "x" * size}, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + np.float32(1).tobytes())
    if taken:
        assert set(check_safetensors(path)) == {"w"}
    else:
        with pytest.raises(UntrustedError, match="at most 4194304 are read"):
            check_safetensors(path)


def test_a_repository_of_a_lora_alone_is_named(tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    _with_lora(tmp_path / "lora")
    with StaticServer(tmp_path) as server, pytest.raises(ImportingError, match="has a LoRA alone"):
        import_from(f"{server.url}/lora/")
