"""`import`: what others trained, checked and taken into the store. A format is one file here.

    checkpoint_folder    our own layout: config.json and model.safetensors
    diffusers_folder     a pipeline or a component, as diffusers writes it
    safetensors_file     weights of a network that the zoo knows
    onnx_model           a one-shot generator

What a path holds is decided by its content. Pickles are refused, whatever they are called.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from zoo import untrusted
from zoo.exchange.importing.draft import Asked, Draft, Imported, ImportingError, name_for, publish
from zoo.files import home
from zoo.store.transfer.connections import public

__all__ = ["Asked", "Draft", "Imported", "ImportingError", "import_from"]
OF_A_PIPELINE = ("scheduler", "spacing", "lora")


def import_from(
    source: str | Path,
    *,
    name: str | None = None,
    architecture: str | None = None,
    scheduler: str | None = None,
    spacing: str | None = None,
    image_range: str | None = None,
    lora: Sequence[str] = (),
    licence: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Imported:
    """Take what lies at a path or an HTTP address into the store, under a name of its own.

    `architecture` is the checkpoint whose network a file's weights fit; `scheduler` and `spacing` are for a pipeline,
    in place of its own; `image_range` is that of an ONNX generator's images; `lora` are adapters of a pipeline, each
    [NAME=]FILE[:SCALE]. `progress` is told of bytes that arrive.
    Raises ImportingError and UntrustedError.
    """
    from zoo.exchange.importing import address

    remote = isinstance(source, str) and address.is_address(source)
    origin = public(str(source)) if remote else str(Path(source).absolute())
    chosen = name or name_for(origin.split("?")[0])
    folder = home() / "imports"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(source).absolute()
        if remote:
            (Path(scratch) / "fetched").mkdir()
            path = address.fetch(str(source), Path(scratch) / "fetched", progress)
        asked = Asked(architecture, scheduler, spacing, image_range, tuple(lora) or None)
        found = draft(path, asked, Path(scratch))
        return publish(found, chosen, licence, origin, Path(scratch))


def draft(path: Path, asked: Asked, scratch: Path) -> Draft:
    """What a path holds, checked. Raises ImportingError and UntrustedError."""
    from zoo.exchange.importing import checkpoint_folder, diffusers_folder, onnx_model, safetensors_file

    if path.is_symlink():
        raise untrusted.UntrustedError(f"{path} is a link: name what it points to")
    if path.is_dir():
        if checkpoint_folder.is_checkpoint(path):
            asked.only("a checkpoint in genzoo's own layout")
            return checkpoint_folder.draft(path, scratch)
        if diffusers_folder.is_diffusers(path):
            return diffusers_folder.draft(path, scratch, asked.only("a diffusers folder", *OF_A_PIPELINE))
        raise ImportingError(
            f"{path} has neither model_index.json nor config.json: name a file in it, or another folder"
        )
    untrusted.refuse_pickle(path)
    with untrusted.plain_file(path) as (stream, _):
        head = stream.read(16)
    if untrusted.is_safetensors(head) or path.suffix.lower() == ".safetensors":
        return safetensors_file.draft(path, asked.only("a safetensors file", "architecture").architecture, scratch)
    if path.suffix.lower() == ".onnx":
        return onnx_model.draft(path, scratch, asked.only("an ONNX generator", "image_range").image_range)
    raise ImportingError(f"{path} is no safetensors file, no .onnx model and no folder: those are taken")
