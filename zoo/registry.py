"""The zoo's families by name, and their checkpoints. A look-up imports one file; nothing registers itself."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from zoo import shelf
from zoo.contract.request import GeneratorSpec, Setting, nearest, table
from zoo.errors import GenzooError
from zoo.family import Checkpoint, Family, Recipe, System
from zoo.plain import PlainError, check_sizes, rebuild

FAMILIES = (
    "autoencoder",
    "denoising_diffusion_gan",
    "diffusers_unet",
    "diffusion",
    "gan",
    "guided_diffusion",
    "latent_diffusion",
    "normalizing_flow",
    "onnx_generator",
    "progressive_gan",
    "transformer_flow",
    "vae",
    "vqvae",
)
SPEC = tuple(field.name for field in fields(GeneratorSpec))
MAX_ARCHITECTURE = 1 << 16  # of any number in an architecture from outside
MAX_VALUES = 1 << 26  # of an image or its latents


class UnknownNameError(GenzooError, LookupError):
    """A name that the registry does not hold; the message gives the nearest ones."""


class UnsupportedError(GenzooError):
    """A checkpoint that is stored whole and verified, and that nothing here can sample; the message says why."""


def family(name: str) -> Family:
    """The family in `zoo/families/<name>.py`. Raises UnknownNameError."""
    if name not in FAMILIES:
        raise UnknownNameError(f"unknown family {name!r}: {nearest(name, FAMILIES)}")
    found: Family = importlib.import_module(f"zoo.families.{name}").FAMILY
    return found


def checkpoints() -> Iterator[Checkpoint]:
    """Every checkpoint of every family, in the order of their tables. Raises ValueError for a name used twice."""
    seen: dict[str, str] = {}
    for name in FAMILIES:
        for checkpoint in family(name).checkpoints:
            if checkpoint.name in seen:
                raise ValueError(f"checkpoint {checkpoint.name!r} is in both {seen[checkpoint.name]} and {name}")
            seen[checkpoint.name] = name
            yield checkpoint


def checkpoint(name: str) -> Checkpoint:
    """The checkpoint of that name: pulled, imported, or a table's. Raises UnknownNameError, StoreError."""
    table = {entry.name: entry for entry in checkpoints()}
    if shelf.pulled(name):
        found = described(name, shelf.config(name))
        known = table.get(name)
        if known:
            return replace(found, description=known.description, faults=known.faults, systems=known.systems)
        return found
    if name not in table:
        raise UnknownNameError(f"unknown checkpoint {name!r}: {nearest(name, {*table, *stored()})}")
    return table[name]


def systems(name: str) -> tuple[System, ...]:
    """A checkpoint's places in the family tree; none for one that is in no table."""
    return next((entry.systems for entry in checkpoints() if entry.name == name), ())


def stored() -> Iterator[str]:
    """The names of the checkpoints that were pulled or imported."""
    for ref in shelf.blob_store().refs():
        if shelf.CHECKPOINT_NAME.fullmatch(ref.name) and shelf.pulled(ref.name):
            yield ref.name


def described(name: str, config: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint that a `config.json` describes, under the name that it has here. Raises StoreError."""
    if config.get("unsupported"):  # an import that is kept, not sampled: zoo.exchange.importing
        raise UnsupportedError(f"{name} is in the store, but {config['unsupported']}")
    try:
        kind = family(config["family"])
        spec = rebuild(GeneratorSpec, {**{key: config[key] for key in SPEC if key in config}, "name": name}, "spec")
        check_sizes({**spec.to_json(), "architecture": config["architecture"]}, MAX_ARCHITECTURE, "config")
        _check_spec(spec)
        teacher, recipe = config.get("teacher"), config.get("recipe")
        return Checkpoint(
            spec=spec,
            config=rebuild(kind.config_type, config["architecture"], "architecture"),
            recipe=rebuild(Recipe, recipe, "recipe") if recipe else None,
            dataset=str(config.get("dataset", "")),
            licence=str(config.get("licence", "")),
            paper=str(config.get("paper", "")),
            teacher=str(teacher["name"]) if teacher else None,
            description=str(config.get("description", "")),
        )
    except (GenzooError, KeyError, TypeError, ValueError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise shelf.StoreError(f"{name}: its config.json cannot be used, {what}") from error


def _check_spec(spec: GeneratorSpec) -> None:
    """Raises PlainError for what no generator takes or gives."""
    for shape in (spec.latent_shape, spec.image_shape):
        if not shape or min(shape) < 1 or math.prod(shape) > MAX_VALUES:
            raise PlainError(f"the shape {shape} is outside 1 to {MAX_VALUES} values")
    if not 0 <= spec.num_classes <= MAX_ARCHITECTURE:
        raise PlainError(f"{spec.num_classes} classes are outside 0 to {MAX_ARCHITECTURE}")
    try:
        if spec.sampling:
            for sampler in spec.sampling.samplers:
                table(spec, Setting(sampler=sampler))
            table(spec, Setting())
    except (LookupError, ValueError) as error:
        raise PlainError(f"its sampling is unknown here ({error}); a newer genzoo may know it") from error


def load_module(checkpoint: Checkpoint) -> Any:
    """The network of a checkpoint with its weights, in evaluation mode. Raises StoreError."""
    import torch

    state = {key: torch.from_numpy(value) for key, value in shelf.load_tensors(checkpoint.name).items()}
    build = family(checkpoint.spec.family).build
    _check_shapes(checkpoint, build, {key: tuple(value.shape) for key, value in state.items()})
    module = build(checkpoint.config)
    module.load_state_dict(state, strict=True)
    return module.eval().requires_grad_(False)


def _check_shapes(checkpoint: Checkpoint, build: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises StoreError where the architecture is not the weights', before memory is taken for what it claims."""
    import torch

    try:
        with torch.device("meta"):
            wanted = {key: tuple(value.shape) for key, value in build(checkpoint.config).state_dict().items()}
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise shelf.StoreError(f"{checkpoint.name}: its architecture cannot be built ({error})") from error
    differing = sorted(key for key in {*wanted, *shapes} if wanted.get(key) != shapes.get(key))
    if differing:
        key = differing[0]
        raise shelf.StoreError(
            f"{checkpoint.name}: its config.json describes {key} as {wanted.get(key, 'not there')}, its weights hold "
            f"{shapes.get(key, 'none')} ({len(differing)} such tensors); config and weights are not of one checkpoint"
        )
