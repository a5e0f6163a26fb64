"""Judges of pictures with captions, run by ONNX Runtime: which words a picture shows, and how well both agree.

benchmarks/quality/judges/<dataset>/<name>/
    model.onnx          the reader: uint8 (N, H, W, 3) -> `logits`; the pair: with `tokens` -> `picture`, `text`
    model.safetensors   their weights, float16
    config.json         digests and recipe
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.features import FeatureNetError
from benchmarks.quality.judges import Judges, Net, Pair, Reader
from zoo import files
from zoo.datasets.portrait_styles import Style
from zoo.datasets.portraits import Portrait

BATCH = 250
SHAPE = (64, 64, 3)
STYLE = "style"
Heads = Mapping[tuple[str, str], tuple[str, ...]]


def heads(styles: Sequence[Style]) -> Heads:
    """(style, attribute) -> the words that it may have; the first says which style it is."""
    return {
        (STYLE, STYLE): tuple(style.name for style in styles),
        **{(style.name, each.name): each.words for style in styles for each in style.attributes},
    }


@dataclass(frozen=True)
class Captioned:
    """The judges of a data set of portraits. `length` are the words of its longest caption."""

    dataset: str
    folder: Path
    styles: tuple[Style, ...]
    words: tuple[str, ...]
    length: int
    read: Callable[[str], Portrait]
    reader: str = "attributes"
    pair: str = "pair"

    @cached_property
    def heads(self) -> Heads:
        return heads(self.styles)

    def truth(self, captions: Sequence[str]) -> np.ndarray:
        """Which word of each head captions name, int64 (N, heads); -1 for what they leave open."""
        found = np.full((len(captions), len(self.heads)), -1, np.int64)
        for row, caption in enumerate(captions):
            shown = self.read(caption)
            words = {
                (STYLE, STYLE): shown.style.name,
                **{(shown.style.name, key): word for key, word in shown.words.items()},
            }
            for column, (head, choices) in enumerate(self.heads.items()):
                if head in words:
                    found[row, column] = choices.index(words[head])
        return found

    def tokens(self, captions: Sequence[str]) -> np.ndarray:
        """int64 (N, length): 0 for no word, else its place in the vocabulary from 1 on."""
        found = np.zeros((len(captions), self.length), np.int64)
        for row, caption in enumerate(captions):
            words = caption.split()[: self.length]
            found[row, : len(words)] = [1 + self.words.index(word) for word in words]
        return found

    def right(self, images: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        """Which attributes of its caption each picture shows, the style first: float64 (N, heads), NaN where none is.

        Raises FeatureNetError.
        """
        seen = np.stack([part.argmax(1) for part in self._logits(images)], axis=1)
        wanted = self.truth(captions)
        return np.where(wanted < 0, np.nan, seen == wanted)

    def told(self, images: np.ndarray, style: Style) -> tuple[np.ndarray, np.ndarray]:
        """Of a style's attributes which word each picture shows and how sure that is, (N, heads) int64 and in [0, 1].

        Its style is the first, sure as far as it is this one. Raises FeatureNetError.
        """
        shares = [_softmax(part) for part in self._logits(images)]
        kept = [place for place, (name, _) in enumerate(self.heads) if name == style.name]
        words = np.stack([shares[0].argmax(1), *(shares[place].argmax(1) for place in kept)], axis=1)
        own = shares[0][:, self.heads[STYLE, STYLE].index(style.name)]
        return words, np.stack([own, *(shares[place].max(1) for place in kept)], axis=1)

    def _logits(self, images: np.ndarray) -> list[np.ndarray]:
        """Of each head, (N, words)."""
        logits = np.concatenate([self._session(self.reader).run(None, {"images": part})[0] for part in _parts(images)])
        ends = np.cumsum([len(words) for words in self.heads.values()])[:-1]
        return np.split(logits, ends, axis=1)

    def as_asked(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """Which pictures show all that their captions say, bool (N,). Raises FeatureNetError."""
        return np.asarray(np.nanmin(self.right(images, [str(caption) for caption in captions]), axis=1) == 1.0)

    def embeddings(self, images: np.ndarray, captions: Sequence[str] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors of N pictures and of M captions, float32 (N, 96) and (M, 96). Raises FeatureNetError."""
        said = self.tokens([str(caption) for caption in captions])
        blank, none = np.zeros((1, *images.shape[1:]), np.uint8), np.zeros((1, self.length), np.int64)
        session = self._session(self.pair)
        texts = np.concatenate([
            session.run(["text"], {"images": blank.repeat(len(part), 0), "tokens": part})[0] for part in _parts(said)
        ])  # fmt: skip
        pictures = np.concatenate([
            session.run(["picture"], {"images": part, "tokens": none.repeat(len(part), 0)})[0]
            for part in _parts(images)
        ])  # fmt: skip
        return pictures, texts

    def agreement(self, images: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        """How well each picture agrees with each caption, float32 (N, M) in [-1, 1]. Raises FeatureNetError."""
        pictures, texts = self.embeddings(images, captions)
        return np.asarray(pictures @ texts.T)

    def config(self, name: str) -> dict[str, Any]:
        """The `config.json` of a judge, once the files that it names have their digests. Raises FeatureNetError."""
        folder = self.folder / name
        try:
            found: dict[str, Any] = json.loads((folder / "config.json").read_text())
            altered = [file for file, digest in found["files"].items() if files.sha256(folder / file) != digest]
        except (OSError, ValueError, KeyError) as error:
            raise FeatureNetError(f"judge {name}: {folder} is not readable ({error}); train it again") from error
        if altered:
            raise FeatureNetError(f"judge {name}: {folder / altered[0]} was altered, restore it from the repository")
        return found

    @cached_property
    def _sessions(self) -> dict[str, Any]:
        return {}

    def _session(self, name: str) -> Any:
        import onnxruntime

        if name not in self._sessions:
            self.config(name)
            graph = self.folder / name / "model.onnx"
            self._sessions[name] = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        return self._sessions[name]

    def judges(self, *nets: Net, also: tuple[str, ...] = ()) -> Judges:
        """With nets beside them; `also` are other data sets whose captions mean the same."""
        reader = Reader(self.reader, SHAPE, reads="prompt", right=self.as_asked, also=also)
        pair = Pair(self.pair, SHAPE, reads="prompt", embed=self.embeddings, also=also)
        return Judges(self.dataset, nets, reader, pair, unique=False)


def _softmax(logits: np.ndarray) -> np.ndarray:
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
