"""The zoo's families by name, and their checkpoints. A look-up imports one file; nothing registers itself.

What a checkpoint is (`entry`, `names`) is read without torch, from its config.json or the index; `checkpoint` and
`checkpoints` import families, and so torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from zoo import index, shelf
from zoo.contract.errors import nearest
from zoo.contract.spec import SPEC_FIELDS, GeneratorSpec
from zoo.errors import GenzooError
from zoo.family import Checkpoint, Entry, Family, Recipe, System
from zoo.plain import check_sizes, rebuild

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
    "text_to_image",
    "transformer_flow",
    "vae",
    "vqvae",
    "diffusers_pipeline",
    "first_stage",
    "maskgit",
    "tuned_text_to_image",
    "translation",
    "biflow",
    "guided_mean_flow",
    "style_gan",
    "captioned_gan",
    "latent_flow",
)
DEMO = ("gan", "vae", "glow", "ddpm", "ddpm-pd4", "t2i-lcm", "pix2pix")  # of every branch, and of words, what is quick
MAX_ARCHITECTURE = 1 << 16  # of any number in an architecture from outside


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
    """The checkpoint of that name, with its network's config: imports the one family that it is of, and so torch.

    Raises UnknownNameError, StoreError.
    """
    if shelf.pulled(name):
        return described(name, shelf.config(name))
    of = _known(name).get("family")
    table = family(of).checkpoints if of in FAMILIES else _all_tables()
    found = next((each for each in table if each.name == name), None)
    if found is None:
        raise _unknown(name)
    return found


def _all_tables() -> Iterable[Checkpoint]:
    """All tables, for an entry that was never trained; none on a host that cannot train."""
    try:
        return tuple(checkpoints())
    except ModuleNotFoundError:
        return ()


def entry(name: str) -> Entry:
    """What is known of a checkpoint, without torch: of the weights that are here, else of the release's.

    Raises UnknownNameError, UnsupportedError, StoreError.
    """
    return Entry(**_facts(name, record(name)))


def record(name: str) -> Mapping[str, Any]:
    """The same as plain JSON values: its config.json, and what only its table says.

    Raises UnknownNameError, StoreError.
    """
    if not (found := _known(name)):
        raise _unknown(name)
    return {**found, "name": name}


def _unknown(name: str) -> UnknownNameError:
    return UnknownNameError(f"unknown checkpoint {name!r}: {nearest(name, set(names()))}")


def names() -> list[str]:
    """Every checkpoint that is here or in the release, by name; without torch."""
    return list(dict.fromkeys([*index.records(), *stored(), *shelf.folders()]))


def first_of_each_family(names: Iterable[str]) -> list[str]:
    """Of these names, in their order."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(entry(name).spec.family, name)
    return list(first.values())


def _known(name: str) -> Mapping[str, Any]:
    """The plain data of a checkpoint; empty where nothing is known of such a name."""
    return {**_told(name), **shelf.config(name)} if shelf.is_here(name) else index.records().get(name, {})


def _told(name: str) -> Mapping[str, Any]:
    """What a table says of a checkpoint and its config.json does not."""
    known = index.records().get(name, {})
    return {key: known[key] for key in ("description", "faults", "systems") if key in known}


def stored() -> Iterator[str]:
    """The names of the checkpoints that were pulled or imported."""
    for ref in shelf.blob_store().refs():
        if shelf.CHECKPOINT_NAME.fullmatch(ref.name) and shelf.pulled(ref.name):
            yield ref.name


def described(name: str, config: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint that a `config.json` describes, under the name that it has here. Raises StoreError."""
    facts = _facts(name, {**_told(name), **config})
    try:
        kind, recipe = family(facts["spec"].family), config.get("recipe")
        return Checkpoint(
            config=rebuild(kind.config_type, config["architecture"], "architecture"),
            recipe=rebuild(Recipe, recipe, "recipe") if recipe else None,
            **facts,
        )
    except (GenzooError, KeyError, TypeError, ValueError) as error:
        raise _unusable(name, error) from error


def _facts(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an Entry, under the name that it has here, checked: they may come from outside.

    Raises StoreError, UnsupportedError.
    """
    if config.get("unsupported"):  # an import that is kept, not sampled: zoo.exchange.importing
        raise UnsupportedError(f"{name} is in the store, but {config['unsupported']}")
    try:
        spec = GeneratorSpec.from_json({**{key: config[key] for key in SPEC_FIELDS if key in config}, "name": name})
        check_sizes(config["architecture"], MAX_ARCHITECTURE, "config.architecture")
        teacher, base = config.get("teacher"), config.get("base")
        return {
            "spec": spec,
            "teacher": str(teacher["name"]) if teacher else None,
            "base": str(base["name"]) if base else None,
            "faults": tuple(map(str, config.get("faults", ()))),
            "systems": tuple(rebuild(System, each, "system") for each in config.get("systems", ())),
            **{key: str(config.get(key, "")) for key in ("dataset", "licence", "paper", "description")},
        }
    except (GenzooError, KeyError, TypeError, ValueError) as error:
        raise _unusable(name, error) from error


def _unusable(name: str, error: Exception) -> shelf.StoreError:
    what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
    return shelf.StoreError(f"{name}: its config.json cannot be used, {what}")


def load_module(checkpoint: Checkpoint) -> Any:
    """The network of a checkpoint with its weights, in evaluation mode. Raises StoreError."""
    import torch

    stored = shelf.tensors(checkpoint.name)
    build = family(checkpoint.spec.family).build
    _check_shapes(checkpoint, build, stored.shapes)
    module = build(checkpoint.config)
    for name, fresh in module.state_dict().items():
        fresh.copy_(torch.from_numpy(stored.read(name)))
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
