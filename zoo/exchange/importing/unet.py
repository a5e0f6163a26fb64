"""A UNet2DModel and its scheduler's config -> a checkpoint of the family `diffusers_unet`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from zoo.contract.layout import CONFIG
from zoo.exchange.importing import scheduler, weights
from zoo.exchange.importing.draft import UNKNOWN, Draft, ImportingError
from zoo.exchange.importing.safetensors_file import of_checkpoint
from zoo.family import Checkpoint, class_conditional
from zoo.untrusted import read_json

NETWORK = "UNet2DModel"
PIPELINES = ("DDPMPipeline", "DDIMPipeline", NETWORK)
MAX_SIZE = 2048
IMAGE_CHANNELS = (1, 3)
# diffusers' own names before 0.18, as its `_convert_deprecated_attention_blocks` reads them
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def fits(kind: str, parts: Mapping[str, str]) -> bool:
    """Whether a pipeline of these components, by their classes, is one network that the contract can ask."""
    return kind in PIPELINES and parts.get("unet") == NETWORK and set(parts) <= {"unet", "scheduler"}


def draft(folder: Path, scheduler_config: Path, tensors: weights.Tensors, scratch: Path) -> Draft:
    """Raises ImportingError for a network that the contract cannot ask, or whose weights are another's."""
    from zoo import registry

    label = str(folder / CONFIG)
    network = _network(read_json(folder / CONFIG), label)
    sampling, prediction, clip = scheduler.sampling(read_json(scheduler_config), str(scheduler_config))
    height, width = _size(network, label)
    channels = network.get("in_channels", 3)
    if channels != network.get("out_channels", 3) or channels not in IMAGE_CHANNELS:
        raise ImportingError(
            f"{label} maps {channels} channels to {network.get('out_channels')}, expected 1 or 3 to as many"
        )
    classes = network.get("num_class_embeds") or 0
    family = registry.family("diffusers_unet")
    try:
        config = family.config_type(network, prediction, clip)
        expected = weights.wanted(partial(family.build, config))
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
        raise ImportingError(f"{label}: this network cannot be built: {str(error).splitlines()[0][:200]}") from error
    tensors = weights.renamed(tensors, _current_name)
    if fault := weights.difference(tensors, expected):
        raise ImportingError(f"the weights beside {label} are not its network's: it {fault}")
    shape = (channels, height, width)
    spec = class_conditional("", "diffusers_unet", shape, (height, width, channels), classes, sampling)
    known = Checkpoint(spec, config, dataset=UNKNOWN, licence=UNKNOWN)
    return of_checkpoint(known, tensors, scratch, NETWORK)


def _network(config: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The arguments of the network."""
    if config.get("_class_name") != NETWORK:
        raise ImportingError(f"{label} is of class {str(config.get('_class_name'))[:60]!r}, expected {NETWORK}")
    if config.get("class_embed_type") is not None:
        raise ImportingError(f"{label} has class_embed_type {config['class_embed_type']!r}, expected none")
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _size(network: Mapping[str, Any], label: str) -> tuple[int, int]:
    size = network.get("sample_size")
    sizes: list[Any] = size if isinstance(size, list) else [size, size]
    if len(sizes) != 2 or not all(type(side) is int and 1 <= side <= MAX_SIZE for side in sizes):
        raise ImportingError(f"{label} has sample_size {str(size)[:40]}, expected a side or two from 1 to {MAX_SIZE}")
    return sizes[0], sizes[1]


def _current_name(name: str) -> str:
    return re.sub(
        r"(\.attentions\.\d+\.)(query|key|value|proj_attn)\.",
        lambda found: f"{found[1]}{_OLD_NAMES[found[2]]}.",
        name,
    )
