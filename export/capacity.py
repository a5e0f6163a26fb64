"""How much one execution of a bundle holds: an engine sets aside memory for the largest that it is built for.

Each graph's values are measured at the largest sizes of a request. Attention whose scores alone would be too large for
one image is cut into blocks; the rest says how many images fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from export.blocks import SCORES_BYTES, in_blocks, large
from export.engine_key import WORKSPACE_BYTES
from export.onnx_graph import OnnxGraph
from export.profiles import axes
from export.shapes import values
from zoo.contract.graph import BATCH, MAX_BATCH, OPSET
from zoo.contract.spec import GeneratorSpec

AT_ONCE = 2  # of the largest tensor, as the scores of attention and their softmax
ROOMY = 5  # of it, where a workspace is enlarged: a decoder of 1024x1024 is refused with 3.2 of them, built with 4.8
STEP = 1 << 30  # by which it is


@dataclass(frozen=True)
class Fitted:
    """Graphs whose attention is cut where it must be, the most images of an execution, and an engine's workspace."""

    graphs: dict[str, OnnxGraph]
    max_batch: int
    workspace_bytes: int


@dataclass(frozen=True)
class Need:
    """Bytes of the largest value of a graph for one image, and of the largest block of attention, for any number."""

    image: int
    block: int

    def workspace(self, images: int, at_once: int = AT_ONCE) -> int:
        return at_once * (images * self.image + self.block)


def fitted(
    spec: GeneratorSpec, graphs: Mapping[str, OnnxGraph], opset: int = OPSET, budget: int = SCORES_BYTES
) -> Fitted:
    """The traced graphs of a generator, with scores above `budget` bytes cut into blocks of so many.

    `max_batch` is the greatest power of two, 1 to MAX_BATCH, of images that fit into WORKSPACE_BYTES; where not even
    one does, the workspace is as many GiB as it needs. A generator of one call stays as it is: it may hold a
    loop of its own, whose values are not measured.
    """
    if spec.sampling is None:
        return Fitted(dict(graphs), MAX_BATCH, WORKSPACE_BYTES)
    sizes = {name: size.maximum for name, size in axes(spec, 1).items()}
    cut, needs = {}, []
    for name, graph in graphs.items():
        cut[name], need = _cut(graph, sizes | {BATCH: sizes["terms"] if name == "denoiser" else 1}, opset, budget)
        needs.append(need)
    fitting = [n for n in (1 << i for i in range(MAX_BATCH.bit_length())) if _most(needs, n) <= WORKSPACE_BYTES]
    enlarged = -(-_most(needs, 1, ROOMY) // STEP) * STEP
    return Fitted(cut, max(fitting, default=1), WORKSPACE_BYTES if fitting else enlarged)


def _most(needs: list[Need], images: int, at_once: int = AT_ONCE) -> int:
    return max(need.workspace(images, at_once) for need in needs)


def _cut(graph: OnnxGraph, sizes: Mapping[str, int], opset: int, budget: int) -> tuple[OnnxGraph, Need]:
    found = values(graph, sizes, opset)
    attentions = large(graph, found, budget)
    apart = {name for each in attentions for name in each.scores} | graph.tensors.keys()
    image = max((each.bytes for name, each in found.items() if name not in apart), default=1)
    return in_blocks(graph, attentions), Need(image, max((each.block_bytes for each in attentions), default=0))
