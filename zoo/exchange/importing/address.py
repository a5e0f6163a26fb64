"""What lies at an HTTP address -> a folder or a file here, for the imports of paths to judge.

A server lists no folders, so a folder's files are asked for by the names that diffusers and genzoo give them; what is
not there is left out. A transfer that ends early is taken up where it ended, if the file is still the same.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from zoo.contract import layout
from zoo.contract.layout import CONFIG
from zoo.exchange.importing import component_weights
from zoo.exchange.importing.draft import ImportingError
from zoo.files import Progress, fault_of_name
from zoo.store.transfer.connections import public
from zoo.store.transfer.http import Client, HttpError, Opened, content_range
from zoo.untrusted import CONVERT, PICKLE_SUFFIXES, UntrustedError, read_json

PIECE_BYTES = 4 << 20
MAX_FILE_BYTES = 1 << 40
ATTEMPTS = 5
INDEX = "model_index.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", layout.WEIGHTS)
VARIANTS = ("", ".fp16", ".bf16")  # the first that is there is fetched
PICKLES = ("diffusion_pytorch_model.bin", "pytorch_model.bin", "diffusion_pytorch_model.fp16.bin", "model.fp16.bin")
LORA = "pytorch_lora_weights.safetensors"
UP = "../"
SCHEDULER = "scheduler/scheduler_config.json"  # beside the network that it is for
TEXTS = (
    *(CONFIG, "scheduler_config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json"),
    *("vocab.json", "merges.txt", "special_tokens_map.json", "spiece.model"),
)
HUB = "huggingface.co"


def is_address(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def fetch(url: str, folder: Path, progress: Progress = lambda _: None) -> Path:
    """The file or the folder at an address, below `folder`. Raises ImportingError."""
    try:
        base = _base(url)
        with closing(Client(base)) as client:
            return _Fetch(client, base, progress).everything(folder)
    except HttpError as error:
        raise ImportingError(f"{error}; nothing was imported") from error
    except ValueError as error:
        raise ImportingError(f"{public(url)} is no address that can be fetched ({error})") from error


def _base(url: str) -> str:
    """A model's page on the Hub is where its files are; any other address stays."""
    parts = urlsplit(url)
    names = [name for name in parts.path.split("/") if name]
    if parts.hostname == HUB and len(names) == 2:
        return urlunsplit((parts.scheme, parts.netloc, f"/{names[0]}/{names[1]}/resolve/main/", "", ""))
    return url


class _Fetch:
    def __init__(self, client: Client, base: str, progress: Progress) -> None:
        self.client, self.base, self.progress = client, base, progress

    def everything(self, folder: Path) -> Path:
        name = urlsplit(self.base).path.rsplit("/", 1)[-1]
        if name.lower().endswith(PICKLE_SUFFIXES):
            (folder / "named").mkdir()
            path = folder / "named" / f"model{Path(name).suffix}"
            self._file(self.base, path)
            return path
        if name.lower().endswith((".safetensors", ".onnx")):
            path = folder / f"model{Path(name).suffix.lower()}"
            self._file(self.base, path)
            if path.suffix == ".onnx":
                self._outside(path)
            return path
        if not self.base.endswith("/"):
            parts = urlsplit(self.base)
            self.base = urlunsplit(parts._replace(path=parts.path + "/"))
        return self._folder(folder / "folder")

    def _folder(self, folder: Path) -> Path:
        folder.mkdir()
        if self._optional(INDEX, folder):
            for name, entry in read_json(folder / INDEX).items():
                if isinstance(entry, list) and entry[1:] != [None]:
                    self._component(name, folder)
        elif self._component("", folder):
            self._optional(UP + SCHEDULER, folder.parent, SCHEDULER)
        elif self._is_there(LORA):
            raise ImportingError(f"{public(self.base)} has a LoRA alone, {LORA}: it makes no images by itself")
        else:
            raise ImportingError(f"{public(self.base)} has neither {INDEX} nor {CONFIG} below it")
        self._optional("README.md", folder)
        return folder

    def _component(self, name: str, folder: Path) -> bool:
        """Whether a component's folder has any of its files; those of old repositories are at the top."""
        if name.startswith("_") or (name and (fault_of_name(name) or "/" in name)):
            return False
        prefix = f"{name}/" if name else ""
        found = [text for text in TEXTS if self._optional(prefix + text, folder)]
        weights = self._weights(prefix, folder, VARIANTS if CONFIG in found else VARIANTS[:1])
        if CONFIG in found and not weights:
            self._refuse_pickles(prefix)
        if name and not found and not weights:
            return self._component("", folder)
        return bool(found or weights)

    def _weights(self, prefix: str, folder: Path, variants: tuple[str, ...]) -> list[str]:
        """The files of the first variant that is there: a file, or shards by their index."""
        for variant in variants:
            stems = [name.removesuffix(".safetensors") for name in WEIGHTS]
            names = [f"{stem}{variant}.safetensors" for stem in stems]
            if found := [name for name in names if self._optional(prefix + name, folder)]:
                return found
            for index in (f"{stem}.safetensors.index{variant}.json" for stem in stems):
                if self._optional(prefix + index, folder):
                    return self._shards(prefix, folder, index)
        return []

    def _refuse_pickles(self, prefix: str) -> None:
        """Raise UntrustedError where a component has its weights as a pickle only."""
        for name in PICKLES:
            if self._is_there(prefix + name):
                where = public(self._below(prefix + name))
                raise UntrustedError(f"{where} is a pickle, and no safetensors file is beside it; {CONVERT}")

    def _shards(self, prefix: str, folder: Path, index: str) -> list[str]:
        names = sorted(set(component_weights.shards(folder / prefix / index).values()))
        for name in names:
            self._file(self._below(prefix + name), folder / prefix / name)
        return names

    def _outside(self, model: Path) -> None:
        """The files that an ONNX model keeps its tensors in."""
        for location in _locations(model):
            self._file(self._below(location), model.parent / location)

    def _below(self, name: str) -> str:
        parts = urlsplit(self.base)
        above, name = parts.path.rsplit("/", 1 + name.startswith(UP))[0], name.removeprefix(UP)
        return urlunsplit(parts._replace(path=f"{above}/{quote(name)}", fragment=""))

    def _is_there(self, name: str) -> bool:
        try:
            return self.client.head(self._below(name)).status == 200
        except HttpError as error:
            if error.status in (404, 405, 410):
                return False
            raise

    def _optional(self, name: str, folder: Path, place: str = "") -> bool:
        """Whether a file is there: then it is fetched, to its `place` in the folder."""
        path = folder / (place or name)
        if path.is_file():
            return True
        try:
            self._file(self._below(name), path)
        except HttpError as error:
            if error.status in (404, 410):
                return False
            raise
        return True

    def _file(self, url: str, path: Path) -> None:
        """A file, whole. Raises HttpError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tag = ""
        with path.open("wb", buffering=0) as out:
            for attempt in range(ATTEMPTS):
                try:
                    tag = self._more(url, out, tag)
                    return
                except HttpError as error:
                    if error.gone or attempt == ATTEMPTS - 1 or error.status in (401, 403):
                        path.unlink(missing_ok=True)
                        raise
                    tag = str(error.headers.get("etag", tag))
                    time.sleep(error.retry_after or 0.2 * 2**attempt)

    def _more(self, url: str, out: Any, tag: str) -> str:
        """The rest of a file, or all of it where it changed or the server knows no ranges."""
        at = out.tell()
        wanted: Mapping[str, str] = {"range": f"bytes={at}-", "if-range": tag} if at and tag else {}
        opened = self.client.begin("GET", url, wanted)
        try:
            if opened.status != 206:
                out.seek(0)
                out.truncate()
            elif not _continues(opened, at, tag):
                out.seek(0)
                out.truncate()
                raise HttpError(f"{public(url)} answered with another part, or of another file")
            size = opened.response.length
            self._check_room(url, size, Path(out.name).parent)
            tag = opened.header("etag")
            done = 0
            for count in self._pieces(opened, out, tag):
                done += count
                if done > MAX_FILE_BYTES:
                    raise ImportingError(f"{public(url)} has more than {MAX_FILE_BYTES} bytes")
            if size is not None and done < size:
                raise HttpError(f"{public(url)} ended after {done} of {size} bytes", headers={"etag": tag})
            return tag
        finally:
            self.client.finish(opened)

    def _pieces(self, opened: Opened, out: Any, tag: str) -> Iterator[int]:
        buffer = memoryview(bytearray(PIECE_BYTES))
        while True:
            try:
                count = self.client.read(opened, buffer)
            except HttpError as error:
                out.write(buffer[: error.filled])
                raise HttpError(str(error), headers={"etag": tag}) from error
            out.write(buffer[:count])
            self.progress(count)
            yield count
            if count < PIECE_BYTES:
                return

    def _check_room(self, url: str, size: int | None, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
        if size is not None and size > free:
            raise ImportingError(f"{public(url)} has {size} bytes, {os.fspath(folder)} has room for {free}")


def _continues(opened: Opened, at: int, tag: str) -> bool:
    """Whether a part begins where the last one ended, in the same file."""
    place = content_range(opened.header("content-range"))
    return place is not None and place[0] == at and opened.header("etag") == tag


def _locations(model: Path) -> list[str]:
    """Where an ONNX model says its tensors lie; what is no plain path is left to the check of the model."""
    import onnx

    from zoo.untrusted.onnx import check_cost, tensors

    check_cost(model)
    try:
        proto = onnx.load(model, load_external_data=False)
    except Exception as error:  # protobuf's and onnx's errors have no common root
        raise UntrustedError(f"{model.name} is not an ONNX model") from error
    found = {item.value for tensor in tensors(proto) for item in tensor.external_data if item.key == "location"}
    return sorted(location for location in found if not fault_of_name(location) and location != model.name)
