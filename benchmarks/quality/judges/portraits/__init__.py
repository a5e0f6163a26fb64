"""The judges of portraits, run by ONNX Runtime: which words of a caption a picture shows, and how well both agree.

benchmarks/quality/judges/portraits/<name>/
    model.onnx          `attributes`: uint8 (N, 64, 64, 3) -> `logits`; `pair`: with `tokens` -> `picture`, `text`
    model.safetensors   their weights, float16
    config.json         digests and recipe
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.features import FeatureNetError
from benchmarks.quality.judges import Judges, Pair, Reader
from zoo import files
from zoo.datasets.portrait_styles import STYLES, WORDS
from zoo.datasets.portraits import read

FOLDER = Path(__file__).parent
BATCH = 250
LENGTH = 8  # words of the longest caption
STYLE = "style"
HEADS: Mapping[tuple[str, str], tuple[str, ...]] = {
    (STYLE, STYLE): tuple(style.name for style in STYLES),
    **{(style.name, each.name): each.words for style in STYLES for each in style.attributes},
}  # (style, attribute) -> the words that it may have; the first says which style it is


def truth(captions: Sequence[str]) -> np.ndarray:
    """Which word of each head captions name, int64 (N, heads); -1 for the attributes of other styles."""
    found = np.full((len(captions), len(HEADS)), -1, np.int64)
    for row, caption in enumerate(captions):
        shown = read(caption)
        words = {
            (STYLE, STYLE): shown.style.name,
            **{(shown.style.name, key): word for key, word in shown.words.items()},
        }
        for column, (head, choices) in enumerate(HEADS.items()):
            if head in words:
                found[row, column] = choices.index(words[head])
    return found


def tokens(captions: Sequence[str]) -> np.ndarray:
    """int64 (N, 8): 0 for no word, else its place in the vocabulary from 1 on."""
    found = np.zeros((len(captions), LENGTH), np.int64)
    for row, caption in enumerate(captions):
        words = caption.split()[:LENGTH]
        found[row, : len(words)] = [1 + WORDS.index(word) for word in words]
    return found


def right(images: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """Which attributes of its caption each picture shows, the style first: float64 (N, heads), NaN where it has none.

    Raises FeatureNetError.
    """
    logits = np.concatenate([_session("attributes").run(None, {"images": part})[0] for part in _parts(images)])
    ends = np.cumsum([len(words) for words in HEADS.values()])[:-1]
    seen = np.stack([part.argmax(1) for part in np.split(logits, ends, axis=1)], axis=1)
    wanted = truth(captions)
    return np.where(wanted < 0, np.nan, seen == wanted)


def as_asked(images: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """Which pictures show all that their captions say, bool (N,). Raises FeatureNetError."""
    return np.asarray(np.nanmin(right(images, [str(caption) for caption in captions]), axis=1) == 1.0)


def embeddings(images: np.ndarray, captions: Sequence[str] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of N pictures and of M captions, float32 (N, 96) and (M, 96). Raises FeatureNetError."""
    said = tokens([str(caption) for caption in captions])
    blank, none = np.zeros((1, *images.shape[1:]), np.uint8), np.zeros((1, LENGTH), np.int64)
    session = _session("pair")
    texts = np.concatenate([
        session.run(["text"], {"images": blank.repeat(len(part), 0), "tokens": part})[0] for part in _parts(said)
    ])  # fmt: skip
    pictures = np.concatenate([
        session.run(["picture"], {"images": part, "tokens": none.repeat(len(part), 0)})[0] for part in _parts(images)
    ])  # fmt: skip
    return pictures, texts


def agreement(images: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """How well each picture agrees with each caption, float32 (N, M) in [-1, 1]. Raises FeatureNetError."""
    pictures, texts = embeddings(images, captions)
    return np.asarray(pictures @ texts.T)


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def config(name: str) -> dict[str, Any]:
    """The `config.json` of a judge, once the files that it names have their digests. Raises FeatureNetError."""
    folder = FOLDER / name
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_text())
        altered = [file for file, digest in found["files"].items() if files.sha256(folder / file) != digest]
    except (OSError, ValueError, KeyError) as error:
        raise FeatureNetError(f"judge {name}: {folder} is not readable ({error}); train it again") from error
    if altered:
        raise FeatureNetError(f"judge {name}: {folder / altered[0]} was altered, restore it from the repository")
    return found


@lru_cache
def _session(name: str) -> Any:
    import onnxruntime

    config(name)
    return onnxruntime.InferenceSession(FOLDER / name / "model.onnx", providers=["CPUExecutionProvider"])


JUDGES = Judges(
    "portraits",
    reader=Reader("attributes", (64, 64, 3), reads="prompt", right=as_asked),
    pair=Pair("pair", (64, 64, 3), reads="prompt", embed=embeddings),
)
