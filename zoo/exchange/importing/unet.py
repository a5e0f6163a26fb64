"""A UNet2DModel and its scheduler's config -> a checkpoint of the family `diffusers_unet`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from zoo.contract import steps
from zoo.contract.layout import CONFIG, WEIGHTS
from zoo.exchange.importing import scheduler, weights
from zoo.exchange.importing.draft import UNKNOWN, Draft, ImportingError
from zoo.family import Checkpoint, class_conditional
from zoo.untrusted import read_json

NETWORK = "UNet2DModel"
PIPELINES = ("DDPMPipeline", "DDIMPipeline", NETWORK)
MAX_SIZE = 2048
IMAGE_CHANNELS = (1, 3)
# What diffusers' `EMAModel` writes into the config of averaged weights (`unet_ema`): of training, not of the network.
OF_TRAINING = (
    *("decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup"),
)
MAX_RUN = 64 << 20  # parameters, times the images of 64x64 pixels in one, up to which a network is run at import
SEEDS = (0, 1)
# diffusers' own names before 0.18, as its `_convert_deprecated_attention_blocks` reads them
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_FAULTS = (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError)


def fits(kind: str, parts: Mapping[str, str]) -> bool:
    """Whether a pipeline of these components, by their classes, is one network that the contract can ask."""
    return kind in PIPELINES and parts.get("unet") == NETWORK and set(parts) <= {"unet", "scheduler"}


def draft(
    folder: Path, scheduler_config: Path, tensors: weights.Tensors, scratch: Path, choice: scheduler.Choice
) -> Draft:
    """Raises ImportingError for a network that the contract cannot ask, or whose weights are another's."""
    from safetensors.numpy import save

    from zoo import registry
    from zoo.exchange.importing import comparison

    label = str(folder / CONFIG)
    network, notes = _network(read_json(folder / CONFIG), label)
    config = read_json(scheduler_config, infinite=True)
    sampling, prediction, clip = scheduler.sampling(config, str(scheduler_config), choice)
    channels, height, width = _shape(network, label)
    family = registry.family("diffusers_unet")
    try:
        architecture = family.config_type(network, prediction, clip)
        expected = weights.wanted(partial(family.build, architecture))
    except _FAULTS as error:
        raise ImportingError(f"{label}: this network cannot be built: {_line(error)}") from error
    tensors = weights.renamed(tensors, _current_name)
    if fault := weights.difference(tensors, expected):
        raise ImportingError(f"the weights beside {label} are not its network's: it {fault}")
    shapes = (channels, height, width), (height, width, channels)
    spec = class_conditional("", "diffusers_unet", *shapes, network.get("num_class_embeds") or 0, sampling)
    known = Checkpoint(spec, architecture, dataset=UNKNOWN, licence=UNKNOWN)
    _check_shapes(known, label)
    notes += scheduler.differences(config, sampling, clip)
    notes += (comparison.told(config, known),)
    made = weights.of_checkpoint(known, tensors, scratch, NETWORK, notes)
    module = None
    if made.record["parameters"] * max(1.0, height * width / 4096) <= MAX_RUN:
        module = _module(known, made.files[WEIGHTS])
        _check_numbers(known, module, label)
    record = save(comparison.recorded(config, known, module))
    return made.with_assets({steps.FILE: record}, scratch)


def _network(config: Mapping[str, Any], label: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arguments of the network, and what was left out of them."""
    if config.get("_class_name") != NETWORK:
        raise ImportingError(f"{label} is of class {str(config.get('_class_name'))[:60]!r}, expected {NETWORK}")
    if config.get("class_embed_type") is not None:
        raise ImportingError(f"{label} has class_embed_type {config['class_embed_type']!r}, expected none")
    training = [key for key in OF_TRAINING if key in config]
    notes = (f"its config describes training too, which was left out: {', '.join(training)}",) if training else ()
    return {key: value for key, value in config.items() if not key.startswith("_") and key not in training}, notes


def _shape(network: Mapping[str, Any], label: str) -> tuple[int, int, int]:
    size, channels = network.get("sample_size"), network.get("in_channels", 3)
    sizes: list[Any] = size if isinstance(size, list) else [size, size]
    if len(sizes) != 2 or not all(type(side) is int and 1 <= side <= MAX_SIZE for side in sizes):
        raise ImportingError(f"{label} has sample_size {str(size)[:40]}, expected a side or two from 1 to {MAX_SIZE}")
    if channels != network.get("out_channels", 3) or channels not in IMAGE_CHANNELS:
        raise ImportingError(
            f"{label} maps {channels} channels to {network.get('out_channels')}, expected 1 or 3 to as many"
        )
    return channels, sizes[0], sizes[1]


def _check_shapes(known: Checkpoint, label: str) -> None:
    """Run the denoiser without memory. Raises ImportingError where it gives no image of its input's shape."""
    import torch

    from zoo import registry

    family = registry.family(known.spec.family)
    channels, height, width = known.spec.latent_shape
    with torch.device("meta"):
        module = family.build(known.config).eval()
    (graph,) = family.graphs(module, known)
    given = [torch.from_numpy(tensor.zeros({"batch": 2})).to("meta") for tensor in graph.inputs]
    try:
        with torch.inference_mode():
            found = tuple(graph.module.to("meta")(*given).shape)
    except _FAULTS as error:
        levels = len(known.config.network.get("block_out_channels") or "1234")
        raise ImportingError(
            f"{label}: its network makes no images of {height}x{width} pixels ({_line(error)}): its {levels} levels "
            f"halve a side up to {levels - 1} times, so sides are expected to be multiples of {2 ** (levels - 1)}"
        ) from error
    if found != (2, channels, height, width):
        raise ImportingError(f"{label}: its network gives {list(found)} for {[2, channels, height, width]}")


def _module(known: Checkpoint, file: Path) -> Any:
    """The network with its weights."""
    import torch
    from safetensors.numpy import load_file

    from zoo import registry

    tensors = {name: torch.from_numpy(value) for name, value in load_file(file).items()}
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    module = registry.family(known.spec.family).build(known.config)
    module.load_state_dict(tensors, strict=True)
    return module.eval()


def _check_numbers(known: Checkpoint, module: Any, label: str) -> None:
    """Run a small denoiser at both ends of its timesteps. Raises ImportingError where it gives what is no number."""
    import torch

    from zoo import registry
    from zoo.sampling import noise

    family, sampling = registry.family(known.spec.family), known.spec.sampling
    assert sampling is not None
    assert sampling.timesteps is not None
    (graph,) = family.graphs(module, known)
    times = (0, sampling.timesteps.count - 1)
    given = {tensor.name: torch.from_numpy(tensor.zeros({"batch": 2})) for tensor in graph.inputs}
    given |= {"x": torch.from_numpy(noise.normal(SEEDS, known.spec.latent_shape))}
    given |= {"c_noise": torch.tensor(times, dtype=torch.float32)}
    with torch.inference_mode():
        finite = graph.module(*given.values()).isfinite().flatten(1).all(1)
    for time in (time for time, fine in zip(times, finite, strict=True) if not fine):
        raise ImportingError(f"{label}: its network gives what is no number at timestep {time}")


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _current_name(name: str) -> str:
    return re.sub(
        r"(\.attentions\.\d+\.)(query|key|value|proj_attn)\.",
        lambda found: f"{found[1]}{_OLD_NAMES[found[2]]}.",
        name,
    )
