"""genzoo from Python: trained image generators by name, and the same images as the command `genzoo` makes.

    import genzoo

    generator = genzoo.load("ddpm-pd4")
    images = generator.sample(seeds=range(16), class_id=9)  # uint8, (16, 32, 32, 1)

Importing it imports neither torch nor a runtime. What goes wrong is a `GenzooError` with one sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import GenzooError

if TYPE_CHECKING:
    import numpy as np

    from serving.server import TritonServer
    from zoo.contract.feeds import Runner
    from zoo.contract.spec import GeneratorSpec

__all__ = ["GenzooError", "LoadedGenerator", "load", "names", "pull", "sample", "serve"]


@contextmanager
def _extras() -> Iterator[None]:
    """What an extra of genzoo would bring is missing: a GenzooError that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        from genzoo import failures

        sentence = failures.described(error)
        if sentence is None:
            raise
        raise GenzooError(sentence) from error


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator that is ready to be asked, wherever it runs; `spec` says what it takes and gives."""

    spec: GeneratorSpec
    endpoint: Runner
    ungated: bool = False

    def sample(
        self,
        seeds: Iterable[int],
        class_id: int | str | Sequence[int | str] | None = None,
        *,
        num_steps: int | None = None,
        sampler: str | None = None,
        guidance_scale: float = 1.0,
        guidance_interval: tuple[float, float] | None = None,
        strength: float | None = None,
        sizes: Mapping[str, int] | None = None,
        **conditions: Any,
    ) -> np.ndarray:
        """Images as uint8 (N, H, W, C) in [0, 255], one a seed: the same seed gives the same image, in any batch.

        Each of the `conditions` that the generator declares, `class_id` too, is one value for all, or a list or an
        array of values in turn; left out, it is the generator's own, as for the command. A class may be its label. An
        `image`, uint8 (H, W, C), to begin with and the `mask_image` (H, W, 1) of what is made anew (white) are given
        likewise, with the `strength` in (0, 1]. None for `num_steps` and `sampler` takes the checkpoint's own; a
        `guidance_scale` of 1 is none, and is on at noise levels in the `guidance_interval`. Raises RequestError for
        what this generator cannot do, and OutputError where all images are of one colour, unless it is `ungated`.
        """
        from serving import generators, images
        from zoo.contract.request import Setting

        setting = Setting(num_steps, sampler, guidance_scale, guidance_interval=guidance_interval, strength=strength)
        request = generators.request_of(self.spec, seeds, {"class_id": class_id, **conditions}, setting, sizes)
        made = generators.sample(self.spec, self.endpoint, request)
        if not self.ungated:
            images.check_contents(made, self.spec.name)
        return made


def names() -> list[str]:
    """Every checkpoint that is here or in the release, by name."""
    from zoo import registry

    return registry.names()


@_extras()
def load(
    name: str,
    *,
    runtime: str | None = None,
    tier: str | None = None,
    url: str | None = None,
    ungated: bool = False,
) -> LoadedGenerator:
    """A generator by its checkpoint's name, or by the folder of a bundle.

    `runtime` is one of `genzoo sample --runtime`: "onnxruntime", "torch", "tensorrt", "onnxruntime-cuda", ...; without,
    it is what `genzoo tune` found to be the fastest of this host that is of the `tier` ("exact", "45dB", "40dB"; exact
    by default), or "onnxruntime" where nothing was tuned and exact is asked for. With `url`, the gRPC address of a
    Triton server, it is asked there (see `serve`), of a tier that it serves, by default the server's own. What the gate
    refused is not loaded unless `ungated`. Raises GenzooError: no such name, weights that are not here, a runtime that
    cannot be used here.
    """
    from export.runtimes import Runtime, named
    from export.tiers import tier as tier_of
    from serving import generators
    from zoo.contract.errors import RequestError

    if url:
        from serving.client import TritonRunner

        client = TritonRunner(url, name, tier=tier and tier_of(tier).name)
        return LoadedGenerator(client.spec, client, ungated)
    chosen, wanted = named(runtime) if runtime else None, tier_of(tier or "exact")
    if chosen and wanted.psnr_db is not None:
        raise RequestError(f"the tier {wanted} chooses among what was tuned here: leave runtime={runtime!r} out")
    if chosen is Runtime.TRITON:
        raise RequestError("a Triton server is asked by its address: give url, as `genzoo.serve` yields it")
    generator = generators.in_process(name, chosen, wanted, ungated=ungated)
    return LoadedGenerator(generator.spec, generator, ungated)


def sample(
    name: str,
    seeds: Iterable[int],
    class_id: int | str | Sequence[int | str] | None = None,
    **asked: Any,
) -> np.ndarray:
    """`load(name).sample(seeds, class_id, ...)`, for one call; `load` once where there are more."""
    return load(name).sample(seeds, class_id, **asked)


@_extras()
def pull(
    name: str, *remotes: str, bundle: bool = False, keys: Iterable[str | Path] = (), require_signature: bool = False
) -> Path:
    """Fetch a checkpoint, or its bundle, from any mirror that works; its folder, every byte of it verified.

    `remotes` are folders, http(s)://, hf:// or oci:// addresses; $GENZOO_REMOTE without. `keys` are trusted public keys
    (PEM files): naming one requires a signature. Raises GenzooError.
    """
    from zoo.exchange.pull import mirrors
    from zoo.exchange.pull import pull as fetch
    from zoo.shelf import blob_store
    from zoo.store import signing
    from zoo.store.artifact import Kind
    from zoo.store.offers import Policy

    trust = signing.trusted([Path(key) for key in keys], ())
    kind, variant = (Kind.BUNDLE, "fp32") if bundle else (Kind.CHECKPOINT, "")
    policy = Policy(trust, require_signature)
    return fetch(name, mirrors(remotes), blob_store(), policy, kind=kind, variant=variant).path


@contextmanager
def serve(*names: str, ungated: bool = False) -> Iterator[TritonServer]:
    """A real Triton server over these generators on the loopback address, until the block ends.

    Its `grpc_url` is what `load(name, url=...)` takes; `http_url` and `metrics_url` are the others. Raises GenzooError.
    """
    from serving.generators import served

    with served(names, ungated=ungated) as server:
        yield server
