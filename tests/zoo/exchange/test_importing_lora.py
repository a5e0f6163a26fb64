"""LoRA of whole pipelines: fused it is what diffusers fuses, asked for it is what is fused, and at 0 nothing."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers

from export.parity import LIMITS, image_error
from export.runners import TorchRunner
from export.variant import Precision
from tests import adapters, pipelines
from tests.examples import at_random
from tests.zoo.exchange.test_importing import home, one_thread
from tests.zoo.exchange.test_importing_pipelines import PROMPTS, draws, edit, ours, same, theirs
from zoo import registry, shelf
from zoo.contract.errors import RequestError
from zoo.contract.request import SampleRequest, Setting
from zoo.errors import GenzooError
from zoo.exchange.importing import ImportingError, import_from

# diffusers' own Euler, on numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

__all__ = ["home", "one_thread"]  # fixtures
SCALE = 0.8
FLUX = f"{adapters.ATTENTION}|{adapters.TEXT}|{adapters.FEED_FORWARD}"
Written = Callable[[Any], dict[str, np.ndarray]]  # a pipeline's adapter, as a file's tensors


def stable(folder: Path) -> Any:
    """Its own PNDM is no table."""
    scheduler = diffusers.DDIMScheduler(**pipelines.LATENT, clip_sample=False, steps_offset=1)
    return pipelines.stable(folder, scheduler)


def in_flux(pipeline: Any) -> adapters.Factors:
    """T5 is none of those that diffusers gives adapters."""
    found = adapters.factors(pipeline, FLUX)
    return {layer: pair for layer, pair in found.items() if not layer.startswith("text_encoder_2")}


FILES: dict[str, tuple[Callable[[Path], Any], Written]] = {
    "sd": (stable, lambda pipe: adapters.diffusers_names(adapters.factors(pipe))),
    "sd, before peft": (stable, lambda pipe: adapters.old_names(adapters.factors(pipe))),
    "sd, kohya, convolutions": (
        stable,
        lambda pipe: adapters.kohya_names(
            adapters.factors(pipe, f"{adapters.ATTENTION}|{adapters.TEXT}|{adapters.CONVOLUTIONS}"), 1.0
        ),
    ),
    "sdxl": (pipelines.stable_xl, lambda pipe: adapters.diffusers_names(adapters.factors(pipe))),
    "sdxl, kohya": (
        pipelines.stable_xl,
        lambda pipe: adapters.authors_names(adapters.factors(pipe), adapters.layers_of(pipe), 1.0),
    ),
    "sd3": (pipelines.stable_3, lambda pipe: adapters.diffusers_names(adapters.factors(pipe))),
    "flux": (pipelines.flux, lambda pipe: adapters.diffusers_names(in_flux(pipe))),
    "flux, kohya": (pipelines.flux, lambda pipe: adapters.flux_names(in_flux(pipe), 1.0)),
}


# One of each way that an adapter reaches the weights; the rest is in `make fuzz`.
QUICK = ("sd, kohya, convolutions", "sdxl, kohya", "flux")
LONGER = (pytest.mark.longer, pytest.mark.skipif(not at_random, reason="the same of another file: in `make fuzz`"))
EACH = [name if name in QUICK else pytest.param(name, marks=LONGER) for name in FILES]


@pytest.mark.parametrize("name", EACH)
def test_it_is_what_diffusers_fuses(name: str, tmp_path: Path) -> None:
    write, tensors = FILES[name]
    folder, flux = tmp_path / "pipe", name.startswith("flux")
    pipeline = write(folder)
    file = adapters.write(tmp_path / "lora.safetensors", tensors(pipeline))
    asked: dict[str, Any] = {"guidance": (5.0,)} if flux else {}
    setting = Setting(2) if flux else Setting(2, guidance_scale=3.0)
    call: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": setting.guidance_scale}
    if flux:
        latents = pipeline._pack_latents(draws(16)[0], 2, 4, 16, 16)
        call = {"num_inference_steps": 2, "guidance_scale": 5.0, "latents": latents, "max_sequence_length": 64}
        call |= {"height": 32, "width": 32}
    import_from(folder)
    before = ours("pipe", setting, **asked)
    import_from(folder, lora=(f"{file}:{SCALE}",))
    fused = ours("pipe", setting, **asked)
    pipeline.load_lora_weights(str(file))
    pipeline.fuse_lora(components=list(pipeline._lora_loadable_modules), lora_scale=SCALE)
    assert same(fused, theirs(pipeline, 16, **call))
    assert not same(before, fused)


@pytest.mark.parametrize("name", EACH)
def test_one_that_is_asked_for_is_the_fused_and_at_0_none(name: str, tmp_path: Path) -> None:
    write, tensors = FILES[name]
    folder, flux = tmp_path / "pipe", name.startswith("flux")
    file = adapters.write(tmp_path / "lora.safetensors", tensors(write(folder)))
    setting = Setting(2) if flux else Setting(2, guidance_scale=3.0)
    import_from(folder)
    before = ours("pipe", setting)
    import_from(folder, lora=(f"{file}:{SCALE}",))
    fused = ours("pipe", setting)
    import_from(folder, lora=(f"ink={file}",))
    turns = [ours("pipe", setting, ink=(scale,)) for scale in (0.0, SCALE, 0.0)]
    assert same(turns[1], fused)
    assert not same(before, fused)
    assert np.array_equal(turns[0], before)
    assert np.array_equal(turns[2], before)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, and two adapters of it: of the U-Net and the text encoder, and of the U-Net's convolutions too."""
    root = tmp_path_factory.mktemp("sources")
    pipeline = stable(root / "sd")
    adapters.write(root / "ink.safetensors", adapters.diffusers_names(adapters.factors(pipeline)))
    both = adapters.factors(pipeline, f"{adapters.ATTENTION}|{adapters.CONVOLUTIONS}", rank=3, seed=1)
    adapters.write(root / "wool.safetensors", adapters.kohya_names(both, 1.5))
    return root


def test_an_import_without_it_gives_the_weights_back(sources: Path) -> None:
    """A, B, A: the same bytes; and whose files are in the weights is told wherever an import is."""
    digests, file = [], sources / "ink.safetensors"
    for lora in ((), (f"{file}:0.5",), ()):
        imported = import_from(sources / "sd", lora=lora)
        digests.append(shelf.config("sd")["weights"]["sha256"])
        note = "ink.safetensors is fused at 0.5 into 50 weights"
        assert (note in imported.draft.notes) == bool(lora)
        recorded = shelf.config("sd").get("adapters")
        assert [(each["file"], each["scale"]) for each in recorded or ()] == [("ink.safetensors", 0.5)][: len(lora)]
        card = (shelf.directory("sd") / "README.md").read_text()
        assert (note in card) == ("ink.safetensors: LoRA at 0.5" in card) == bool(lora)
    assert digests[0] == digests[2] != digests[1]


def test_a_folder_s_own_is_taken_by_its_name_and_else_left(sources: Path, tmp_path: Path) -> None:
    shutil.copytree(sources / "sd", tmp_path / "own")
    shutil.copy(sources / "ink.safetensors", tmp_path / "own" / "pytorch_lora_weights.safetensors")
    left = import_from(tmp_path / "own")
    assert any("pytorch_lora_weights.safetensors was not used" in note for note in left.draft.notes)
    taken = import_from(tmp_path / "own", lora=("pytorch_lora_weights.safetensors",))
    assert not any("was not used" in note for note in taken.draft.notes)
    assert "pytorch_lora_weights.safetensors" not in taken.draft.left_out
    assert shelf.config("own")["adapters"][0]["scale"] == 1.0


def named(sources: Path) -> tuple[str, str]:
    return f"ink={sources / 'ink.safetensors'}", f"wool={sources / 'wool.safetensors'}:0.5"


SCALES = {"ink": (0.0, 1.0, 0.0, 0.6), "wool": (0.0, 0.0, -0.5, 0.4)}  # of four images


def four(**scales: tuple[float, ...]) -> SampleRequest:
    prompts = (PROMPTS[0],) * 4
    return SampleRequest((3, 3, 3, 3), {"prompt": prompts, **scales}, Setting(2, guidance_scale=2.0))


def rows(generator: Any) -> np.ndarray:
    """Each of the four images asked for alone."""
    alone = [{name: (values[row],) for name, values in SCALES.items()} for row in range(4)]
    request = SampleRequest((3,), {"prompt": (PROMPTS[0],)}, Setting(2, guidance_scale=2.0))
    return np.concatenate([
        generator.sample(SampleRequest(request.seeds, {**request.conditions, **each}, request.setting))
        for each in alone
    ])  # fmt: skip


def test_one_batch_mixes_adapters_and_images_without_any(sources: Path) -> None:
    import_from(sources / "sd")
    base = TorchRunner(registry.checkpoint("sd")).generator.sample(four())
    import_from(sources / "sd", lora=named(sources))
    spec = registry.checkpoint("sd").spec
    prompt = spec.condition("prompt")
    assert prompt is not None
    assert prompt.beside == ("ink",), "the other is not in the text encoder"
    runner = TorchRunner(registry.checkpoint("sd"))
    found = runner.generator.sample(four(**SCALES))
    assert np.array_equal(found[0], base[0])
    assert len({each.tobytes() for each in found}) == 4, "one seed and one text, told apart by adapters alone"
    assert same(rows(runner.generator), found)
    assert np.array_equal(runner.generator.sample(four(ink=(0.0,), wool=(0.0,))), base)
    by_default = runner.generator.sample(four())
    assert same(by_default, runner.generator.sample(four(ink=(1.0,), wool=(0.5,))))
    with pytest.raises(RequestError, match="ink 11 is outside -10 to 10"):
        runner.generator.sample(four(ink=(11.0,)))


def test_a_picture_that_is_seen_is_encoded_without_adapters(tmp_path: Path) -> None:
    written = pipelines.inpainting(tmp_path / "seeing")
    file = adapters.write(tmp_path / "ink.safetensors", adapters.diffusers_names(adapters.factors(written)))
    import_from(tmp_path / "seeing", lora=(f"ink={file}",))
    spec = registry.checkpoint("seeing").spec
    assert {each.name: each.beside for each in spec.conditions if each.encoded} == {
        "prompt": ("ink",),
        "image": ("mask_image",),
    }
    assert not same(ours("seeing", Setting(2)), ours("seeing", Setting(2), ink=(0.0,)))


FAULTS: dict[str, tuple[str, str]] = {
    "a name that is taken": ("mask={}/ink.safetensors", "mask is the name of something else"),
    "a name of a condition": ("prompt={}/ink.safetensors", "prompt would be the name of two inputs"),
    "no file": ("{}/none.safetensors", "none.safetensors"),
    "a pickle": ("{}/lora.pt", "is a pickle"),
    "no adapter": ("{}/sd/vae/diffusion_pytorch_model.safetensors", "is of another architecture"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_taken_is_said(fault: str, sources: Path) -> None:
    (sources / "lora.pt").write_bytes(pickle.dumps({}))
    lora, expected = FAULTS[fault]
    with pytest.raises(GenzooError, match=expected):
        import_from(sources / "sd", lora=(lora.format(sources),))
    assert not shelf.is_here("sd"), "nothing half-written"


def test_what_is_no_pipeline_takes_none(sources: Path) -> None:
    with pytest.raises(ImportingError, match="a safetensors file takes no --lora: leave it out"):
        import_from(shelf.TREE / "gan" / "model.safetensors", architecture="gan", lora=("ink.safetensors",))


def test_ranks_from_outside_are_looked_at(sources: Path, tmp_path: Path) -> None:
    """A config.json that names another layer, or another rank, is none of the weights beside it."""
    import_from(sources / "sd", lora=named(sources)[:1])
    copied = tmp_path / "copied"
    shutil.copytree(shelf.directory("sd"), copied)
    config = json.loads((copied / "config.json").read_text())
    layer = next(iter(config["architecture"]["adapters"]["ink"]))
    for wrong in ({layer: 1 << 15}, {layer: 1}, {"unet.there": 2}, 3):
        changed = {**config["architecture"], "adapters": {"ink": wrong}}
        edit(copied / "config.json", architecture=changed, name="copied")
        with pytest.raises(GenzooError, match=r"rank|lacks|besides|no object|differs"):
            import_from(copied, name="copied")


@pytest.mark.longer
@pytest.mark.skipif(not at_random, reason="it exports twice, for minutes: in `make fuzz`")
def test_it_is_asked_for_of_a_graph(sources: Path) -> None:
    """Exported and admitted: at 0 the bytes of the graph without, one batch as each alone, and torch's images."""
    from export.exporter import export
    from export.gate import gate
    from export.runners import bundle_generator

    import_from(sources / "sd", name="plain")
    import_from(sources / "sd", name="styled", lora=named(sources))
    plain, styled = export(registry.checkpoint("plain")), export(registry.checkpoint("styled"))
    verdict = gate(styled)
    assert verdict.admitted, verdict.message
    base, generator = bundle_generator(plain).sample(four()), bundle_generator(styled)
    without = four(ink=(0.0,), wool=(0.0,))
    turns = [generator.sample(each) for each in (without, four(**SCALES), without)]
    assert np.array_equal(turns[0], base)
    assert np.array_equal(turns[2], base)
    assert same(rows(generator), turns[1])
    reference = TorchRunner(registry.checkpoint("styled")).generator.sample(four(**SCALES))
    assert not image_error(reference, turns[1]).fault(LIMITS[Precision.FP32])
