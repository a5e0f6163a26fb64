"""A pipeline of diffusers with a first stage -> a checkpoint of the family `diffusers_pipeline`.

    components     the networks: configs, tensors, names
    tokenizers     what a prompt is read by
    schedulers     how it is sampled
    conditions     what its generator is told, and at which sizes

A class is an entry of PIPELINES. What a folder has that is not used is told; what would change images is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from zoo import registry, shelf
from zoo.contract.assets import EXAMPLES
from zoo.contract.layout import WEIGHTS
from zoo.contract.spec import GeneratorSpec, Noise
from zoo.exchange.importing import weights
from zoo.exchange.importing.draft import UNKNOWN, Draft, ImportingError
from zoo.exchange.importing.pipelines import components, conditions, forward, schedulers, tokenizers
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
    `optional` are those of its folders that need not be there.
    """

    layout: str
    networks: Mapping[str, tuple[str, ...]]  # folder -> the classes that may lie in it
    tokenizers: tuple[str, ...] = ()
    even: bool = False
    clips: bool = True
    optional: tuple[str, ...] = ()


UNET, VAE = ("UNet2DConditionModel",), ("AutoencoderKL",)
CLIP, PROJECTED, T5 = ("CLIPTextModel",), ("CLIPTextModelWithProjection",), ("T5EncoderModel",)
TEXT = Pipeline("text", {"unet": UNET, "vae": VAE, "text_encoder": CLIP}, ("tokenizer",))
STABLE = dataclasses.replace(TEXT, clips=False)
XL = Pipeline(
    "sized_text",
    {"unet": UNET, "vae": VAE, "text_encoder": CLIP, "text_encoder_2": PROJECTED},
    ("tokenizer", "tokenizer_2"),
)
PIXART = Pipeline(
    "masked_text",
    {"transformer": ("PixArtTransformer2DModel",), "vae": VAE, "text_encoder": T5},
    ("tokenizer",),
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
)
FLUX = Pipeline(
    "packed_text",
    {"transformer": ("FluxTransformer2DModel",), "vae": VAE, "text_encoder": CLIP, "text_encoder_2": T5},
    ("tokenizer", "tokenizer_2"),
    even=True,
)
PIPELINES: dict[str, Pipeline] = {
    "StableDiffusionPipeline": STABLE,
    "StableDiffusionImg2ImgPipeline": STABLE,
    "StableDiffusionInpaintPipeline": STABLE,
    "LatentConsistencyModelPipeline": TEXT,
    "LatentConsistencyModelImg2ImgPipeline": TEXT,
    "StableDiffusionXLPipeline": XL,
    "StableDiffusionXLImg2ImgPipeline": XL,
    "StableDiffusionXLInpaintPipeline": XL,
    "LDMPipeline": Pipeline("unconditional", {"unet": ("UNet2DModel",), "vqvae": ("VQModel",)}),
    "ConsistencyModelPipeline": Pipeline("consistency", {"unet": ("UNet2DModel",)}),
    "DiTPipeline": Pipeline("class", {"transformer": ("DiTTransformer2DModel",), "vae": VAE}),
    "PixArtAlphaPipeline": PIXART,
    "PixArtSigmaPipeline": PIXART,
    "StableDiffusion3Pipeline": SD3,
    "StableDiffusion3Img2ImgPipeline": SD3,
    "StableDiffusion3InpaintPipeline": SD3,
    "FluxPipeline": FLUX,
    "FluxImg2ImgPipeline": FLUX,
    "FluxInpaintPipeline": FLUX,
}


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
) -> Draft:
    """The draft of a pipeline; `folders`, `kinds` and `tensors` are of its components, by their names.

    Raises ImportingError for what is missing, is another class's, or would change images and is not done here.
    """
    pipeline, index = _there(PIPELINES[kind], folders), read_json(folder / INDEX)
    networks = _networks(pipeline, folder, folders, kinds)
    read = {name: tokenizers.read(folders[name]) for name in pipeline.tokenizers}
    told = conditions.told(pipeline.layout, networks, read, index, str(folder))
    path = _place(folders, "scheduler", folder) / "scheduler_config.json"
    asked = schedulers.Asked(told.encodes, pipeline.even, pipeline.clips, told.tokens)
    found = schedulers.sampling(read_json(path, infinite=True), str(path), asked)
    config = {"layout": pipeline.layout, "components": networks, "pads": told.pads, "zeros": told.zeros, **found.config}
    known = _checkpoint(config, told, found, str(folder))
    taken = {
        name: each
        for part in networks
        for name, each in components.named(tensors[part], part, networks[part]["_class_name"]).items()
    }
    _check_weights(known, taken, folder)
    notes = (*found.notes, *told.notes, *_not_used(pipeline, folders, index))
    return _drafted(kind, known, taken, _assets(read, told), notes, scratch)


def _there(pipeline: Pipeline, folders: Mapping[str, Path]) -> Pipeline:
    """The pipeline without the folders that need not be there, and are not."""
    absent = {name for name in pipeline.optional if name not in folders}
    networks = {name: kinds for name, kinds in pipeline.networks.items() if name not in absent}
    read = tuple(name for name in pipeline.tokenizers if name not in absent)
    return dataclasses.replace(pipeline, networks=networks, tokenizers=read)


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


def _check_weights(known: Checkpoint, tensors: weights.Tensors, folder: Path) -> None:
    """Raises ImportingError where the networks cannot be built, called as they are here, or are not the weights'."""
    build = partial(registry.family(FAMILY).build, known.config)
    try:
        expected = weights.wanted(build)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
        raise ImportingError(f"{folder}: its networks cannot be built: {str(error).splitlines()[0][:200]}") from error
    if fault := weights.difference(tensors, expected):
        raise ImportingError(f"{folder}: the weights are not of the networks beside them: it {fault}")
    forward.check(known, build, str(folder))


def _not_used(pipeline: Pipeline, folders: Mapping[str, Path], index: Mapping[str, Any]) -> list[str]:
    read = {*pipeline.networks, *pipeline.tokenizers, "scheduler"}
    return [f"{name} is not used: images come as they are made" for name in sorted(set(folders) - read)]


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
    file, stored = weights.settled(tensors, scratch)
    record = shelf.record(known, file, stored, weights.dtype(stored), {}, assets)
    files = {WEIGHTS: file}
    for name, content in assets.items():
        files[name] = scratch / name
        files[name].write_bytes(content)
    return Draft(kind, record, files, notes=notes)
