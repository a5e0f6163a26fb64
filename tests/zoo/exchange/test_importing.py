"""Imports of real files, made by the libraries that make them elsewhere: what is taken works, the rest is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from genzoo import cli as command_line
from zoo import registry, shelf
from zoo.contract.conditions import class_id
from zoo.contract.feeds import feeds
from zoo.contract.request import SampleRequest, Setting
from zoo.errors import GenzooError
from zoo.exchange.importing import ImportingError, import_from
from zoo.exchange.importing.draft import name_for
from zoo.files import HOME_VARIABLE
from zoo.store.artifact import ArtifactError
from zoo.untrusted import UntrustedError

diffusers = pytest.importorskip("diffusers")

SEEDS = tuple(range(3))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"


def network(**changes: Any) -> Any:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 1,
        "out_channels": 1,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 8,
    }
    return diffusers.UNet2DModel(**{**arguments, **changes})


def pipeline(folder: Path, scheduler: Any = None, **changes: Any) -> Path:
    scheduler = scheduler or diffusers.DDIMScheduler()
    diffusers.DDIMPipeline(unet=network(**changes), scheduler=scheduler).save_pretrained(folder)
    return folder


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def last_x(name: str, num_steps: int, sampler: str) -> tuple[Mapping[str, np.ndarray], torch.Tensor]:
    """The tensors of a request, and what our table makes of them with the imported network."""
    from export.runners import TorchRunner

    checkpoint = registry.checkpoint(name)
    tensors = feeds(checkpoint.spec, SampleRequest(SEEDS, setting=Setting(num_steps, sampler)))
    with torch.inference_mode():
        runner = TorchRunner(checkpoint)
        *_, (x, _, _) = runner.walk({key: torch.from_numpy(value) for key, value in tensors.items()})
    return tensors, x


SCHEDULERS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "not clipped": {"clip_sample": False},
    "clipped at 2": {"clip_sample_range": 2.0},
    "v": {"prediction_type": "v_prediction", "clip_sample": False},
    "v, clipped": {"prediction_type": "v_prediction"},
    "sample": {"prediction_type": "sample", "clip_sample": False},
    "scaled linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "squared cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "trailing": {"timestep_spacing": "trailing"},
    "of 100 timesteps": {"num_train_timesteps": 100},
}


@pytest.mark.parametrize("change", SCHEDULERS)
def test_our_table_is_the_ddim_loop_of_diffusers(change: str, tmp_path: Path) -> None:
    """On the same noise; where the estimate is clipped, its noise is taken from the clipped one, as in the paper."""
    scheduler = diffusers.DDIMScheduler(**SCHEDULERS[change])
    import_from(pipeline(tmp_path / "pipe", scheduler), licence="mit")
    unet = network().eval()
    for num_steps in (1, 4, 10):
        tensors, found = last_x("pipe", num_steps, "ddim")
        z = torch.from_numpy(tensors["noise"][:, 0])
        scheduler.set_timesteps(num_steps)
        with torch.inference_mode():
            for t in scheduler.timesteps:
                z = scheduler.step(unet(z, t).sample, t, z, eta=0.0, use_clipped_model_output=True).prev_sample
        torch.testing.assert_close(found, z, rtol=1e-3, atol=1e-3 * float(z.abs().max()))


@pytest.mark.parametrize("clip", [True, False])
def test_our_table_is_the_ddpm_loop_of_diffusers(clip: bool, tmp_path: Path) -> None:
    scheduler = diffusers.DDPMScheduler(clip_sample=clip)
    diffusers.DDPMPipeline(unet=network(), scheduler=scheduler).save_pretrained(tmp_path / "pipe")
    import_from(tmp_path / "pipe")
    assert registry.checkpoint("pipe").spec.sampling.samplers[0] == "ddpm"  # type: ignore[union-attr]
    tensors, found = last_x("pipe", 10, "ddpm")
    noise = torch.from_numpy(tensors["noise"])
    z, unet = noise[:, 0], network().eval()
    scheduler.set_timesteps(10)
    bars = scheduler.alphas_cumprod
    with torch.inference_mode():
        for row, t in enumerate(scheduler.timesteps):
            mean = scheduler.step(unet(z, t).sample, t, z, generator=torch.Generator().manual_seed(row))
            draw = torch.randn(z.shape, generator=torch.Generator().manual_seed(row))
            before = bars[t - 100] if t >= 100 else torch.tensor(1.0)
            std = ((1 - before) / (1 - bars[t]) * (1 - bars[t] / before)).clamp(min=1e-20).sqrt() if t > 0 else 0.0
            z = mean.prev_sample - std * draw + std * noise[:, min(row + 1, noise.shape[1] - 1)]
    torch.testing.assert_close(found, z, rtol=1e-3, atol=1e-3 * float(z.abs().max()))


def test_an_imported_pipeline_goes_through_the_gate(tmp_path: Path) -> None:
    from export.exporter import export
    from export.gate import gate

    pipeline(tmp_path / "my Pipe", diffusers.DDIMScheduler(set_alpha_to_one=False), num_class_embeds=3)
    imported = import_from(tmp_path / "my Pipe", licence="mit")
    assert imported.name == "my-pipe"
    assert [(c.name, c.kind) for c in imported.draft.components] == [
        ("scheduler", "DDIMScheduler"),
        ("unet", "UNet2DModel"),
    ]
    checkpoint = registry.checkpoint("my-pipe")
    assert (class_id.count(checkpoint.spec.conditions), checkpoint.spec.image_shape) == (3, (8, 8, 1))
    assert shelf.config("my-pipe")["weights"]["dtype"] == "float32"
    verdict = gate(export(checkpoint))
    assert verdict.admitted, verdict.message
    asked = {request["request"] for request in verdict.numbers["requests"]}
    assert {"ddim_eps in 10 steps", "ddim in 4 steps"} < asked  # one graph takes both forms of clipping
    assert "its steps by ddim@leading, ddim_eps@leading, ddpm@leading are those of DDIMScheduler" in verdict.message
    assert max(verdict.numbers["step_errors"].values()) < 1e-4


def test_names_of_older_diffusers_are_read(tmp_path: Path) -> None:
    """Everything at the top, and attention under the names it had before diffusers 0.18."""
    folder = pipeline(tmp_path / "new")
    old = tmp_path / "old"
    old.mkdir()
    for source in (folder / "unet", folder / "scheduler"):
        for path in source.iterdir():
            shutil.copy(path, old / path.name)
    shutil.copy(folder / "model_index.json", old)
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    tensors = {}
    for key, tensor in load_file(old / "diffusion_pytorch_model.safetensors").items():
        for new, before in names.items():
            key = key.replace(new, before)
        tensors[key] = tensor
    save_file(tensors, old / "diffusion_pytorch_model.safetensors")
    import_from(folder)
    import_from(old)
    assert torch.equal(last_x("old", 3, "ddim")[1], last_x("new", 3, "ddim")[1])


def shard(folder: Path) -> Path:
    """Split a pipeline's weights as diffusers does: the index."""
    diffusers.UNet2DModel.from_pretrained(folder / "unet").save_pretrained(folder / "unet", max_shard_size="10KB")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink(missing_ok=True)
    return folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"


@pytest.mark.filterwarnings("ignore")
def test_shards_are_joined(tmp_path: Path) -> None:
    whole = import_from(pipeline(tmp_path / "whole"))
    shard(pipeline(tmp_path / "parts"))
    parts = import_from(tmp_path / "parts")
    assert len(parts.draft.components) > 3
    assert whole.draft.record["parameters"] == parts.draft.record["parameters"]
    assert torch.equal(last_x("parts", 2, "ddim")[1], last_x("whole", 2, "ddim")[1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", ["../whole.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin", "", "a\\b"])
def test_an_index_of_shards_names_plain_files_only(place: str, tmp_path: Path) -> None:
    index = shard(pipeline(tmp_path / "parts"))
    places = json.loads(index.read_text())["weight_map"]
    edit(index, weight_map={**places, next(iter(places)): place})
    with pytest.raises(UntrustedError, match="names the file"):
        import_from(tmp_path / "parts")


@pytest.mark.filterwarnings("ignore")
def test_an_index_lists_what_its_files_hold(tmp_path: Path) -> None:
    index = shard(pipeline(tmp_path / "parts"))
    places = json.loads(index.read_text())["weight_map"]
    first, *rest = places
    edit(index, weight_map={key: places[key] for key in rest})
    with pytest.raises(UntrustedError, match="does not list"):
        import_from(tmp_path / "parts")
    edit(index, weight_map={**places, "another": places[first]})
    with pytest.raises(UntrustedError, match="does not have it"):
        import_from(tmp_path / "parts")


def test_a_component_of_pickles_is_refused_and_one_beside_safetensors_left_out(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipe")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), folder / "unet" / "diffusion_pytorch_model.bin")
    imported = import_from(folder)
    assert imported.draft.left_out == ("unet/diffusion_pytorch_model.bin",)
    weights.unlink()
    with pytest.raises(UntrustedError, match=r"zip archive.*save_file"):
        import_from(folder, name="other")


UNFIT: dict[str, tuple[Callable[[Path], None], str]] = {
    "another sampler": (lambda f: edit(f / "scheduler/scheduler_config.json", _class_name="PNDMScheduler"), "PNDM"),
    "dynamic clipping": (lambda f: edit(f / "scheduler/scheduler_config.json", thresholding=True), "thresholding"),
    "trained betas": (lambda f: edit(f / "scheduler/scheduler_config.json", trained_betas=[0.1]), "trained_betas"),
    "no such betas": (lambda f: edit(f / "scheduler/scheduler_config.json", beta_schedule="sigmoid"), "sigmoid"),
    "1e9 timesteps": (lambda f: edit(f / "scheduler/scheduler_config.json", num_train_timesteps=10**9), "10000"),
    "learned variance": (
        lambda f: edit(f / "scheduler/scheduler_config.json", _class_name="DDPMScheduler", variance_type="learned"),
        "variance",
    ),
    "no scheduler": (lambda f: (f / "scheduler/scheduler_config.json").unlink(), "scheduler"),
    "1e9 layers": (lambda f: edit(f / "unet/config.json", layers_per_block=10**9), "layers_per_block"),
    "1e9 channels": (lambda f: edit(f / "unet/config.json", block_out_channels=[10**9, 8]), "block_out_channels"),
    "no such block": (lambda f: edit(f / "unet/config.json", down_block_types=["Evil", "Evil"]), "Evil"),
    "no such argument": (lambda f: edit(f / "unet/config.json", trust_remote_code=True), "trust_remote_code"),
    "other widths": (lambda f: edit(f / "unet/config.json", block_out_channels=[8, 32]), "differs"),
    "two channels": (lambda f: edit(f / "unet/config.json", in_channels=2), "channels"),
    "no size": (lambda f: edit(f / "unet/config.json", sample_size=None), "sample_size"),
    "no config": (lambda f: (f / "unet/config.json").write_text("[]"), "object"),
    "a component elsewhere": (lambda f: edit(f / "model_index.json", **{"../x": ["diffusers", "X"]}), "no folder"),
    "a link": (lambda f: (f / "unet/link.json").symlink_to("/etc/passwd"), "link"),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_a_pipeline_that_does_not_fit_is_refused_by_name(fault: str, tmp_path: Path, home: Path) -> None:
    damage, message = UNFIT[fault]
    damage(pipeline(tmp_path / "pipe"))
    with pytest.raises((ImportingError, UntrustedError), match=message):
        import_from(tmp_path / "pipe")
    assert shelf.pulled("pipe") is None
    assert not list((home / "imports").iterdir())


def kandinsky(folder: Path) -> Path:
    """What a text-to-image repository looks like, each component with a safetensors file of a few values."""
    index: dict[str, Any] = {"_class_name": "KandinskyV22Pipeline", "safety_checker": [None, None]}
    classes = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
    for name, kind in classes.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps({"_class_name": kind}))
        save_file({"w": torch.zeros(3)}, folder / name / "model.safetensors")
        index[name] = ["diffusers", kind]
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text('{"a": 0}')
    index["tokenizer"] = ["transformers", "CLIPTokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def run(*words: str) -> Any:
    return CliRunner().invoke(command_line.app, list(words), env={"COLUMNS": "200"})


def test_a_text_conditioned_pipeline_is_kept_and_not_sampled(tmp_path: Path) -> None:
    imported = import_from(kandinsky(tmp_path / "sd"), licence="creativeml-openrail-m")
    assert not imported.draft.usable
    assert [component.name for component in imported.draft.components] == ["unet", "vae", "text_encoder", "tokenizer"]
    manifest = shelf.blob_store().manifest(shelf.blob_store().ref("sd"))  # type: ignore[arg-type]
    assert "source/unet/model.safetensors" in {file.path for file in manifest.files}
    with pytest.raises(registry.UnsupportedError, match="cannot be sampled by this version"):
        registry.checkpoint("sd")
    shown = json.loads(run("show", "sd", "--json").stdout)
    assert [component["name"] for component in shown["components"]] == ["unet", "vae", "text_encoder", "tokenizer"]
    assert "sd" not in [row["name"] for row in json.loads(run("list", "--json").stdout)]


def test_a_kept_pipeline_is_checked_in_every_component(tmp_path: Path) -> None:
    folder = kandinsky(tmp_path / "sd")
    weights = folder / "vae" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"more")
    with pytest.raises(UntrustedError, match="after its last tensor"):
        import_from(folder)


def weights_of(name: str) -> Path:
    return shelf.TREE / name / "model.safetensors"


def test_a_file_is_taken_as_the_checkpoint_it_is_said_to_be(home: Path) -> None:
    imported = import_from(weights_of("gan"), name="mine", architecture="gan", licence="apache-2.0")
    checkpoint = registry.checkpoint("mine")
    assert checkpoint.config == registry.checkpoint("gan").config
    assert (checkpoint.licence, checkpoint.dataset, imported.version) == ("apache-2.0", "unknown", 1)
    ours = [registry.load_module(registry.checkpoint(name)).state_dict() for name in ("mine", "gan")]
    assert all(torch.equal(ours[0][key], ours[1][key]) for key in ours[1])
    assert shelf.verified_weights("mine").read_bytes() == weights_of("gan").read_bytes()  # byte for byte
    ref = shelf.blob_store().ref("mine")
    assert ref is not None
    provenance = shelf.blob_store().manifest(ref).provenance
    assert provenance["signed"] is False
    assert str(weights_of("gan")) in provenance["origin"]


def test_a_file_alone_is_taken_as_what_it_fits() -> None:
    imported = import_from(weights_of("ddpm"), name="mine")
    assert imported.licence == "unknown"
    assert "taken as ddpm; ddpm-pd4" in imported.draft.notes[0]
    ref = shelf.blob_store().ref("mine")
    assert ref is not None
    assert shelf.blob_store().manifest(ref).restricted


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_each_floating_type_keeps_its_values(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {key: tensor.to(dtype) for key, tensor in load_file(weights_of("gan")).items()}
    save_file(tensors, tmp_path / "x.safetensors")
    import_from(tmp_path / "x.safetensors", architecture="gan")
    found = registry.load_module(registry.checkpoint("x")).state_dict()
    assert all(torch.equal(found[key], tensors[key].float()) for key in tensors)


def test_differences_are_named(tmp_path: Path) -> None:
    tensors = load_file(weights_of("gan"))
    del tensors["mapping.weight"]
    tensors["expand.bias"] = torch.zeros(3)
    tensors["stranger"] = torch.zeros(1, dtype=torch.int64)
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ImportingError) as caught:
        import_from(tmp_path / "x.safetensors", architecture="gan")
    for clause in (
        "lacks mapping.weight",
        "has besides stranger",
        "expand.bias is float32 [3], expected float32 [2560]",
    ):
        assert clause in str(caught.value)
    with pytest.raises(ImportingError, match=r"fits the architecture of no checkpoint; .*gan"):
        import_from(tmp_path / "x.safetensors")


def test_a_checkpoint_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = shutil.copytree(shelf.TREE / "gan", tmp_path / "gan")
    import_from(folder, name="copy")
    assert registry.checkpoint("copy").config == registry.checkpoint("gan").config
    assert (shelf.directory("copy") / "README.md").is_file()
    shutil.copy(weights_of("vae"), folder / "model.safetensors")
    with pytest.raises(ImportingError, match=r"is not what config\.json beside it describes"):
        import_from(folder, name="other")


def test_names_are_taken_once(tmp_path: Path) -> None:
    with pytest.raises(ImportingError, match="checkpoint of the zoo"):
        import_from(weights_of("gan"), name="gan")
    first = import_from(weights_of("gan"), name="mine", licence="mit")
    assert import_from(weights_of("gan"), name="mine", licence="mit").digest == first.digest
    assert import_from(weights_of("vae"), name="mine", licence="mit").version == 2
    assert registry.checkpoint("mine").spec.family == "vae"
    with pytest.raises(ArtifactError, match="no artifact's name"):
        import_from(weights_of("gan"), name="../x")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/a/My Model.safetensors", "my-model"),
        ("https://x/y/z.ONNX", "z"),
        ("ddpm-cifar10-32/", "ddpm-cifar10-32"),
        ("/a/-_x_-", "x"),
    ],
)
def test_a_name_is_made_of_the_file_s(text: str, name: str) -> None:
    assert name_for(text) == name


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.write_bytes(b"\0" * 99), lambda p: p.touch()])
def test_what_is_none_of_these_is_refused(make: Callable[[Path], Any], tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(GenzooError):
        import_from(tmp_path / "x")


def test_the_command(tmp_path: Path) -> None:
    pipeline(tmp_path / "pipe")
    record = json.loads(run("import", str(tmp_path / "pipe"), "--licence", "mit", "--json").stdout)
    assert (record["name"], record["usable"], record["signed"], record["licence"]) == ("pipe", True, False, "mit")
    assert [component["name"] for component in record["components"]] == ["scheduler", "unet"]
    text = run("import", str(weights_of("gan")), "--name", "mine").stdout
    assert "licence is unknown" in text
    assert "next: genzoo gate mine" in text


def test_what_an_import_says_is_printable(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipe")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), folder / "unet" / "diffusion\x9b2J\u202e.bin")
    result = CliRunner().invoke(command_line.app, ["import", str(folder)], catch_exceptions=False)
    assert "left out: unet/diffusion\\x9b2J\\u202e.bin" in result.output
