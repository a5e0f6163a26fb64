"""Low-rank adapters of a pipeline that is imported: fused into its weights, or beside them, with a scale an image.

Hu et al. 2021 (LoRA): W + scale * alpha / rank * up down. One that is fused is in the weights, which are written anew,
so that the pipeline's own files stay as they are and an import without it gives them back. One with a name is a
condition of the generator, see `zoo.networks.low_rank`. Every tensor of a file is used, or the file is refused: half an
adapter is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo.contract.conditions import Condition, scalar
from zoo.exchange.importing import weights
from zoo.exchange.importing.draft import Component, ImportingError
from zoo.exchange.importing.pipelines.adapter_names import DENOISERS, PEFT, heard, spoken
from zoo.files import sha256
from zoo.untrusted import check_safetensors_told, parse_json, plain_file, read_json, refuse_pickle

# The last words of a tensor's name -> its part of the product.
PARTS = {
    ".lora_A.weight": "down", ".lora_B.weight": "up",
    ".lora.down.weight": "down", ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down", ".lora_linear_layer.up.weight": "up",
    ".lora_down.weight": "down", ".lora_up.weight": "up",
    "_lora.down.weight": "down", "_lora.up.weight": "up",
    ".alpha": "alpha",
}  # fmt: skip
# Words in the names of what is no such product, and what it is.
OTHERS = {
    "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA", "hada_": "LoHa", "lokr_": "LoKr", "oft_": "OFT",
    "lora_mid": "LoCon with a core between", "lora_embedding_": "an embedding", ".diff": "a difference in full",
    ".lora_B.bias": "a bias",
}  # fmt: skip
TOLD = "lora_adapter_metadata"  # in a file's header: what peft was configured with, as diffusers writes it
CONFIG = "adapter_config.json"  # the same beside a file, as peft writes it
MAX_RANK = 1024
FUSED, ASKED = 100.0, 10.0  # the largest scale at import, and of a request
NUMBERS = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}
NAMED = re.compile(r"(?:(?P<name>[a-z][a-z0-9_]*)=)?(?P<path>.+?)(?::(?P<scale>[-+]?[0-9.]+(?:e[-+]?[0-9]+)?))?")


@dataclass(frozen=True)
class Adapter:
    """A file, and how strongly it is taken; with a `name`, where nobody asks for another scale."""

    path: Path
    scale: float = 1.0
    name: str | None = None

    def record(self) -> dict[str, Any]:
        """As a checkpoint's config.json tells it."""
        found = {"file": self.path.name, "sha256": sha256(self.path), "scale": self.scale}
        return found | ({"condition": self.name} if self.name else {})

    def component(self) -> Component:
        kind = f"LoRA {self.name}" if self.name else f"LoRA at {self.scale:g}"
        return Component(self.path.name, kind, self.path.stat().st_size, sha256(self.path))


@dataclass(frozen=True)
class Product:
    """What a weight is given: times * up[first:last] down."""

    down: weights.Stored
    up: weights.Stored
    times: float
    first: int
    last: int

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """(down, up), float64: as they are in the file, and with all that it is multiplied by."""
        return _values(self.down), self.times * _values(self.up)[self.first : self.last]

    def value(self, shape: tuple[int, ...]) -> np.ndarray:
        """float64 of a weight's shape."""
        down, up = self.factors()
        found: np.ndarray = (up.reshape(shape[0], self.rank) @ down.reshape(self.rank, -1)).reshape(shape)
        return found


@dataclass(frozen=True)
class Adapted:
    """What a pipeline becomes by its adapters. `ranks` are those of the named, by their layers."""

    tensors: weights.Tensors
    ranks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    notes: tuple[str, ...] = ()

    def beside(self, condition: Condition) -> Condition:
        """A condition whose encoder takes the scales of those adapters that are in it."""
        names = tuple(name for name, ranks in self.ranks.items() if any(map(_is_of_a_text, ranks)))
        reads = condition.kind in ("text", "texts")
        return replace(condition, beside=names) if condition.encoded and reads and names else condition


def asked(text: str, folder: Path | None = None) -> Adapter:
    """An adapter as a person names it, [NAME=]FILE[:SCALE], the file as it is or in the folder.

    Raises ImportingError.
    """
    found = NAMED.fullmatch(text)
    if found is None:
        raise ImportingError(f"{text[:80]!r} names no adapter: expected [NAME=]FILE[:SCALE]")
    path, name = Path(found["path"]).absolute(), found["name"]
    if folder and not path.exists() and (folder / found["path"]).exists():
        path = folder / found["path"]
    try:
        scale = float(found["scale"] or 1.0)
    except ValueError:
        raise ImportingError(f"the scale of {path} is {found['scale'][:40]!r}, which is no number") from None
    limit = ASKED if name else FUSED
    if not -limit <= scale <= limit:
        raise ImportingError(f"the scale of {path} is {scale:g}, expected a number from {-limit:g} to {limit:g}")
    return Adapter(path, scale, name)


def adapted(tensors: weights.Tensors, adapters: Sequence[Adapter], scratch: Path) -> Adapted:
    """The tensors of a pipeline with adapters in and beside them. Raises ImportingError, UntrustedError."""
    read = [(each, _read(each.path, tensors)) for each in adapters]
    named = {each.name: products for each, products in read if each.name}
    if len(named) < sum(1 for each in adapters if each.name):
        raise ImportingError("two adapters have one name: give each a name of its own")
    found = _fused(tensors, [(each.scale, products) for each, products in read if not each.name], scratch)
    return Adapted(
        found | _beside(named, scratch),
        {name: {layer: each.rank for layer, each in sorted(products.items())} for name, products in named.items()},
        tuple(
            Condition(each.name, "scalar", scalar.Options(-ASKED, ASKED), default=each.scale)
            for each in adapters
            if each.name
        ),
        tuple(_note(each, len(products)) for each, products in read),
    )


def _note(adapter: Adapter, count: int) -> str:
    if adapter.name is None:
        return f"{adapter.path.name} is fused at {adapter.scale:g} into {count} weights"
    asked_for = f"images ask for it by {adapter.name}, at {adapter.scale:g} where they do not"
    return f"{adapter.path.name} is beside {count} weights: {asked_for}"


def _fused(
    tensors: weights.Tensors, adapters: Sequence[tuple[float, Mapping[str, Product]]], scratch: Path
) -> weights.Tensors:
    changed = {f"{layer}.weight" for _, products in adapters for layer in products}

    def value(name: str) -> np.ndarray:
        total, layer = _values(tensors[name]), name.removesuffix(".weight")
        for scale, products in adapters:
            if layer in products:
                total = total + scale * products[layer].value(total.shape)
        return total

    shapes = {name: tensors[name].shape for name in sorted(changed)}
    return tensors | (weights.computed(shapes, value, scratch / "fused.safetensors") if shapes else {})


def _beside(named: Mapping[str, Mapping[str, Product]], scratch: Path) -> weights.Tensors:
    """The tensors of named adapters, under the names that `zoo.networks.low_rank` gives them."""
    from zoo.networks.low_rank import weight_names

    places = {
        place: (product, part)
        for name, products in named.items()
        for layer, product in products.items()
        for part, place in enumerate(weight_names(layer, name))
    }

    def value(place: str) -> np.ndarray:
        product, part = places[place]
        return product.factors()[part]

    shapes = {
        place: product.down.shape if part == 0 else (product.last - product.first, *product.up.shape[1:])
        for place, (product, part) in places.items()
    }
    return weights.computed(shapes, value, scratch / "beside.safetensors") if shapes else {}


def _read(path: Path, tensors: weights.Tensors) -> dict[str, Product]:
    """The product that each layer is given. Raises ImportingError, UntrustedError."""
    refuse_pickle(path)
    infos, metadata = check_safetensors_told(path)
    known = spoken([name.removesuffix(".weight") for name, stored in tensors.items() if _may_have(name, stored)])
    parts: dict[str, dict[str, weights.Stored]] = {}
    unknown = []
    for name, info in infos.items():
        ending = next((each for each in PARTS if name.endswith(each)), None)
        if ending and (layer := heard(name.removesuffix(ending))) in known:
            parts.setdefault(layer, {})[PARTS[ending]] = weights.Stored(path, info)
        else:
            unknown.append(name)
    if unknown or not parts:
        raise ImportingError(_refusal(path, unknown, len(infos)))
    configured = _Configured.read(path, metadata, parts)
    found: dict[str, Product] = {}
    for spoken_of, part in parts.items():
        for layer, product in _products(path, spoken_of, part, known[spoken_of], tensors, configured):
            if layer in found:
                raise ImportingError(f"{path} has two products for {layer}, expected one")
            found[layer] = product
    return found


def _may_have(name: str, stored: weights.Stored) -> bool:
    component = name.partition(".")[0]
    is_part = component in DENOISERS or _is_of_a_text(name)
    return is_part and name.endswith(".weight") and len(stored.shape) in (2, 4)


def _is_of_a_text(name: str) -> bool:
    return name.startswith("text_encoder")


def _refusal(path: Path, unknown: Sequence[str], count: int) -> str:
    if not unknown:
        return f"{path} has no tensor, expected those of an adapter"
    taken = "LoRA and LoCon as diffusers, peft and kohya's scripts name them are taken"
    for word, what in OTHERS.items():
        if other := next((name for name in unknown if word in name), None):
            return f"{path} has {other[:120]}, which is {what}: {taken}"
    if len(unknown) == count:
        return f"{path} is of another architecture: this pipeline has no layer for {unknown[0][:120]}; {taken}"
    more = f" and {len(unknown) - 1} more of {count}" if len(unknown) > 1 else ""
    return f"{path} has {unknown[0][:120]}{more}, for which this pipeline has no layer; {taken}"


@dataclass(frozen=True)
class _Configured:
    """What peft was configured with, by component; "" is of a network that was trained alone."""

    of: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path, metadata: Mapping[str, str], layers: Mapping[str, Any]) -> _Configured:
        found: dict[str, dict[str, Any]] = {}
        if TOLD in metadata:
            for key, value in parse_json(metadata[TOLD].encode(), f"{path}: {TOLD}").items():
                component, _, name = key.partition(".")
                found.setdefault(component, {})[name] = value
        beside = path.with_name(CONFIG)
        if beside.is_file() and any(layer.startswith(PEFT) for layer in layers):
            found[""] = read_json(beside)
        for config in found.values():
            for key in ("use_dora", "lora_bias", "fan_in_fan_out"):
                if config.get(key):
                    raise ImportingError(f"{path} was trained with {key}, which is not done here")
        return cls(found)

    def times(self, spoken_of: str, layer: str, rank: int, path: Path) -> float:
        """alpha / rank of a layer; 1 where nobody says otherwise."""
        component, _, inner = layer.partition(".")
        config = self.of.get("" if spoken_of.startswith(PEFT) else component, {})
        patterns = config.get("alpha_pattern") or {}
        own = next((key for key in patterns if re.fullmatch(rf"(.*\.)?({re.escape(key)})", inner)), None)
        alpha = patterns[own] if own is not None else config.get("lora_alpha", rank)
        if type(alpha) not in (int, float) or not math.isfinite(alpha):
            raise ImportingError(f"{path} has the alpha {str(alpha)[:40]} for {layer}, expected a number")
        return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _products(
    path: Path,
    spoken_of: str,
    part: Mapping[str, weights.Stored],
    layers: Sequence[str],
    tensors: weights.Tensors,
    configured: _Configured,
) -> Iterator[tuple[str, Product]]:
    """Those of the layers that a file has as one: their rows lie one after another. Raises ImportingError."""
    if not {"down", "up"} <= set(part):
        raise ImportingError(f"{path} has {' and '.join(sorted(part))} alone of {spoken_of}, expected down and up")
    down, up, shapes = part["down"], part["up"], [tensors[f"{layer}.weight"].shape for layer in layers]
    rank, rows = (down.shape or (0,))[0], sum(shape[0] for shape in shapes)
    fits = all(down.shape[1:] == shape[1:] for shape in shapes) and up.shape == (
        rows,
        rank,
        *[1] * (len(shapes[0]) - 2),
    )
    if not fits or not 1 <= rank <= MAX_RANK:
        raise ImportingError(
            f"{path} has {list(up.shape)} and {list(down.shape)} for {layers[0]}, which is {list(shapes[0])}: it is of "
            "another network"
        )
    first = 0
    for layer, shape in zip(layers, shapes, strict=True):
        if "alpha" in part:
            times = _alpha(path, spoken_of, part["alpha"]) / rank
        else:
            times = configured.times(spoken_of, layer, rank, path)
        yield layer, Product(down, up, times, first, first + shape[0])
        first += shape[0]


def _alpha(path: Path, layer: str, stored: weights.Stored) -> float:
    values = _values(stored).reshape(-1)
    if values.size != 1 or not np.isfinite(values[0]):
        raise ImportingError(f"{path} has {values.size} numbers for the alpha of {layer}, expected one")
    return float(values[0])


def _values(stored: weights.Stored) -> np.ndarray:
    """The numbers of a tensor, float64."""
    if (kind := NUMBERS.get(stored.info.dtype)) is None:
        raise ImportingError(f"{stored.path} has a tensor of {stored.info.dtype}, expected one of {', '.join(NUMBERS)}")
    with plain_file(stored.path) as (stream, _):
        stream.seek(stored.info.start)
        found = np.frombuffer(stream.read(stored.info.bytes), kind)
    if stored.info.dtype == "BF16":
        found = (found.astype("<u4") << 16).view("<f4")
    return found.reshape(stored.shape).astype(np.float64)
