"""Pipelines that diffusers writes, against diffusers' own loop on the same noise; what they cannot be is named."""

from __future__ import annotations

import inspect
import json
import shutil
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers

from export.parity import image_error
from export.runners import TorchRunner
from tests import pipelines
from tests.examples import at_random
from tests.zoo.exchange.test_importing import home, one_thread
from zoo import registry, shelf
from zoo.contract import steps
from zoo.contract.request import SampleRequest, Setting
from zoo.errors import GenzooError
from zoo.exchange.importing import ImportingError, comparison, import_from
from zoo.exchange.importing.pipelines import PIPELINES
from zoo.sampling import noise

# diffusers' own Heun, on numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

__all__ = ["home", "one_thread"]  # fixtures
SEEDS = (3, 4)
PROMPTS = ("a red boat", "an old cat")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """One folder that is copied where it is changed, and its pipeline."""
    folder = tmp_path_factory.mktemp("written") / "sd"
    return folder, pipelines.stable(folder)


@pytest.fixture
def stable(written: tuple[Path, Any], tmp_path: Path) -> tuple[Path, Any]:
    shutil.copytree(written[0], tmp_path / "sd")
    return tmp_path / "sd", written[1]


def draws(size: int, count: int = 1, channels: int = 4) -> torch.Tensor:
    """(count, seeds, C, size, size), as our runners draw it."""
    return torch.from_numpy(noise.normal(SEEDS, (count, channels, size, size), 0)).transpose(0, 1)


def ours(name: str, setting: Setting, **given: Any) -> np.ndarray:
    sizes = given.pop("sizes", {})
    conditions = {"prompt": PROMPTS, **given}
    return TorchRunner(registry.checkpoint(name)).generator.sample(SampleRequest(SEEDS, conditions, setting, sizes))


def theirs(pipeline: Any, size: int, **given: Any) -> np.ndarray:
    """What diffusers makes of our noise, uint8."""
    call = {"prompt": list(PROMPTS), "latents": draws(size)[0], "output_type": "np", "return_dict": False, **given}
    call = {key: value for key, value in call.items() if value is not None}
    with torch.inference_mode():
        return np.round(pipeline(**call)[0] * 255.0).astype(np.uint8)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    error = image_error(expected, found)
    assert len(np.unique(expected)) > 20, "the oracle's images show nothing"
    return error.lsb <= 1 and error.differing <= 0.002


def test_stable_diffusion_is_the_pipeline_of_diffusers(stable: tuple[Path, Any]) -> None:
    """Its PNDM is no table: the same levels by DDIM; guided, and at a size of its own."""
    folder, pipeline = stable
    imported = import_from(folder, licence="mit")
    assert any("PNDM" in note for note in imported.draft.notes)
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    for size in (16, 24):
        found = ours("sd", Setting(5, guidance_scale=3.0), sizes={"height": 2 * size, "width": 2 * size})
        expected = theirs(pipeline, size, num_inference_steps=5, guidance_scale=3.0, height=2 * size, width=2 * size)
        assert same(found, expected)
    other = ours("sd", Setting(5, guidance_scale=3.0), prompt=("a cat", "a cat"))
    assert not same(other, ours("sd", Setting(5, guidance_scale=3.0)))


def test_a_text_encoder_of_older_transformers_has_other_names(stable: tuple[Path, Any]) -> None:
    """As all folders of Stable Diffusion had that were published before 2026; positions are among the weights."""
    folder, _ = stable
    import_from(folder)
    path = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    assert "embeddings.token_embedding.weight" in tensors
    old = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
    old["text_model.embeddings.position_ids"] = torch.arange(pipelines.LENGTH)[None]
    save_file(old, path)
    import_from(folder, name="older")
    assert shelf.config("older")["weights"] == shelf.config("sd")["weights"]


def picture() -> np.ndarray:
    """(32, 32, 3) uint8 with something in it."""
    y, x = np.mgrid[:32, :32]
    return np.stack([8 * x, 8 * y, 4 * (x + y)], -1).astype(np.uint8)


def test_image_to_image_and_inpainting_begin_with_what_the_first_stage_means(
    stable: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pipeline = stable
    pipeline.scheduler = diffusers.DDIMScheduler(**pipelines.LATENT, clip_sample=False, steps_offset=1)
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    import_from(folder)
    pixels = torch.from_numpy(picture()).permute(2, 0, 1)[None] / 127.5 - 1.0
    with torch.inference_mode():
        means = pipeline.vae.encode(pixels.repeat(2, 1, 1, 1)).latent_dist.mode() * pipeline.vae.config.scaling_factor
    call = {"num_inference_steps": 5, "guidance_scale": 2.0, "image": means}
    again = diffusers.StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    again.set_progress_bar_config(disable=True)
    quietly(again, monkeypatch, draws(16)[0])
    found = ours("sd", Setting(5, guidance_scale=2.0, strength=0.6), image=(picture(),))
    assert same(found, theirs(again, 16, **call, strength=0.6, latents=None))
    left = np.zeros((32, 32, 1), np.uint8)
    left[:, :16] = 255
    inpaint = diffusers.StableDiffusionInpaintPipeline(**pipeline.components, requires_safety_checker=False)
    inpaint.set_progress_bar_config(disable=True)
    quietly(inpaint, monkeypatch, draws(16)[0])
    mask = torch.from_numpy(left).permute(2, 0, 1)[None] / 255.0
    call |= {"image": (pixels + 1.0) / 2.0, "mask_image": mask, "height": 32, "width": 32, "strength": 1.0}
    monkeypatch.setattr(pipeline.vae, "encode", lambda image: type("Means", (), {"latents": means / 0.18215})())
    found = ours("sd", Setting(5, guidance_scale=2.0), image=(picture(),), mask_image=(left,))
    assert same(found[:, :, :16], theirs(inpaint, 16, **call, latents=draws(16)[0])[:, :, :16])
    assert np.array_equal(found[:, :, 16:], np.stack([picture()] * 2)[:, :, 16:])


def by_means(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a pipeline encode pictures as the means, where it draws from the distributions."""
    encode = pipeline.vae.encode
    means = lambda pixels: types.SimpleNamespace(latents=encode(pixels).latent_dist.mode())  # noqa: E731
    monkeypatch.setattr(pipeline.vae, "encode", means)


@pytest.mark.parametrize("write", [pipelines.inpainting, pipelines.inpainting_xl])
def test_a_network_that_sees_a_picture_and_a_mask(
    write: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made anew is as diffusers makes it, to masks of half a latent; what is kept is the picture's own."""
    pipeline = write(tmp_path / "seeing")
    imported = import_from(tmp_path / "seeing")
    assert any("takes no --strength" in note for note in imported.draft.notes)
    by_means(pipeline, monkeypatch)
    left = np.zeros((32, 32, 1), np.uint8)
    left[3:, :17] = 255
    left[20:, :5] = 127  # kept, as it is nearer to black
    call = {"num_inference_steps": 4, "guidance_scale": 3.0, "height": 32, "width": 32, "strength": 1.0}
    call |= {"image": torch.from_numpy(picture()).permute(2, 0, 1)[None] / 255.0}
    call |= {"mask_image": torch.from_numpy(left).permute(2, 0, 1)[None] / 255.0}
    given = {"image": (picture(),), "mask_image": (left,)}
    found = ours("seeing", Setting(4, guidance_scale=3.0), **given)
    anew, kept = np.broadcast_to(left >= 128, found.shape), np.stack([picture()] * 2)
    assert same(found[anew], theirs(pipeline, 16, **call)[anew])
    assert np.array_equal(found[~anew], kept[~anew])
    black = np.zeros((32, 32, 3), np.uint8)
    other = ours("seeing", Setting(4, guidance_scale=3.0), **given | {"image": (black,)})
    assert not same(found[anew], other[anew]), "the network sees what is kept"
    whole = ours("seeing", Setting(4, guidance_scale=3.0))
    assert same(whole, theirs(pipeline, 16, **call | {"mask_image": torch.ones(1, 1, 32, 32)}))
    with pytest.raises(GenzooError, match="takes no strength: its image is a condition of its own"):
        ours("seeing", Setting(4, strength=0.5), **given)


def test_a_refiner_is_told_how_beautiful_an_image_shall_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = pipelines.refiner(tmp_path / "refiner")
    import_from(tmp_path / "refiner")
    quietly(pipeline, monkeypatch, draws(16)[0])
    pixels = torch.from_numpy(picture()).permute(2, 0, 1)[None] / 127.5 - 1.0
    with torch.inference_mode():
        means = pipeline.vae.encode(pixels.repeat(2, 1, 1, 1)).latent_dist.mode() * pipeline.vae.config.scaling_factor
    call = {"num_inference_steps": 5, "guidance_scale": 3.0, "image": means, "strength": 0.6, "latents": None}
    setting = Setting(5, guidance_scale=3.0, strength=0.6)
    assert same(ours("refiner", setting, image=(picture(),)), theirs(pipeline, 16, **call))
    plain = ours("refiner", setting, image=(picture(),), aesthetic_score=(3.0,))
    assert same(plain, theirs(pipeline, 16, **call, aesthetic_score=3.0))


SCHEDULERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "euler": ("EulerDiscreteScheduler", {"timestep_spacing": "leading"}, "ddim"),
    "euler, v": (
        "EulerDiscreteScheduler", {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}, "ddim",
    ),
    "heun": ("HeunDiscreteScheduler", {"timestep_spacing": "trailing"}, "heun"),
    "dpm": ("DPMSolverMultistepScheduler", {}, "dpmpp_2m"),
    "dpm, leading": ("DPMSolverMultistepScheduler", {"timestep_spacing": "leading", "steps_offset": 1}, "dpmpp_2m"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULERS)
def test_each_scheduler_is_a_table(name: str, stable: tuple[Path, Any]) -> None:
    kind, arguments, sampler = SCHEDULERS[name]
    folder, pipeline = stable
    scheduler = getattr(diffusers, kind)(**pipelines.LATENT, **arguments)
    scheduler.save_pretrained(folder / "scheduler")
    pipeline.scheduler = scheduler
    import_from(folder)
    spec = registry.checkpoint("sd").spec
    assert spec.sampling is not None
    assert spec.sampling.samplers[0] == sampler
    assert same(
        ours("sd", Setting(4, guidance_scale=2.0)), theirs(pipeline, 16, num_inference_steps=4, guidance_scale=2.0)
    )


def test_sdxl_is_the_pipeline_of_diffusers(tmp_path: Path) -> None:
    """Two encoders, the pooled text, the sizes; without a negative prompt, and with one."""
    pipeline = pipelines.stable_xl(tmp_path / "xl")
    import_from(tmp_path / "xl")
    setting = Setting(4, guidance_scale=3.0)
    call = {"num_inference_steps": 4, "guidance_scale": 3.0}
    assert same(ours("xl", setting), theirs(pipeline, 16, **call))
    sizes = {"height": 48, "width": 48}
    assert same(ours("xl", setting, sizes=sizes), theirs(pipeline, 24, **call, **sizes))
    found = ours("xl", setting, negative_prompt=("blurred",))
    assert same(found, theirs(pipeline, 16, **call, negative_prompt=["blurred"] * 2))


def test_sdxl_turbo_adds_noise_as_diffusers_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral

    pipeline = pipelines.stable_xl_turbo(tmp_path / "turbo")
    import_from(tmp_path / "turbo")
    fresh = iter(draws(16, 5)[1:])
    monkeypatch.setattr(ancestral, "randn_tensor", lambda *_, **__: next(fresh))
    assert same(ours("turbo", Setting(4)), theirs(pipeline, 16, num_inference_steps=4, guidance_scale=0.0))


@pytest.mark.parametrize("steps", [1, 4])
def test_a_latent_consistency_model_is_told_its_guidance(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers.schedulers import scheduling_lcm

    pipeline = pipelines.consistency(tmp_path / "tiny_lcm")
    import_from(tmp_path / "tiny_lcm")
    fresh = iter(draws(16, 4)[1:])
    monkeypatch.setattr(scheduling_lcm, "randn_tensor", lambda *_, **__: next(fresh))
    found = ours("tiny_lcm", Setting(steps), guidance=(6.0,))
    assert same(found, theirs(pipeline, 16, num_inference_steps=steps, guidance_scale=6.0))
    assert registry.checkpoint("tiny_lcm").spec.guided == ()


def quietly(pipeline: Any, monkeypatch: pytest.MonkeyPatch, first: torch.Tensor) -> None:
    """Make a pipeline that takes no latents begin with these."""
    module = __import__(type(pipeline).__module__, fromlist=["randn_tensor"])
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: first)


def test_unconditional_latent_diffusion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = pipelines.unconditional(tmp_path / "tiny_ldm")
    import_from(tmp_path / "tiny_ldm")
    quietly(pipeline, monkeypatch, draws(16, channels=3)[0])
    with torch.inference_mode():
        expected = pipeline(batch_size=2, num_inference_steps=5, output_type="np", return_dict=False)[0]
    found = unconditional("tiny_ldm", Setting(5))
    assert same(found, np.round(expected * 255.0).astype(np.uint8))


def unconditional(name: str, setting: Setting, **given: Any) -> np.ndarray:
    return TorchRunner(registry.checkpoint(name)).generator.sample(SampleRequest(SEEDS, given, setting))


@pytest.mark.parametrize("steps", [1, 3])
def test_a_consistency_model(steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.schedulers import scheduling_consistency_models

    pipeline = pipelines.consistency_model(tmp_path / "cm")
    import_from(tmp_path / "cm")
    fresh = iter(draws(16, 4, 3)[1:])
    monkeypatch.setattr(scheduling_consistency_models, "randn_tensor", lambda *_, **__: next(fresh))
    call = {"latents": draws(16, channels=3)[0], "class_labels": [1, 7], "output_type": "np", "return_dict": False}
    with torch.inference_mode():
        expected = pipeline(batch_size=2, num_inference_steps=steps, **call)[0]
    found = unconditional("cm", Setting(steps), class_id=(1, 7))
    assert same(found, np.round(expected * 255.0).astype(np.uint8))


def test_dit_leaves_its_variance_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = pipelines.dit(tmp_path / "dit")
    import_from(tmp_path / "dit")
    quietly(pipeline, monkeypatch, draws(16)[0])
    call = {"class_labels": [1, 7], "output_type": "np", "return_dict": False}
    with torch.inference_mode():
        expected = pipeline(guidance_scale=3.0, num_inference_steps=5, **call)[0]
    found = unconditional("dit", Setting(5, guidance_scale=3.0), class_id=(1, 7))
    assert same(found, np.round(expected * 255.0).astype(np.uint8))


def test_pixart_hears_what_is_said_and_no_more(tmp_path: Path) -> None:
    pipeline = pipelines.pixart(tmp_path / "pixart")
    import_from(tmp_path / "pixart")
    call = {"use_resolution_binning": False, "num_inference_steps": 4, "guidance_scale": 3.0}
    expected = theirs(pipeline, 16, **call, prompt=["A Red Boat", "an old cat"])
    assert same(ours("pixart", Setting(4, guidance_scale=3.0), prompt=("A Red Boat", "an old cat")), expected)


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    ],
    ids=["euler", "dpm"],
)
def test_sana_is_read_by_a_language_model_behind_an_instruction(scheduler: Any, tmp_path: Path) -> None:
    """Which a negative prompt is not, whether one is given or none."""
    pipeline = pipelines.sana(tmp_path / "sana", scheduler)
    import_from(tmp_path / "sana")
    call = {"num_inference_steps": 4, "guidance_scale": 3.0, "use_resolution_binning": False}
    call |= {"height": 32, "width": 32}
    setting, prompts = Setting(4, guidance_scale=3.0), ("A Red Boat", "cats of old")
    plain = ours("sana", setting, prompt=prompts)
    assert same(plain, theirs(pipeline, 16, **call, prompt=list(prompts)))
    found = ours("sana", setting, prompt=prompts, negative_prompt=("Blurred",))
    assert same(found, theirs(pipeline, 16, **call, prompt=list(prompts), negative_prompt=["Blurred"] * 2))
    assert not same(found, plain)


@pytest.mark.parametrize("third", [True, False])
def test_sd3_joins_three_encoders(third: bool, tmp_path: Path) -> None:
    pipeline = pipelines.stable_3(tmp_path / "sd3", third)
    import_from(tmp_path / "sd3")
    call = {"num_inference_steps": 4, "guidance_scale": 3.0}
    setting = Setting(4, guidance_scale=3.0)
    assert same(ours("sd3", setting), theirs(pipeline, 16, **call))
    long = ("a cat and a dog on a mat, " * 4, "an old cat")  # more than CLIP's encoders hold
    if third:
        assert same(ours("sd3", setting, prompt=long), theirs(pipeline, 16, **call, prompt=list(long)))


@pytest.mark.parametrize("distilled", [True, False])
def test_flux_packs_its_latents(distilled: bool, tmp_path: Path) -> None:
    pipeline = pipelines.flux(tmp_path / "flux", distilled)
    import_from(tmp_path / "flux")
    latents = pipeline._pack_latents(draws(16)[0], 2, 4, 16, 16)
    sizes = {"height": 32, "width": 32}
    call = {"num_inference_steps": 4, "guidance_scale": 5.0, "latents": latents, "max_sequence_length": 64}
    given = {"guidance": (5.0,)} if distilled else {}
    assert same(ours("flux", Setting(4), **given), theirs(pipeline, 16, **call, **sizes))
    found = ours("flux", Setting(4, guidance_scale=2.0), negative_prompt=("blurred",), **given)
    negative = {"negative_prompt": ["blurred"] * 2, "true_cfg_scale": 2.0}
    assert same(found, theirs(pipeline, 16, **call, **sizes, **negative))


@pytest.mark.parametrize("kind", PIPELINES)
def test_the_guidance_of_a_class_is_what_diffusers_takes_for_it(kind: str) -> None:
    taken = inspect.signature(getattr(diffusers, kind).__call__).parameters
    layout = PIPELINES[kind].layout
    guided = layout not in ("unconditional", "consistency")
    name = "true_cfg_scale" if layout == "packed_text" else "guidance_scale"  # FLUX's is a distilled one
    expected = taken[name].default if guided and not kind.startswith("LatentConsistency") else 1.0
    assert PIPELINES[kind].guidance == expected


def test_what_to_ask_for_is_told_where_it_is_imported_shown_and_in_its_card(stable: tuple[Path, Any]) -> None:
    imported = import_from(stable[0], licence="mit")
    (told,) = [note for note in imported.draft.notes if "--guidance-scale 7.5" in note]
    assert told in registry.record("sd")["notes"]
    assert told in (shelf.directory("sd") / "README.md").read_text()


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "dynamic thresholding": ("scheduler/scheduler_config.json", {"thresholding": True}, "thresholding = True"),
    "an unknown key": ("scheduler/scheduler_config.json", {"wobble": 2}, "wobble = 2, which is unknown"),
    "karras": ("scheduler/scheduler_config.json", {"use_karras_sigmas": True}, "use_karras_sigmas = True"),
    "another scheduler": ("scheduler/scheduler_config.json", {"_class_name": "IPNDMScheduler"}, "IPNDMScheduler"),
    "a class condition": ("unet/config.json", {"class_embed_type": "timestep"}, "class_embed_type = timestep"),
    "a masked encoder": ("text_encoder/config.json", {"use_attention_mask": True}, "use_attention_mask"),
    "an odd size": ("unet/config.json", {"sample_size": 15}, "images of 30 are no multiple of 4"),
    "another width": ("unet/config.json", {"cross_attention_dim": 12}, "are not of the networks beside them"),
    "no fill": ("tokenizer/tokenizer_config.json", {"pad_token": "<nothing>"}, "names no token of its vocabulary"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_would_change_images_is_refused_by_its_name(name: str, stable: tuple[Path, Any]) -> None:
    file, changes, expected = FAULTS[name]
    folder, _ = stable
    edit(folder / file, **changes)
    with pytest.raises(GenzooError, match=expected):
        import_from(folder)


def test_a_component_that_is_missing_is_named(stable: tuple[Path, Any]) -> None:
    folder, _ = stable
    edit(folder / "model_index.json", text_encoder=[None, None])
    with pytest.raises(ImportingError, match="text_encoder of class none, expected CLIPTextModel"):
        import_from(folder)


def test_what_is_not_built_here_is_kept_and_named(tmp_path: Path) -> None:
    pipelines.sana(tmp_path / "sana")
    edit(tmp_path / "sana" / "model_index.json", _class_name="SanaSprintPipeline", vae=["diffusers", "AutoencoderTiny"])
    imported = import_from(tmp_path / "sana")
    assert not imported.draft.usable
    with pytest.raises(registry.UnsupportedError, match=r"does not build its vae \(AutoencoderTiny\)"):
        registry.checkpoint("sana")


@pytest.mark.parametrize("kind", ["PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_an_import_records_what_diffusers_does_by_the_scheduler_s_levels(kind: str, stable: tuple[Path, Any]) -> None:
    """Whatever its own scheduler is; a state at sigma is brought to where the others begin."""
    folder, _ = stable
    getattr(diffusers, kind)(**pipelines.LATENT, prediction_type="v_prediction").save_pretrained(folder / "scheduler")
    import_from(folder)
    known = registry.checkpoint("sd")
    assert known.spec.sampling is not None
    walks, _ = steps.read(shelf.assets("sd").folder)
    assert [walk.sampler for walk in walks] == ["ddim@leading", "ddpm@leading", "dpmpp_2m@logsnr"]
    for walk in walks:
        assert max(walk.errors(known.spec.sampling, comparison.stand_in(known))) < 1e-5


@pytest.mark.longer
@pytest.mark.skipif(not at_random, reason="it exports for a minute: in `make fuzz`")
def test_a_pipeline_goes_the_whole_way(stable: tuple[Path, Any]) -> None:
    """Export, gate, and the same images on ONNX Runtime, at two sizes and with a picture to begin with."""
    from export.exporter import export
    from export.gate import gate
    from export.runners import bundle_generator

    folder, _ = stable
    import_from(folder)
    checkpoint = registry.checkpoint("sd")
    bundle = export(checkpoint)
    assert set(bundle.graphs) >= {"encode_prompt", "denoiser", "decoder", "encode_image", "sampler"}
    verdict = gate(bundle)
    assert verdict.admitted, verdict.message
    assert "its steps by ddim@leading, ddpm@leading, dpmpp_2m@logsnr are those of DDIMScheduler" in verdict.message
    reference, entry = TorchRunner(checkpoint).generator, bundle_generator(bundle)
    picture = np.full((32, 32, 3), 120, np.uint8)
    for given in ({}, {"image": (picture,)}):
        request = SampleRequest(SEEDS, {"prompt": PROMPTS, **given}, Setting(4, guidance_scale=2.0))
        error = image_error(reference.sample(request), entry.sample(request))
        assert error.lsb <= 1
        assert error.differing <= 0.002


@pytest.mark.longer
@pytest.mark.skipif(not at_random, reason="it exports 2.3 GB, for minutes, by 4 GB of memory: in `make fuzz`")
def test_a_graph_of_more_than_2_gib_is_exported_and_runs(tmp_path: Path) -> None:
    """No message of ONNX holds as much: the weights are beside it."""
    from export.exporter import export
    from export.runners import bundle_generator

    wide = pipelines.unet(block_out_channels=(864, 1728), norm_num_groups=8, attention_head_dim=8)
    pipelines.stable(tmp_path / "wide", unet=wide)
    import_from(tmp_path / "wide")
    bundle = export(registry.checkpoint("wide"))
    assert (bundle.path / "model.safetensors").stat().st_size > 2 << 30
    assert bundle.entry_path.stat().st_size < 8 << 20
    request = SampleRequest((1,), {"prompt": PROMPTS[:1]}, Setting(1, guidance_scale=2.0))
    found = bundle_generator(bundle).sample(request)
    assert same(found, TorchRunner(registry.checkpoint("wide")).generator.sample(request))
