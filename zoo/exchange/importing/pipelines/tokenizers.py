"""The folder of a tokenizer, as transformers writes it -> a `tokenizer.json` and the token that fills up a text.

A folder without that file is CLIP's vocabulary and merges, of which the same tokenizer is built (Radford et al. 2021).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.contract.assets import MAX_TOKENIZER_BYTES
from zoo.exchange.importing.draft import ImportingError
from zoo.untrusted import plain_file, read_json

TOKENIZER = "tokenizer.json"
VOCABULARY, MERGES = "vocab.json", "merges.txt"
CONFIGS = ("special_tokens_map.json", "tokenizer_config.json")  # the later says more
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
WORD_END = "</w>"


@dataclass(frozen=True)
class Tokenizer:
    """`content` is a tokenizer.json; `length` is the most tokens that its encoder was trained on, if it says so."""

    content: bytes
    pad: int
    length: int | None

    @property
    def language(self) -> str:
        """What decides the tokens of a text, as text: two tokenizers with the same read alike."""
        found = json.loads(self.content)
        return json.dumps({key: found.get(key) for key in ("model", "normalizer", "pre_tokenizer", "post_processor")})

    def count(self, text: str) -> int:
        """The tokens of a text, its ends among them. Raises ImportingError where the library is missing."""
        return len(_library(self.content, Path(TOKENIZER)).encode(text).ids)


def read(folder: Path) -> Tokenizer:
    """Raises ImportingError for a folder that holds none, UntrustedError for a file that is not sound."""
    content = _content(folder)
    configs = {name: _json(folder / name) for name in CONFIGS if (folder / name).is_file()}
    settings = {key: value for each in configs.values() for key, value in each.items()}
    length = settings.get("model_max_length")
    known = isinstance(length, int | float) and not isinstance(length, bool) and 1 <= length <= 4096
    return Tokenizer(content, _pad(content, settings, folder), int(length) if known and length else None)


def lowered(content: bytes) -> bytes:
    """The same tokenizer, for texts of which small letters are read, and no white space around them."""
    found = json.loads(content)
    before = [{"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": True}]
    found["normalizer"] = {"type": "Sequence", "normalizers": [*before, *filter(None, [found.get("normalizer")])]}
    return json.dumps(found, ensure_ascii=False).encode()


def _content(folder: Path) -> bytes:
    if (folder / TOKENIZER).is_file():
        return _checked(_read(folder / TOKENIZER), folder / TOKENIZER)
    if (folder / VOCABULARY).is_file() and (folder / MERGES).is_file():
        return _of_clip(folder)
    seen = " and ".join(sorted(path.name for path in folder.glob("*.model"))) or "nothing"
    raise ImportingError(
        f"{folder} has {seen}, no {TOKENIZER}: load it with transformers' AutoTokenizer and save it, which writes one"
    )


def _read(path: Path) -> bytes:
    with plain_file(path) as (stream, size):
        if size > MAX_TOKENIZER_BYTES:
            raise ImportingError(f"{path} has {size} bytes, a tokenizer has at most {MAX_TOKENIZER_BYTES}")
        return stream.read(MAX_TOKENIZER_BYTES)


def _json(path: Path) -> Mapping[str, Any]:
    return read_json(path, MAX_TOKENIZER_BYTES)


def _checked(content: bytes, path: Path) -> bytes:
    """A file that the library reads."""
    _library(content, path)
    return content


def _library(content: bytes, path: Path) -> Any:
    try:
        from tokenizers import Tokenizer as Library
    except ImportError as error:
        raise ImportingError(f"{path} is read by the library tokenizers: `pip install genzoo[pipelines]`") from error
    try:
        return Library.from_str(content.decode())
    except Exception as error:  # the library has no class of its own
        raise ImportingError(f"{path} is no tokenizer that is known here ({str(error)[:120]})") from error


def _of_clip(folder: Path) -> bytes:
    from tokenizers import Regex, models, normalizers, pre_tokenizers, processors
    from tokenizers import Tokenizer as Library

    vocabulary = {str(word): index for word, index in _json(folder / VOCABULARY).items() if type(index) is int}
    lines = _read(folder / MERGES).decode("utf-8", "replace").split("\n")
    merges = [(left, right) for line in lines for left, _, right in [line.partition(" ")] if right and line[0] != "#"]
    if BEGIN not in vocabulary or END not in vocabulary:
        raise ImportingError(f"{folder / VOCABULARY} has no {BEGIN} and {END}: only CLIP's is read without a "
                             f"{TOKENIZER}")  # fmt: skip
    try:
        model = models.BPE(vocabulary, merges, end_of_word_suffix=WORD_END, unk_token=END, fuse_unk=False)
    except Exception as error:  # as above
        raise ImportingError(f"{folder / MERGES} is not of {VOCABULARY} beside it ({str(error)[:120]})") from error
    found = Library(model)
    white = normalizers.Replace(Regex(r"\s+"), " ")
    found.normalizer = normalizers.Sequence([normalizers.NFC(), white, normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    found.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    end, begin = ((token, vocabulary[token]) for token in (END, BEGIN))
    found.post_processor = processors.RobertaProcessing(end, begin, add_prefix_space=False, trim_offsets=False)
    found.add_special_tokens([BEGIN, END])
    return bytes(found.to_str().encode())


def _pad(content: bytes, settings: Mapping[str, Any], folder: Path) -> int:
    """The number of the token that fills up, as the settings name it; CLIP's is the end where none is named."""
    named = settings.get("pad_token")
    token = named.get("content") if isinstance(named, Mapping) else named
    tokenizer = _library(content, folder / TOKENIZER)
    found = tokenizer.token_to_id(str(token)) if token is not None else None
    if found is None and tokenizer.padding:
        found = tokenizer.padding["pad_id"]
    if found is None:
        raise ImportingError(f"{folder} names no token of its vocabulary as pad_token: a text is filled up with one")
    return int(found)
