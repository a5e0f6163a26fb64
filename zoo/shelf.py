"""Checkpoints on disk: a folder each, laid out as a Hugging Face model repository, every weight checked by digest.

    zoo/checkpoints/<name>/
        model.safetensors   the weights, float16
        config.json         what they are: family, architecture, sha256, training record, measured quality
        README.md           the card
        tokenizer.json ...  what its conditions are read by, and examples of them, where there are any

The user's own tree, `$GENZOO_CHECKPOINTS` or `checkpoints` below `home()`, comes before all else and takes what is
trained. Then comes what was pulled or imported: a ref in the blob store, its artifact laid out as such a folder. The
tree beside the code comes last. Anything derived (bundles, engines, training states) lives below `home()`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zoo import index, untrusted
from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.layout import CONFIG, WEIGHTS, is_asset
from zoo.errors import StoreError as StoreError
from zoo.family import Checkpoint
from zoo.files import atomic, home, sha256, sync_folder, write_json
from zoo.index import TREE as TREE

if TYPE_CHECKING:
    from zoo.store.local.blobs import BlobStore, Ref

TREE_VARIABLE = "GENZOO_CHECKPOINTS"
ASIDE = ".before"  # in the user's own tree
NO_FILES: Mapping[str, bytes] = {}
NUMPY = {  # safetensors' types
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8",
    "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
CHECKPOINT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,95}")


def blob_store() -> BlobStore:
    """What was pulled, pushed or imported on this host."""
    from zoo.store.local.blobs import BlobStore

    return BlobStore(home())


def pulled(name: str) -> Ref | None:
    """The ref of a checkpoint that was pulled or imported and is what `directory` finds; None for any other."""
    if not CHECKPOINT_NAME.fullmatch(name) or (own_tree() / name / CONFIG).is_file():
        return None
    return blob_store().ref(name)


def directory(name: str) -> Path:
    """Where a checkpoint lies: in the user's own tree, in the blob store, or beside the code. Raises StoreError."""
    if ref := pulled(name):
        blobs = blob_store()
        blobs.has(ref.manifest)  # counts as using it: what is used daily is not collected
        view = blobs.root / "views" / ref.manifest  # whole, if it is there
        return view if (view / CONFIG).is_file() else blobs.view(blobs.manifest(ref))
    own = own_tree() / name
    return own if (own / CONFIG).is_file() else TREE / name


def own_tree() -> Path:
    """The folder of the checkpoints that were trained here: $GENZOO_CHECKPOINTS, or one below `home()`."""
    return Path(os.environ.get(TREE_VARIABLE) or home() / "checkpoints")


def is_here(name: str) -> bool:
    """Whether a checkpoint's folder is on this host."""
    return CHECKPOINT_NAME.fullmatch(name) is not None and (directory(name) / CONFIG).is_file()


def folders() -> list[str]:
    """The names of the checkpoints that lie in the user's own tree or beside the code."""
    return sorted({path.parent.name for tree in (TREE, own_tree()) for path in tree.glob("*/config.json")})


def config(name: str) -> dict[str, Any]:
    """The `config.json` of a checkpoint. Raises StoreError."""
    path = directory(name) / CONFIG
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{name}: {path} could not be read ({error}); {_remedy(name)}") from error
    if fault := _fault(found):
        raise StoreError(f"{name}: {path} {fault}; {_remedy(name)}")
    return found


def _fault(config: Any) -> str | None:
    """Why a `config.json`, which may come from outside, is not what its readers rely on, as a clause."""
    if not isinstance(config, dict):
        return "is no object"
    if not isinstance(config.get("training") or {}, dict):
        return "has a training that is no object"
    files = config.get("assets", {})
    if not isinstance(files, dict) or not all(is_asset(key) and isinstance(files[key], str) for key in files):
        return "has assets that are no files beside it with their sha256"
    base = config.get("base")
    if base and not (
        isinstance(base, dict)
        and CHECKPOINT_NAME.fullmatch(str(base.get("name")))
        and isinstance(base.get("sha256"), str)
    ):
        return "has a base that does not tell the name and the sha256 of its weights"
    weights = config.get("weights")
    whole = isinstance(weights, dict) and isinstance(weights.get("sha256"), str) and _is_size(weights.get("bytes"))
    return None if whole or config.get("unsupported") else "does not tell the sha256 and the bytes of its weights"


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _remedy(name: str) -> str:
    """What brings a checkpoint's files back."""
    if pulled(name):
        return f"`genzoo verify` drops what is damaged, and `genzoo pull {name}` fetches it again"
    if name not in index.records():
        return f"`genzoo train {name}` makes it"
    if (TREE / name).is_dir():
        return f"restore it from the repository or `genzoo train {name}` makes it"
    return f"it is in the release, not here: `genzoo pull {name}` fetches it, --from or $GENZOO_REMOTE say where"


def verified_weights(name: str) -> Path:
    """The weights file of a checkpoint, once its bytes match the recorded digest. Raises StoreError."""
    expected = config(name)["weights"]
    path = directory(name) / WEIGHTS
    if not path.is_file() or path.is_symlink():
        raise StoreError(f"{name}: {path} is missing or not a plain file; {_remedy(name)}")
    if path.stat().st_size != expected["bytes"]:
        raise StoreError(
            f"{name}: {path} has {path.stat().st_size} bytes, expected {expected['bytes']}; it is truncated or "
            f"altered, {_remedy(name)}"
        )
    digest = sha256(path)
    if digest != expected["sha256"]:
        raise StoreError(
            f"{name}: {path} has sha256 {digest[:12]}, expected {expected['sha256'][:12]}; it was altered, "
            f"{_remedy(name)}"
        )
    return path


def assets(name: str) -> Assets:
    """The small files beside a checkpoint's weights, once their bytes match the recorded digests. Raises StoreError."""
    recorded = config(name).get("assets") if is_here(name) else None
    if not recorded:
        return NO_ASSETS
    folder = directory(name)
    for file, expected in recorded.items():
        path = folder / file
        if not path.is_file() or path.is_symlink():
            raise StoreError(f"{name}: {path} is missing or not a plain file; {_remedy(name)}")
        if (digest := sha256(path)) != expected:
            raise StoreError(
                f"{name}: {path} has sha256 {digest[:12]}, expected {expected[:12]}; it was altered, {_remedy(name)}"
            )
    return Assets(folder)


def load_tensors(name: str) -> dict[str, np.ndarray]:
    """Verified weights as float32 arrays (integers stay as they are). Raises StoreError."""
    stored = tensors(name)
    return {key: stored.read(key) for key in stored.shapes}


def tensors(name: str) -> Weights:
    """Verified weights, of which none is read yet, with those of the base that they stand on. Raises StoreError."""
    found = config(name)
    own = Tensors(verified_weights(name))
    return Standing(own, _base(name, found["base"])) if found.get("base") else own


def _base(name: str, base: Mapping[str, str]) -> Tensors:
    """The weights that a checkpoint stands on, which are those that it was made on. Raises StoreError."""
    told, expected = base["name"], base["sha256"]
    if not is_here(told):
        raise StoreError(f"{name} stands on the weights of {told}, which are not here; {_remedy(told)}")
    found = config(told)
    if found.get("base") or (seen := found["weights"]["sha256"]) != expected:
        seen = "others' weights" if found.get("base") else seen[:12]
        raise StoreError(
            f"{name} stands on the weights {expected[:12]} of {told}, and here it has {seen}; {_remedy(told)}"
        )
    return Tensors(verified_weights(told))


class Weights(Protocol):
    """Tensors that are read one by one, by name: of large weights, no second copy is in memory."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of all that can be read."""
        ...

    def read(self, name: str) -> np.ndarray:
        """As float32, unless it is of integers. Raises StoreError."""
        ...


class Standing:
    """Tensors of a checkpoint before those of its base of the same name."""

    def __init__(self, own: Weights, base: Weights) -> None:
        self._own, self._base = own, base
        self.shapes: Mapping[str, tuple[int, ...]] = {**base.shapes, **own.shapes}

    def read(self, name: str) -> np.ndarray:
        return (self._own if name in self._own.shapes else self._base).read(name)


class Tensors:
    """The tensors of a file."""

    def __init__(self, path: Path) -> None:
        self.path, self._places = path, untrusted.check_safetensors(path)
        self.shapes: Mapping[str, tuple[int, ...]] = {name: place.shape for name, place in self._places.items()}

    def read(self, name: str) -> np.ndarray:
        """As float32, unless it is of integers. Raises StoreError."""
        place = self._places[name]
        if place.dtype not in NUMPY:
            raise StoreError(f"{self.path} has {name} as {place.dtype}, known are {', '.join(NUMPY)}")
        found = np.fromfile(self.path, NUMPY[place.dtype], place.size, offset=place.start).reshape(place.shape)
        return found.astype(np.float32, copy=False) if found.dtype.kind == "f" else found


def set_aside(name: str) -> Path | None:
    """Move what was trained before out of its place in the user's own tree: where it is kept; None for nothing."""
    folder = own_tree() / name
    if not (folder / CONFIG).is_file():
        return None
    kept = own_tree() / ASIDE / f"{name}-{sha256(folder / CONFIG)[:12]}"
    kept.parent.mkdir(exist_ok=True)
    if kept.exists():
        shutil.rmtree(folder)  # the same is kept already
    else:
        folder.rename(kept)
    return kept


def save(
    checkpoint: Checkpoint,
    state: Mapping[str, Any],
    training: Mapping[str, Any],
    *,
    assets: Mapping[str, bytes] = NO_FILES,
    publish: bool = False,
) -> Path:
    """Keep trained weights (name -> torch tensor), in float16, and assets: the folder's path, in the user's own tree.

    Of a checkpoint that stands on a base, what equals the base's is left out.
    `publish` writes them beside the code instead, over what is shipped. No file is seen before all are written. Raises
    StoreError for an asset that cannot be one.
    """
    from safetensors.torch import save_file

    folder = (TREE if publish else own_tree()) / checkpoint.name
    tensors = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in state.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as private:
        making = Path(private, folder.name)
        with atomic(making / WEIGHTS) as temporary:
            save_file(_differing(checkpoint, tensors), temporary, metadata={"format": "pt"})
        for name, content in assets.items():
            if not is_asset(name):
                raise StoreError(f"{checkpoint.name} cannot ship {name!r}: name it like tokenizer.json")
            (making / name).write_bytes(content)
        write_json(making / CONFIG, record(checkpoint, making / WEIGHTS, tensors, "float16", training, assets))
        if not folder.exists():
            making.rename(folder)
        else:  # beside a card, which stays
            before = _assets_of(folder)
            for name in (WEIGHTS, *assets, CONFIG):
                (making / name).replace(folder / name)
            for name in before - set(assets):
                (folder / name).unlink(missing_ok=True)
    sync_folder(folder.parent)
    return folder


def _differing(checkpoint: Checkpoint, state: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors that are not the base's, to the bit as they are kept. Raises StoreError."""
    if checkpoint.base is None:
        return dict(state)
    base = tensors(checkpoint.base)

    def same(name: str, tensor: Any) -> bool:
        shape = tuple(tensor.shape)
        return base.shapes.get(name) == shape and np.array_equal(tensor.numpy(), base.read(name))

    return {name: tensor for name, tensor in state.items() if not same(name, tensor)}


def _assets_of(folder: Path) -> set[str]:
    """The names that a folder's config records, as far as it can be read."""
    try:
        found = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError, RecursionError):
        return set()
    return set(found.get("assets", {})) if _fault(found) is None else set()


def record(
    checkpoint: Checkpoint,
    weights: Path,
    tensors: Mapping[str, Any],
    dtype: str,
    training: Mapping[str, Any],
    assets: Mapping[str, bytes] = NO_FILES,
) -> dict[str, Any]:
    """The `config.json` of a checkpoint; `tensors` have a `shape` each, `dtype` is the weights' on disk."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in assets.items()}
    return {
        **checkpoint.spec.to_json(),
        "architecture": dataclasses.asdict(checkpoint.config),
        "parameters": sum(math.prod(tensor.shape) for tensor in tensors.values()),
        "dataset": checkpoint.dataset,
        "licence": checkpoint.licence,
        "paper": checkpoint.paper,
        "teacher": checkpoint.teacher and {"name": checkpoint.teacher, "sha256": _digest(checkpoint.teacher)},
        **({"base": {"name": checkpoint.base, "sha256": _digest(checkpoint.base)}} if checkpoint.base else {}),
        "weights": {"sha256": sha256(weights), "bytes": weights.stat().st_size, "dtype": dtype},
        **({"assets": digests} if digests else {}),
        "recipe": dataclasses.asdict(checkpoint.recipe) if checkpoint.recipe else None,
        "training": dict(training),
    }


def _digest(name: str) -> str:
    return str(config(name)["weights"]["sha256"])
