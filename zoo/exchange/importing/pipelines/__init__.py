"""A pipeline of diffusers with a first stage -> a checkpoint of the family `diffusers_pipeline`.

    components     the networks: configs, tensors, names
    tokenizers     what a prompt is read by
    schedulers     how it is sampled
    conditions     what its generator is told, and at which sizes
    adapters       low-rank ones, in its weights or beside them

A class is an entry of PIPELINES. What a folder has that is not used is told; what would change images is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.contract import steps
from zoo.contract.assets import EXAMPLES
from zoo.contract.spec import GeneratorSpec, Noise
from zoo.exchange.importing import weights
from zoo.exchange.importing.draft import UNKNOWN, Draft, ImportingError
from zoo.exchange.importing.pipelines import adapters, components, conditions, forward, schedulers, tokenizers
from zoo.family import Checkpoint
from zoo.untrusted import read_json

FAMILY = "diffusers_pipeline"
INDEX = "model_index.json"
PROMPTS = (  # for when nobody gives one
    "a red boat on a quiet lake",
    "portrait of an old sailor, oil on canvas",
    "a small house in the snow at night",
    "a bowl of oranges on a blue table",
    "the skyline of a city in the morning fog",
    "a black cat asleep on a pile of books",
    "an astronaut in a field of flowers",
    "mountains behind a yellow train",
)


@dataclass(frozen=True)
class Pipeline:
    """A class of diffusers: the layout of its graphs, and its networks by the names of their folders.

    `even`: it gives its scheduler a flow's times, evenly down to 0; `clips`: what its scheduler says of clipping holds;
    `optional` are those of its folders that need not be there; `guidance` is its scale where nobody says one.
    """

    layout: str
    networks: Mapping[str, tuple[str, ...]]  # folder -> the classes that may lie in it
    tokenizers: tuple[str, ...] = ()
    even: bool = False
    clips: bool = True
    optional: tuple[str, ...] = ()
    guidance: float = 1.0


UNET, VAE = ("UNet2DConditionModel",), ("AutoencoderKL",)
CLIP, PROJECTED, T5 = ("CLIPTextModel",), ("CLIPTextModelWithProjection",), ("T5EncoderModel",)
TEXT = Pipeline("text", {"unet": UNET, "vae": VAE, "text_encoder": CLIP}, ("tokenizer",))
STABLE = dataclasses.replace(TEXT, clips=False, guidance=7.5)
XL = Pipeline(
    "sized_text",
    {"unet": UNET, "vae": VAE, "text_encoder": CLIP, "text_encoder_2": PROJECTED},
    ("tokenizer", "tokenizer_2"),
    optional=("text_encoder", "tokenizer"),  # of a refiner
    guidance=5.0,
)
PIXART = Pipeline(
    "masked_text",
    {"transformer": ("PixArtTransformer2DModel",), "vae": VAE, "text_encoder": T5},
    ("tokenizer",),
    guidance=4.5,
)
SD3 = Pipeline(
    "joint_text",
    {
        "transformer": ("SD3Transformer2DModel",),
        "vae": VAE,
        "text_encoder": PROJECTED,
        "text_encoder_2": PROJECTED,
        "text_encoder_3": T5,
    },
    ("tokenizer", "tokenizer_2", "tokenizer_3"),
    optional=("text_encoder_3", "tokenizer_3"),
    guidance=7.0,
)
FLUX = Pipeline(
    "packed_text",
    {"transformer": ("FluxTransformer2DModel",), "vae": VAE, "text_encoder": CLIP, "text_encoder_2": T5},
    ("tokenizer", "tokenizer_2"),
    even=True,
)
SANA = Pipeline(
    "instructed_text",
    {"transformer": ("SanaTransformer2DModel",), "vae": ("AutoencoderDC",), "text_encoder": ("Gemma2Model",)},
    ("tokenizer",),
    guidance=4.5,
)
PIPELINES: dict[str, Pipeline] = {
    "StableDiffusionPipeline": STABLE,
    "StableDiffusionImg2ImgPipeline": STABLE,
    "StableDiffusionInpaintPipeline": STABLE,
    "LatentConsistencyModelPipeline": TEXT,
    "LatentConsistencyModelImg2ImgPipeline": TEXT,
    "StableDiffusionXLPipeline": XL,
    "StableDiffusionXLImg2ImgPipeline": XL,
    "StableDiffusionXLInpaintPipeline": dataclasses.replace(XL, guidance=7.5),
    "LDMPipeline": Pipeline("unconditional", {"unet": ("UNet2DModel",), "vqvae": ("VQModel",)}),
    "ConsistencyModelPipeline": Pipeline("consistency", {"unet": ("UNet2DModel",)}),
    "DiTPipeline": Pipeline("class", {"transformer": ("DiTTransformer2DModel",), "vae": VAE}, guidance=4.0),
    "PixArtAlphaPipeline": PIXART,
    "PixArtSigmaPipeline": PIXART,
    "StableDiffusion3Pipeline": SD3,
    "StableDiffusion3Img2ImgPipeline": SD3,
    "StableDiffusion3InpaintPipeline": SD3,
    "SanaPipeline": SANA,
    "FluxPipeline": FLUX,
    "FluxImg2ImgPipeline": FLUX,
    "FluxInpaintPipeline": FLUX,
}
SCORED = {"sized_text": "scored_text"}
BUILT = frozenset(kind for each in PIPELINES.values() for kinds in each.networks.values() for kind in kinds)


def fits(kind: str) -> bool:
    """Whether a pipeline of this class is one of those here."""
    return kind in PIPELINES


def used(kind: str) -> tuple[str, ...]:
    """The folders of a pipeline of this class that an import reads."""
    return (*PIPELINES[kind].networks, *PIPELINES[kind].tokenizers, "scheduler")


def draft(
    kind: str,
    folder: Path,
    folders: Mapping[str, Path],
    kinds: Mapping[str, str],
    tensors: Mapping[str, weights.Tensors],
    scratch: Path,
    asked_adapters: Sequence[adapters.Adapter] = (),
) -> Draft:
    """The draft of a pipeline; `folders`, `kinds` and `tensors` are of its components, by their names.

    Raises ImportingError for what is missing, is another class's, or would change images and is not done here.
    """
    index = read_json(folder / INDEX)
    pipeline = _there(PIPELINES[kind], folders, index)
    networks = _networks(pipeline, folder, folders, kinds)
    read = {name: tokenizers.read(folders[name]) for name in pipeline.tokenizers}
    told = conditions.told(pipeline.layout, networks, read, index, str(folder))
    path = _place(folders, "scheduler", folder) / "scheduler_config.json"
    asked = schedulers.Asked(told.encodes, pipeline.even, pipeline.clips, told.tokens)
    sampled = read_json(path, infinite=True)
    found = schedulers.sampling(sampled, str(path), asked)
    own = {
        name: each
        for part in networks
        for name, each in components.named(tensors[part], part, networks[part]["_class_name"]).items()
    }
    config = {"layout": pipeline.layout, "components": networks, "pads": told.pads, "zeros": told.zeros, **found.config}
    known = _checkpoint(config, told, found, str(folder))
    taken = _checked(known, own, folder)
    notes = (*found.notes, *told.notes, *_guided(pipeline, told), *_not_used(pipeline, folders, index))
    assets = _assets(read, told) | _steps(sampled, known)
    if not asked_adapters:
        return _drafted(kind, known, taken, assets, notes, scratch)
    made = adapters.adapted(taken, asked_adapters, scratch)
    told = dataclasses.replace(told, conditions=(*map(made.beside, told.conditions), *made.conditions))
    known = _checkpoint({**config, "adapters": made.ranks}, told, found, str(folder))
    taken = _checked(known, made.tensors, folder)
    drafted = _drafted(kind, known, taken, assets, (*notes, *made.notes), scratch)
    return _with_adapters(drafted, asked_adapters)


def _with_adapters(draft: Draft, asked_adapters: Sequence[adapters.Adapter]) -> Draft:
    """A draft that says whose files are in it, and how strongly."""
    record = {**draft.record, "adapters": [each.record() for each in asked_adapters]}
    return dataclasses.replace(draft, record=record, components=tuple(each.component() for each in asked_adapters))


def _there(pipeline: Pipeline, folders: Mapping[str, Path], index: Mapping[str, Any]) -> Pipeline:
    """The pipeline without the folders that need not be there, and are not; told scores where its index says so."""
    absent = {name for name in pipeline.optional if name not in folders}
    networks = {name: kinds for name, kinds in pipeline.networks.items() if name not in absent}
    read = tuple(name for name in pipeline.tokenizers if name not in absent)
    layout = SCORED.get(pipeline.layout) if index.get("requires_aesthetics_score") else None
    return dataclasses.replace(pipeline, layout=layout or pipeline.layout, networks=networks, tokenizers=read)


def _networks(
    pipeline: Pipeline, folder: Path, folders: Mapping[str, Path], kinds: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    found = {}
    for name, classes in pipeline.networks.items():
        seen = kinds.get(name)
        if seen not in classes:
            raise ImportingError(f"{folder} has {name} of class {seen or 'none'}, expected {' or '.join(classes)}")
        found[name] = components.config(folders[name], seen)
    for name in pipeline.tokenizers:
        _place(folders, name, folder)
    return found


def _place(folders: Mapping[str, Path], name: str, folder: Path) -> Path:
    if name not in folders:
        raise ImportingError(f"{folder} has no {name}: import the whole pipeline")
    return folders[name]


def _checkpoint(config: Mapping[str, Any], told: conditions.Told, found: schedulers.Found, label: str) -> Checkpoint:
    family = registry.family(FAMILY)
    try:
        made = family.config_type(**config)
    except ValueError as error:
        raise ImportingError(f"{label}: {error}") from error
    scale = found.sampling.max_guidance_scale if any(each.guided for each in told.conditions) else 1.0
    sampling = dataclasses.replace(found.sampling, max_guidance_scale=scale)
    spec = GeneratorSpec(
        "imported", FAMILY, (Noise("noise", told.state),), told.image, told.conditions, sampling, told.axes
    )
    spec = GeneratorSpec.from_json(spec.to_json())  # as whoever loads it reads it
    return Checkpoint(spec, made, dataset=UNKNOWN, licence=UNKNOWN)


def _checked(known: Checkpoint, tensors: weights.Tensors, folder: Path) -> weights.Tensors:
    """The tensors under the names of the networks as they are built here.

    Raises ImportingError where the networks cannot be built, called as they are here, or are not the weights'.
    """
    build = partial(registry.family(FAMILY).build, known.config)
    try:
        expected = weights.wanted(build)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
        raise ImportingError(f"{folder}: its networks cannot be built: {str(error).splitlines()[0][:200]}") from error
    tensors = components.fitted(tensors, expected)
    if fault := weights.difference(tensors, expected):
        raise ImportingError(f"{folder}: the weights are not of the networks beside them: it {fault}")
    forward.check(known, build, str(folder))
    return tensors


def _guided(pipeline: Pipeline, told: conditions.Told) -> list[str]:
    """What to ask for, to be guided as by diffusers: here nothing is guided unasked."""
    if pipeline.guidance <= 1.0 or not any(each.guided for each in told.conditions):
        return []
    return [f"diffusers guides its class by {pipeline.guidance:g} where nobody says; here that is asked for, by "
            f"--guidance-scale {pipeline.guidance:g}, but of a distilled one, like a Turbo, by nothing"]  # fmt: skip


def _not_used(pipeline: Pipeline, folders: Mapping[str, Path], index: Mapping[str, Any]) -> list[str]:
    read = {*pipeline.networks, *pipeline.tokenizers, "scheduler"}
    return [f"{name} is not used: images come as they are made" for name in sorted(set(folders) - read)]


def _steps(config: Mapping[str, Any], known: Checkpoint) -> dict[str, bytes]:
    """What diffusers' samplers do by the scheduler's levels, for the gate; nothing where ours are none of them."""
    from safetensors.numpy import save

    from zoo.exchange.importing import comparison

    sampling = known.spec.sampling
    return {} if sampling is None else {steps.FILE: save(comparison.recorded(config, known))}


def _assets(read: Mapping[str, tokenizers.Tokenizer], told: conditions.Told) -> dict[str, bytes]:
    found = {file: read[name].content for name, file in told.files.items()}
    if told.lower:
        found = {file: tokenizers.lowered(content) for file, content in found.items()}
    if read:
        found[EXAMPLES] = json.dumps({"prompt": PROMPTS}, indent=1).encode()
    return found


def _drafted(
    kind: str, known: Checkpoint, tensors: weights.Tensors, assets: Mapping[str, bytes], notes: tuple[str, ...],
    scratch: Path,
) -> Draft:  # fmt: skip
    return weights.of_checkpoint(known, tensors, scratch, kind, notes).with_assets(assets, scratch)
