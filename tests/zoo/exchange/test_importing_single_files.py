"""Stable Diffusion in one file: taken with a checkpoint of the same networks, images equal; else refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from export.runners import TorchRunner
from tests import pipelines, single_files
from tests.zoo.exchange.test_importing import home, one_thread
from zoo import registry, shelf
from zoo.contract.request import SampleRequest, Setting
from zoo.exchange.importing import ImportingError, import_from

__all__ = ["home", "one_thread"]  # fixtures
REQUEST = SampleRequest((3, 4), {"prompt": ("a red boat", "an old cat")}, Setting(3, guidance_scale=3.0))
LAYOUTS: dict[str, tuple[Callable[[Path], Any], bool]] = {
    "1.x": (pipelines.stable, False),
    "2.x": (pipelines.stable, True),
    "XL": (pipelines.stable_xl, False),
}


def images(name: str) -> np.ndarray:
    return TorchRunner(registry.checkpoint(name)).generator.sample(REQUEST)


def changed(pipeline: Any) -> Any:
    """The same networks with other weights, as of someone's fine-tuning."""
    torch.manual_seed(7)
    with torch.no_grad():
        for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
            for parameter in getattr(pipeline, part, torch.nn.Identity()).parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return pipeline


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_single_file_has_the_images_of_its_folder(layout: str, tmp_path: Path) -> None:
    make, second = LAYOUTS[layout]
    import_from(_saved(make, tmp_path / "base"))
    pipeline = changed(make(tmp_path / "tuned"))
    pipeline.save_pretrained(tmp_path / "tuned")
    import_from(tmp_path / "tuned")
    file = single_files.written(pipeline, tmp_path / "one.safetensors", second=second)
    with pytest.raises(ImportingError, match=r"single-file checkpoint in the layout of .*--as"):
        import_from(file)
    imported = import_from(file, architecture="base", licence="openrail")
    assert any("converted by diffusers" in note for note in imported.draft.notes)
    found, expected = images("one"), images("tuned")
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, images("base"))


def _saved(make: Callable[[Path], Any], folder: Path) -> Path:
    make(folder)
    return folder


@pytest.mark.parametrize(
    ("parts", "lacks"), [(("unet",), "text_encoder and no vae"), (("unet", "vae"), "text_encoder$")]
)
def test_a_file_without_all_networks_is_refused_by_what_it_lacks(
    parts: tuple[str, ...], lacks: str, tmp_path: Path
) -> None:
    pipeline = pipelines.stable(tmp_path / "base")
    import_from(tmp_path / "base")
    file = single_files.written(pipeline, tmp_path / "one.safetensors", parts=parts)
    with pytest.raises(ImportingError, match=f"is no base: it has no {lacks}"):
        import_from(file, architecture="base")
    assert shelf.pulled("one") is None


def test_another_s_single_file_is_refused(tmp_path: Path) -> None:
    pipelines.stable(tmp_path / "base")
    import_from(tmp_path / "base")
    other = pipelines.stable(tmp_path / "wide", unet=pipelines.unet(block_out_channels=(16, 32)))
    file = single_files.written(other, tmp_path / "one.safetensors")
    with pytest.raises(ImportingError, match=r"is no base: it differs: unet\."):
        import_from(file, architecture="base")
    with pytest.raises(ImportingError, match="gan no pipeline of its kind"):
        import_from(file, architecture="gan")


def test_averaged_weights_are_left_out_and_told(tmp_path: Path) -> None:
    """As training keeps them beside the others, their names without points."""
    pipeline = pipelines.stable(tmp_path / "base")
    import_from(tmp_path / "base")
    path = single_files.written(pipeline, tmp_path / "one.safetensors")
    tensors = load_file(path)
    averaged = {name: each for name, each in tensors.items() if name.startswith("model.diffusion_model.")}
    tensors |= {f"model_ema.{name[6:].replace('.', '')}": 0.0 * each for name, each in averaged.items()}
    save_file(tensors, path)
    imported = import_from(path, architecture="base")
    assert "model_ema" in imported.draft.notes[-1]
    np.testing.assert_array_equal(images("one"), images("base"))


def test_a_bare_unet_is_named(tmp_path: Path) -> None:
    save_file(single_files.unet(pipelines.unet()), tmp_path / "unet.safetensors")
    with pytest.raises(ImportingError, match="holds a U-Net in the layout of its authors alone"):
        import_from(tmp_path / "unet.safetensors")
    save_file(pipelines.unet().state_dict(), tmp_path / "theirs.safetensors")
    with pytest.raises(ImportingError, match="holds a U-Net of diffusers that is asked by text, alone"):
        import_from(tmp_path / "theirs.safetensors")


def test_a_text_encoder_of_before_transformers_5_is_read(tmp_path: Path) -> None:
    """Every folder of Stable Diffusion that is older has `text_model.` before the names of its text encoder."""
    pipelines.stable(tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    path = tmp_path / "old" / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{name.removeprefix('text_model.')}": each for name, each in load_file(path).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, path)
    import_from(tmp_path / "new")
    import_from(tmp_path / "old")
    np.testing.assert_array_equal(images("new"), images("old"))


def test_what_was_said_to_be_a_checkpoint_reads_the_same_words(tmp_path: Path) -> None:
    """A file of weights has no tokenizer: that of the checkpoint comes along."""
    pipelines.stable(tmp_path / "base")
    import_from(tmp_path / "base")
    shutil.copy(shelf.directory("base") / "model.safetensors", tmp_path / "again.safetensors")
    import_from(tmp_path / "again.safetensors", architecture="base")
    np.testing.assert_array_equal(images("again"), images("base"))
