"""A bundle: what export writes for one checkpoint and variant, and all that a host needs in order to serve it.

    manifest.json       what it is, with the digest of every other file
    *.onnx              graphs by name; `entry` is the one that makes images, the others let the gate name what is wrong
    model.safetensors   the weights of all graphs, once
    gate.json           the gate's verdict, bound to the manifest's digest
    tokenizer.json ...  the checkpoint's assets, where its conditions need any

A one-shot generator's entry is `generator`. An iterative one has `denoiser`, `step`, `decoder`, and its entry is
`sampler`, or `step` where a host loop takes the sampler's place. `encode_<condition>` graphs come before: what they
give is an input of the entry by the tensors' names. Reading needs neither torch nor onnx.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from zoo import files, untrusted
from zoo.contract.assets import NO_ASSETS, Assets
from zoo.contract.graph import ENCODE, MAX_BATCH, MAX_SIZE, TensorSpec
from zoo.contract.layout import BUNDLE_FORMAT, BUNDLE_MANIFEST, FIRST_BUNDLE_FORMAT, VERDICT, is_asset
from zoo.contract.names import NAME
from zoo.contract.spec import MAX_STEPS, GeneratorSpec
from zoo.errors import GenzooError
from zoo.plain import PlainError, printable, rebuild
from zoo.untrusted import MAX_AXES, UntrustedError

MAX_WORKSPACE = 1 << 40  # bytes of an engine


class BundleError(GenzooError):
    """A bundle is missing, altered, or reaches outside its folder; the message says which file, and what to do."""


@dataclass(frozen=True)
class Bundle:
    """A folder whose every file was checked against `manifest`."""

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """The bundle in a folder, its paths and digests verified. Raises BundleError."""
        path = Path(path)
        try:
            manifest = untrusted.read_json(path / BUNDLE_MANIFEST)
        except UntrustedError as error:
            raise BundleError(f"{path} is not a bundle ({error}); `genzoo export NAME` makes one") from error
        if (found := manifest.get("format")) not in (BUNDLE_FORMAT, FIRST_BUNDLE_FORMAT):
            name = printable(str(manifest.get("name", "NAME")))[:64]
            raise BundleError(
                f"{path / BUNDLE_MANIFEST} has format {str(found)[:40]!r}, expected {BUNDLE_FORMAT!r}; "
                f"`genzoo export {name}` makes it anew, and a newer genzoo reads a newer one"
            )
        bundle = cls(path, manifest)
        try:
            for file in (*manifest["graphs"].values(), manifest["weights"]):
                bundle._verify(file["file"], file["sha256"])
            for name, digest in manifest.get("assets", {}).items():
                if not is_asset(name):
                    raise PlainError(f"its asset {name[:40]!r} is none: expected a name like tokenizer.json")
                bundle._verify(name, digest)
            bundle._check()
        except PlainError as error:
            raise BundleError(f"{path / BUNDLE_MANIFEST} cannot be used, {error}; export the bundle again") from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BundleError(f"{path / BUNDLE_MANIFEST} lacks {error}; export the bundle again") from error
        return bundle

    def _check(self) -> None:
        """What is asked for later fails here. Raises PlainError, KeyError, TypeError."""
        self.entry_path, self.spec  # noqa: B018
        for graph in self.graphs:
            if not NAME.fullmatch(graph):  # a part of a folder's name, where it is served
                raise PlainError(f"its graph {graph[:40]!r} is none: expected a name like sampler")
            for each in (*self.inputs(graph), *self.outputs(graph)):
                if len(each.shape) > MAX_AXES:
                    raise PlainError(f"{each.name} of {graph} has {len(each.shape)} axes, at most {MAX_AXES} are read")
        bounds = {"steps": MAX_STEPS, "max_batch": MAX_SIZE, "workspace_bytes": MAX_WORKSPACE}
        for name, most in bounds.items():
            found = self.manifest.get(name)
            if found is not None and (type(found) is not int or not 1 <= found <= most):
                raise PlainError(f"its {name} are {str(found)[:40]}, expected 1 to {most}")

    def _verify(self, name: str, digest: str) -> None:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or len(pure.parts) != 1:
            raise BundleError(
                f"{self.path / BUNDLE_MANIFEST} names the file {name!r}: it must lie in the bundle's own folder"
            )
        file = self.path / name
        if file.is_symlink() or not file.is_file():
            raise BundleError(f"{file} is missing or not a plain file; export the bundle again")
        found = files.sha256(file)
        if found != digest:
            raise BundleError(
                f"{file} has sha256 {found[:12]}, expected {str(digest)[:12]}: it was altered, export the bundle again"
            )

    @cached_property
    def spec(self) -> GeneratorSpec:
        return GeneratorSpec.from_json(self.manifest["spec"])

    @property
    def served_spec(self) -> GeneratorSpec:
        """What the entry graph takes: an unrolled loop has the one number of steps that it was unrolled for."""
        spec, steps = self.spec, self.manifest.get("steps")
        if spec.sampling is None or steps is None:
            return spec
        return replace(spec, sampling=replace(spec.sampling, num_steps=steps, steps=(steps,)))

    @property
    def is_first_format(self) -> bool:
        return bool(self.manifest["format"] == FIRST_BUNDLE_FORMAT)

    @property
    def first_columns(self) -> int:
        """The columns of its table in a bundle of the first format; 0 in any other, and where there is no table."""
        tables = [each.shape[-1] for each in self.inputs(self.entry) if each.name in ("table", "row")]
        return int(tables[0]) if tables and self.is_first_format else 0

    @property
    def encoders(self) -> tuple[str, ...]:
        """The graphs that conditions and images go through before the entry."""
        return tuple(graph for graph in self.graphs if graph.startswith(ENCODE))

    @property
    def assets(self) -> Assets:
        """What its conditions are read by, and examples of them."""
        return Assets(self.path) if self.manifest.get("assets") else NO_ASSETS

    @property
    def max_batch(self) -> int:
        """Images of one execution, at most."""
        return int(self.manifest.get("max_batch", MAX_BATCH))

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def entry(self) -> str:
        return str(self.manifest["entry"])

    @property
    def entry_path(self) -> Path:
        return self.graph_path(self.entry)

    @property
    def graphs(self) -> tuple[str, ...]:
        """The graphs' names in the order in which data flows."""
        return tuple(self.manifest["graphs"])

    def graph_path(self, graph: str) -> Path:
        return self.path / str(self.manifest["graphs"][graph]["file"])

    def inputs(self, graph: str) -> tuple[TensorSpec, ...]:
        return _specs(self.manifest["graphs"][graph]["inputs"])

    def outputs(self, graph: str) -> tuple[TensorSpec, ...]:
        return _specs(self.manifest["graphs"][graph]["outputs"])

    @cached_property
    def digest(self) -> str:
        """The manifest's sha256, which names every other file's: the identity of the bundle."""
        return files.sha256(self.path / BUNDLE_MANIFEST)

    @property
    def verdict(self) -> dict[str, Any] | None:
        """What the gate found, or None before it ran on exactly these files."""
        try:
            verdict = untrusted.read_json(self.path / VERDICT)
        except UntrustedError:
            return None
        return verdict if verdict.get("bundle") == self.digest else None

    @property
    def admitted(self) -> bool:
        return bool((self.verdict or {}).get("admitted"))


def _specs(entries: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(rebuild(TensorSpec, entry, "tensor") for entry in entries)
