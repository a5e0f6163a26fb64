"""Graph surgery: from a denoiser's graph to the graph that makes images.

    step      (x, previous, saved, noise, row, conditions) -> (x_next, denoised, saved_next): a row of a sampler's table
    decoder   x -> images, uint8 NHWC: a latent model's own decoder, then the conversion of pixels
    sampler   (noise, conditions, table) -> images: a Loop of steps, or a fixed number unrolled, then the decoder

They are written in ONNX's textual syntax around calls in the domain `genzoo`, which `inline` replaces by the graphs
that they name. A call's weights become initializers of the graph that holds the call: ONNX Runtime packs the weights of
a Loop's body only where they belong to the body. The arithmetic is that of `zoo.sampling.samplers.walk`, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx.parser

from export.onnx_graph import IR_VERSION, OnnxGraph, rename, subgraphs
from zoo.contract.graph import BATCH, OPSET, TensorSpec
from zoo.contract.request import GeneratorSpec

CALL = "genzoo"  # the domain of calls to be inlined


def step(spec: GeneratorSpec, denoiser: OnnxGraph) -> OnnxGraph:
    """One row of the table for a batch in which every image may be at a row of its own.

    The state is flattened to (batch, values), so that the row's columns, (batch, 1) each, multiply it as they are.
    """
    assert spec.sampling is not None
    columns = spec.sampling.columns
    state: tuple[int | str, ...] = (BATCH, *spec.latent_shape)
    inputs = (
        *(TensorSpec(name, "float32", state) for name in ("x", "previous", "saved", "noise")),
        TensorSpec("row", "float32", (BATCH, len(columns))),
        *conditions(spec),
    )
    outputs = tuple(TensorSpec(name, "float32", state) for name in ("x_next", "denoised", "saved_next"))
    latent = ", ".join(map(str, spec.latent_shape))
    text = f"""
    <int64[{1 + len(spec.latent_shape)}] state = {{-1, {latent}}}, int64[1] all = {{-1}}, int64[1] one = {{1}},
     int64[1] two = {{2}}>
    {{
        {", ".join(columns)} =
            Split <axis = 1, num_outputs = {len(columns)}> (row)
        X = Flatten (x)
        P = Flatten (previous)
        S = Flatten (saved)
        N = Flatten (noise)
        scaled = Mul (c_in, X)
        {_guided_network(spec)}
        skipped = Mul (c_skip, X)
        predicted = Mul (c_out, F)
        D = Add (skipped, predicted)
        {_sum("X_next", ("a", "X"), ("b", "D"), ("p", "P"), ("s", "S"), ("n", "N"))}
        {_sum("S_next", ("e", "X"), ("f", "D"), ("g", "S"))}
        x_next = Reshape (X_next, state)
        denoised = Reshape (D, state)
        saved_next = Reshape (S_next, state)
    }}"""
    return _graph("step", inputs, outputs, text, (denoiser,))


def conditions(spec: GeneratorSpec) -> tuple[TensorSpec, ...]:
    """The inputs that stay the same from row to row."""
    return tuple(tensor for tensor in spec.inputs if tensor.name not in ("noise", "table"))


def _guided_network(spec: GeneratorSpec) -> str:
    """F (batch, values) = the weighted sum over conditions of the network's output, on batch * conditions rows."""
    assert spec.sampling is not None
    ahead = spec.sampling.whole_steps
    if not spec.num_classes:
        return f"""
        network_x = Reshape (scaled, state)
        levels = Reshape (c_noise, all)
        {"ends = Reshape (c_next, all)" if ahead else ""}
        output = {CALL}.denoiser (network_x, levels{", ends" if ahead else ""})
        F = Flatten (output)"""
    end = """
        end_per_condition = Expand (c_next, grid)
        ends = Reshape (end_per_condition, all)"""
    return f"""
        grid = Shape (class_ids)
        grid_of_x = Concat <axis = 0> (grid, one)
        x_per_image = Unsqueeze (scaled, one)
        x_per_condition = Expand (x_per_image, grid_of_x)
        network_x = Reshape (x_per_condition, state)
        level_per_condition = Expand (c_noise, grid)
        levels = Reshape (level_per_condition, all){end if ahead else ""}
        ids = Reshape (class_ids, all)
        output = {CALL}.denoiser (network_x, levels, ids{", ends" if ahead else ""})
        grid_of_output = Concat <axis = 0> (grid, all)
        output_per_condition = Reshape (output, grid_of_output)
        weight = Unsqueeze (guidance_weights, two)
        weighted = Mul (output_per_condition, weight)
        F = ReduceSum <keepdims = 0> (weighted, one)"""


def _sum(result: str, *terms: tuple[str, str]) -> str:
    """`result` = the sum of the products of two values each, from left to right."""
    lines = [f"{result}_{i} = Mul ({first}, {second})" for i, (first, second) in enumerate(terms)]
    partial = f"{result}_0"
    for i in range(1, len(terms)):
        target = result if i == len(terms) - 1 else f"{result}_to_{i}"
        lines.append(f"{target} = Add ({partial}, {result}_{i})")
        partial = target
    return "\n        ".join(lines)


def decoder(spec: GeneratorSpec, network: OnnxGraph | None) -> OnnxGraph:
    """The last x -> images. The cast to uint8 is the last node, because TensorRT takes no uint8 before an output."""
    pixels = f"pixels = {CALL}.{network.name} (x)" if network else "pixels = Identity (x)"
    text = f"""
    <float half = {{127.5}}, float low = {{0.0}}, float high = {{255.0}}>
    {{
        {pixels}
        scaled = Mul (pixels, half)
        shifted = Add (scaled, half)
        clamped = Clip (shifted, low, high)
        rounded = Round (clamped)
        last = Transpose <perm = [0, 2, 3, 1]> (rounded)
        images = Cast <to = {onnx.TensorProto.UINT8}> (last)
    }}"""
    inputs = (TensorSpec("x", "float32", (BATCH, *spec.latent_shape)),)
    return _graph("decoder", inputs, spec.outputs, text, (network,) if network else ())


def sampler(spec: GeneratorSpec, step: OnnxGraph, decoder: OnnxGraph) -> OnnxGraph:
    """A Loop over the rows of `table`: one graph for every sampler and any number of steps."""
    latent = ", ".join(["batch", *map(str, spec.latent_shape)])
    same = "".join(f", {tensor.name}" for tensor in conditions(spec))
    text = f"""
    <int64 first = {{0}}, int64 one = {{1}}, bool true = {{1}}>
    {{
        {_sizes()}
        {_start()}
        x, last_denoised, last_saved = Loop (rows, true, initial, zeros, zeros) <body = row_of_table (
            int64 index, bool go_on, float[{latent}] x_now, float[{latent}] previous, float[{latent}] saved
        ) => (bool going, float[{latent}] x_next, float[{latent}] denoised, float[{latent}] saved_next)
        <int64 next = {{1}}>
        {{
            going = Identity (go_on)
            row = Gather <axis = 1> (table, index)
            following = Add (index, next)
            draw = Min (following, last_draw)
            fresh = Gather <axis = 1> (noise, draw)
            x_next, denoised, saved_next = {CALL}.step (x_now, previous, saved, fresh, row{same})
        }}>
        images = {CALL}.decoder (x)
    }}"""
    return _graph("sampler", spec.inputs, spec.outputs, text, (step, decoder))


def unrolled(spec: GeneratorSpec, step: OnnxGraph, decoder: OnnxGraph, rows: int) -> OnnxGraph:
    """`rows` steps one after the other, for runtimes that cannot capture a Loop; `table` must have so many rows."""
    same = "".join(f", {tensor.name}" for tensor in conditions(spec))
    calls, state = [], "initial, zeros, zeros"
    for i in range(rows):
        calls += [
            f"row_{i} = Gather <axis = 1> (table, index_{i})",
            f"draw_{i} = Min (index_{i + 1}, last_draw)",
            f"fresh_{i} = Gather <axis = 1> (noise, draw_{i})",
            f"x_{i}, denoised_{i}, saved_{i} = {CALL}.step ({state}, fresh_{i}, row_{i}{same})",
        ]
        state = f"x_{i}, denoised_{i}, saved_{i}"
    indices = ", ".join(f"int64 index_{i} = {{{i}}}" for i in range(rows + 1))
    newline = "\n        "
    text = f"""
    <int64 first = {{0}}, int64 one = {{1}}, {indices}>
    {{
        {_sizes()}
        {_start()}
        {newline.join(calls)}
        images = {CALL}.decoder (x_{rows - 1})
    }}"""
    return _graph("sampler", fixed_rows(spec, rows), spec.outputs, text, (step, decoder))


def fixed_rows(spec: GeneratorSpec, rows: int) -> tuple[TensorSpec, ...]:
    """The spec's inputs with a table of so many rows."""
    return tuple(
        TensorSpec(tensor.name, tensor.dtype, (BATCH, rows, *tensor.shape[2:])) if tensor.name == "table" else tensor
        for tensor in spec.inputs
    )


def _sizes() -> str:
    return """
        rows_1 = Shape <start = 1, end = 2> (table)
        rows = Squeeze (rows_1)
        draws_1 = Shape <start = 1, end = 2> (noise)
        draws = Squeeze (draws_1)
        last_draw = Sub (draws, one)"""


def _start() -> str:
    """The state before the first row: the first draw, and nothing seen."""
    return """
        initial = Gather <axis = 1> (noise, first)
        zeros = Sub (initial, initial)"""


def _graph(
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    body: str,
    called: Sequence[OnnxGraph],
) -> OnnxGraph:
    """Parse a graph and inline its calls."""
    header = f'<ir_version: {IR_VERSION}, opset_import: ["": {OPSET}, "{CALL}": 1]>'
    edges = [", ".join(_edge(tensor) for tensor in tensors) for tensors in (inputs, outputs)]
    proto = onnx.parser.parse_model(f"{header}\n{name} ({edges[0]}) => ({edges[1]})\n{body}").graph
    constants = {tensor.name: f"{name}/{tensor.name}" for graph in subgraphs(proto) for tensor in graph.initializer}
    rename(proto, constants)
    inline(proto, {graph.name: graph for graph in called})
    tensors = {key: array for graph in called for key, array in graph.tensors.items()}
    return OnnxGraph(proto, tensors, tuple(inputs), tuple(outputs))


def _edge(tensor: TensorSpec) -> str:
    names = {"float32": "float", "int64": "int64", "uint8": "uint8"}
    return f"{names[tensor.dtype]}[{', '.join(map(str, tensor.shape))}] {tensor.name}"


def inline(proto: onnx.GraphProto, called: dict[str, OnnxGraph]) -> None:
    """Replace every call by the nodes of the graph that it names, the called graph's weights beside them, once."""
    for index, graph in enumerate(reversed(subgraphs(proto))):  # innermost first: an outer graph copies its nodes
        nodes, initializers = list(graph.node), {tensor.name: tensor for tensor in graph.initializer}
        del graph.node[:]
        for node in nodes:
            if node.domain != CALL:
                graph.node.append(node)
                continue
            callee = onnx.GraphProto()
            callee.CopyFrom(called[node.op_type].proto)
            rename(callee, _local_names(callee, node, f"{index}.{len(graph.node)}"))
            graph.node.extend(callee.node)
            initializers |= {tensor.name: tensor for tensor in callee.initializer}
        del graph.initializer[:]
        graph.initializer.extend(initializers.values())


def _local_names(callee: onnx.GraphProto, call: onnx.NodeProto, prefix: str) -> dict[str, str]:
    """A callee's values -> the caller's: edges by position, initializers as they are, the rest made unique."""
    kept = {tensor.name for tensor in callee.initializer}
    names = {
        name: f"{prefix}/{name}"
        for graph in subgraphs(callee)
        for node in graph.node
        for name in node.output
        if name and name not in kept
    }
    for graph in subgraphs(callee)[1:]:
        names |= {value.name: f"{prefix}/{value.name}" for value in graph.input}
    names |= dict(zip((value.name for value in callee.input), call.input, strict=True))
    return names | dict(zip((value.name for value in callee.output), call.output, strict=True))
