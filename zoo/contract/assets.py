"""The small files beside a checkpoint's weights: the words that it knows, and examples of its conditions.

    tokenizer.json         as the library `tokenizers` writes it; a condition may name another
    examples.json          {condition: [value, ...]}, for texts, numbers and boxes
    examples.safetensors   the same for arrays: (examples, ...) by the name of the condition
    steps.safetensors      of an imported checkpoint: see `steps`

They may come from outside: sizes are bounded, and what is damaged is said in one sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from zoo import untrusted
from zoo.errors import GenzooError

EXAMPLES, EXAMPLE_ARRAYS = "examples.json", "examples.safetensors"
MAX_TOKENIZER_BYTES = 32 << 20
MAX_EXAMPLES_BYTES = 64 << 20
MAX_EXAMPLES = 4096
MAX_TOKENS = 1 << 20  # that a tokenizer knows
DTYPES = {"U8": np.uint8, "I32": np.int32, "I64": np.int64, "F32": np.float32}  # of arrays


class AssetError(GenzooError):
    """A file beside the weights that is missing or is not what it must be; the message says which one."""


@dataclass(frozen=True)
class Assets:
    """What lies in a folder, read when it is asked for; None is a checkpoint without any.

    Examples that are `given` are in the place of the folder's.
    """

    folder: Path | None = None
    given: Mapping[str, Sequence[Any]] | None = None

    @cached_property
    def examples(self) -> Mapping[str, Sequence[Any]]:
        """Values by the name of the condition; all of one length, so that an index is one whole example.

        Raises AssetError, UntrustedError.
        """
        if self.given is not None or self.folder is None:
            return self.given or {}
        plain, listed = _plain(self.folder / EXAMPLES), arrays(self.folder / EXAMPLE_ARRAYS)
        if both := sorted(set(plain) & set(listed)):
            raise AssetError(f"{self.folder}: examples of {both[0]} are in two files, expected in one")
        found: dict[str, Any] = {**plain, **listed}
        lengths = {name: len(values) for name, values in found.items()}
        if len(set(lengths.values())) > 1 or not all(1 <= length <= MAX_EXAMPLES for length in lengths.values()):
            counted = ", ".join(f"{length} of {name}" for name, length in lengths.items())
            raise AssetError(f"{self.folder}: {counted}; expected as many examples of each, 1 to {MAX_EXAMPLES}")
        return found

    def tokenizer(self, name: str) -> Any:
        """The `tokenizers.Tokenizer` of a file, which cuts nothing off and adds nothing. Raises AssetError."""
        if self.folder is None or Path(name).name != name or not (self.folder / name).is_file():
            raise AssetError(f"{name} is missing beside the weights: texts cannot be read without it")
        return _tokenizer(self.folder / name, (self.folder / name).stat().st_mtime_ns)


NO_ASSETS = Assets()


def _plain(path: Path) -> dict[str, list[Any]]:
    if not path.exists():
        return {}
    found = untrusted.read_json(path)
    for name, values in found.items():
        if not isinstance(values, list):
            raise AssetError(f"{path}: {name} is a {type(values).__name__}, expected a list of examples")
    return found


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Lists in a safetensors file, none where it is not there. Raises AssetError, UntrustedError.

    Read by the checked header alone: where models are served there is NumPy and little else.
    """
    if not path.exists():
        return {}
    infos = untrusted.check_safetensors(path)
    for name, info in infos.items():
        if info.dtype not in DTYPES or not info.shape:
            raise AssetError(f"{path}: {name} is {info.dtype} {info.shape}, expected a list of {', '.join(DTYPES)}")
    with untrusted.plain_file(path) as (stream, size):
        if size > MAX_EXAMPLES_BYTES:
            raise AssetError(f"{path} has {size} bytes, examples have at most {MAX_EXAMPLES_BYTES}")
        data = stream.read(size)
    return {
        name: np.frombuffer(data, DTYPES[info.dtype], info.size, info.start).reshape(info.shape)
        for name, info in infos.items()
    }


@lru_cache(maxsize=8)
def _tokenizer(path: Path, _: int) -> Any:
    """Read again where the file has changed, by the time of that."""
    from tokenizers import Tokenizer

    with untrusted.plain_file(path) as (stream, size):
        if size > MAX_TOKENIZER_BYTES:
            raise AssetError(f"{path} has {size} bytes, a tokenizer has at most {MAX_TOKENIZER_BYTES}")
        data = stream.read(MAX_TOKENIZER_BYTES)
    try:
        found = Tokenizer.from_str(data.decode())
    except Exception as error:  # the library has no class of its own
        raise AssetError(f"{path} is no tokenizer that is known here ({error}); restore it") from error
    if max(found.get_vocab().values(), default=0) >= MAX_TOKENS:  # the library walks through all numbers up to the last
        raise AssetError(f"{path} has tokens above {MAX_TOKENS:,}, which no network here takes; restore it")
    found.no_truncation()
    padding = found.padding
    found.no_padding()  # else whoever wrote it says how much is allocated
    if padding:
        found.enable_padding(pad_id=padding["pad_id"])
    return found
