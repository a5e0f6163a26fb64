"""Graph surgery: from a denoiser's graph to the graph that makes images.

    step      (x, previous, saved, noise, row, conditions) -> (x_next, denoised, saved_next): a row of a sampler's table
    decoder   x -> images, uint8 NHWC: a latent model's own decoder, then the conversion of pixels
    sampler   (noise, conditions, weights, table, what is known) -> images: a Loop of steps, or a fixed number unrolled,
              then the decoder

They are written in ONNX's textual syntax around calls in the domain `genzoo`, which `inline` replaces by the graphs
that they name. A call's weights become initializers of the graph that holds the call: ONNX Runtime packs the weights of
a Loop's body only where they belong to the body. The arithmetic is that of `zoo.sampling.samplers.walk`, in float32.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import onnx
import onnx.parser

from export.onnx_graph import IR_VERSION, OnnxGraph, rename, subgraphs
from export.variant import LoopKind, Variant
from zoo.contract.graph import BATCH, ENCODE, OPSET, TensorSpec
from zoo.contract.spec import GeneratorSpec

CALL = "genzoo"  # the domain of calls to be inlined
WEIGHTS = "guidance_weights"
NEWLINE = "\n        "


def bundle_graphs(spec: GeneratorSpec, variant: Variant, traced: Mapping[str, OnnxGraph]) -> dict[str, OnnxGraph]:
    """A bundle's graphs by name, in the order in which data flows; the last is the entry, except for a host loop."""
    if spec.sampling is None:
        return dict(traced)
    one_step, last = step(spec, traced["denoiser"]), decoder(spec, traced.get("decoder"))
    graphs = {name: graph for name, graph in traced.items() if name.startswith(ENCODE)}
    graphs |= {"denoiser": traced["denoiser"], "step": one_step, "decoder": last}
    if variant.loop is LoopKind.ONNX:
        graphs["sampler"] = sampler(spec, one_step, last)
    elif variant.loop is LoopKind.UNROLLED:
        assert variant.steps is not None
        graphs["sampler"] = unrolled(spec, one_step, last, variant.steps)
    return graphs


def step(spec: GeneratorSpec, denoiser: OnnxGraph) -> OnnxGraph:
    """One row of the table for a batch in which every image may be at a row of its own.

    The state is flattened to (batch, values), so that the row's columns, (batch, 1) each, multiply it as they are.
    """
    assert spec.sampling is not None
    columns = spec.sampling.columns
    state: tuple[int | str, ...] = (BATCH, *spec.state_shape)
    inputs = (
        *(TensorSpec(name, "float32", state) for name in ("x", "previous", "saved", "noise")),
        TensorSpec("row", "float32", (BATCH, len(columns))),
        *(_of_a_row(tensor) for tensor in conditions(spec)),
    )
    outputs = tuple(TensorSpec(name, "float32", state) for name in ("x_next", "denoised", "saved_next"))
    constant, computed = _shape_of("state", "x", spec.state_shape)
    text = f"""
    <{constant}int64[1] all = {{-1}}, int64[1] one = {{1}}, int64[1] two = {{2}}, float whole = {{1.0}}>
    {{
        {computed}
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
        {_sum("X_free", ("a", "X"), ("b", "D"), ("p", "P"), ("s", "S"), ("n", "N"))}
        {_kept(spec)}
        {_sum("S_next", ("e", "X"), ("f", "D"), ("g", "S"))}
        x_next = Reshape (X_next, state)
        denoised = Reshape (D, state)
        saved_next = Reshape (S_next, state)
    }}"""
    return _graph("step", inputs, outputs, text, (denoiser,))


def conditions(spec: GeneratorSpec) -> tuple[TensorSpec, ...]:
    """The inputs that are neither noise nor table, and stay the same from row to row, but for guidance's weights."""
    ours = {each.name for each in spec.noise}
    return tuple(tensor for tensor in spec.inputs if tensor.name not in ours and tensor.name != "table")


def _of_a_row(tensor: TensorSpec) -> TensorSpec:
    """An input of the sampler as one row has it: the weights of its own."""
    if tensor.name != WEIGHTS:
        return tensor
    return TensorSpec(tensor.name, tensor.dtype, (tensor.shape[0], *tensor.shape[2:]))


def _shape_of(name: str, like: str, rest: Sequence[int | str]) -> tuple[str, str]:
    """The shape (-1, *rest) as a constant, or where a size is chosen, as nodes that read it off the tensor `like`."""
    if all(isinstance(axis, int) for axis in rest):
        return f"int64[{1 + len(rest)}] {name} = {{{', '.join(map(str, (-1, *rest)))}}}, ", ""
    return "", f"{name}_rest = Shape <start = 1> ({like})\n        {name} = Concat <axis = 0> (all, {name}_rest)"


def _kept(spec: GeneratorSpec) -> str:
    """The known part of the image, at the level of the row's end, in the place of the sampler's."""
    if not spec.edits:
        return "X_next = Identity (X_free)"
    return """noise_of_known = Mul (m, N)
        known_at_level = Add (known, noise_of_known)
        known_part = Mul (mask, known_at_level)
        unmasked = Sub (whole, mask)
        free_part = Mul (unmasked, X_free)
        X_next = Add (known_part, free_part)"""


def _guided_network(spec: GeneratorSpec) -> str:
    """F (batch, values) = the weighted sum over terms of the network's output, on batch * terms rows."""
    assert spec.sampling is not None
    ahead = spec.sampling.whole_steps
    if not spec.conditions:
        return f"""
        network_x = Reshape (scaled, state)
        levels = Reshape (c_noise, all)
        {"ends = Reshape (c_next, all)" if ahead else ""}
        output = {CALL}.denoiser (network_x, levels{", ends" if ahead else ""})
        F = Flatten (output)"""
    end = """
        end_per_term = Expand (c_next, grid)
        ends = Reshape (end_per_term, all)"""
    tensors = spec.network_inputs
    lines = [line for tensor in tensors for line in _rows(tensor)]
    taken = "".join(f", {tensor.name}_rows" for tensor in tensors)
    weighted = """
        weight = Unsqueeze (guidance_weights, two)
        weighted = Mul (output_per_term, weight)"""
    return f"""
        grid = Shape <start = 0, end = 2> ({tensors[0].name})
        grid_of_x = Concat <axis = 0> (grid, one)
        x_per_image = Unsqueeze (scaled, one)
        x_per_term = Expand (x_per_image, grid_of_x)
        network_x = Reshape (x_per_term, state)
        level_per_term = Expand (c_noise, grid)
        levels = Reshape (level_per_term, all){end if ahead else ""}
        {NEWLINE.join(lines)}
        output = {CALL}.denoiser (network_x, levels{taken}{", ends" if ahead else ""})
        grid_of_output = Concat <axis = 0> (grid, all)
        output_per_term = Reshape (output, grid_of_output){weighted if spec.guided else ""}
        F = ReduceSum <keepdims = 0> ({"weighted" if spec.guided else "output_per_term"}, one)"""


def _rows(tensor: TensorSpec) -> list[str]:
    """(batch, terms, *shape) -> (batch * terms, *shape)."""
    name = tensor.name
    if not tensor.shape:
        return [f"{name}_rows = Reshape ({name}, all)"]
    return [
        f"{name}_rest = Shape <start = 2> ({name})",
        f"{name}_shape = Concat <axis = 0> (all, {name}_rest)",
        f"{name}_rows = Reshape ({name}, {name}_shape)",
    ]


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
    inputs = (TensorSpec("x", "float32", (BATCH, *spec.state_shape)),)
    return _graph("decoder", inputs, spec.outputs, text, (network,) if network else ())


def sampler(spec: GeneratorSpec, step: OnnxGraph, decoder: OnnxGraph) -> OnnxGraph:
    """A Loop over the rows of `table`: one graph for every sampler and any number of steps."""
    latent = ", ".join(map(_identifier, (BATCH, *spec.state_shape)))
    text = f"""
    <int64 first = {{0}}, int64 one = {{1}}, bool true = {{1}}>
    {{
        {_sizes(spec)}
        {_start(spec)}
        x, last_denoised, last_saved = Loop (rows, true, initial, zeros, zeros) <body = row_of_table (
            int64 index, bool go_on, float[{latent}] x_now, float[{latent}] previous, float[{latent}] saved
        ) => (bool going, float[{latent}] x_next, float[{latent}] denoised, float[{latent}] saved_next)
        <int64 next = {{1}}>
        {{
            going = Identity (go_on)
            row = Gather <axis = 1> (table, index)
            following = Add (index, next)
            draw = Min (following, last_draw)
            fresh = Gather <axis = 1> ({spec.noise[0].name}, draw)
            {_weights_of(spec, "index", "")}
            x_next, denoised, saved_next = {CALL}.step (x_now, previous, saved, fresh, row{_same(spec, "")})
        }}>
        images = {CALL}.decoder (x)
    }}"""
    return _graph("sampler", spec.inputs, spec.outputs, text, (step, decoder))


def unrolled(spec: GeneratorSpec, step: OnnxGraph, decoder: OnnxGraph, rows: int) -> OnnxGraph:
    """`rows` steps one after the other, for runtimes that cannot capture a Loop; `table` must have so many rows."""
    calls, state = [], "initial, zeros, zeros"
    for i in range(rows):
        calls += [
            f"row_{i} = Gather <axis = 1> (table, index_{i})",
            f"draw_{i} = Min (index_{i + 1}, last_draw)",
            f"fresh_{i} = Gather <axis = 1> ({spec.noise[0].name}, draw_{i})",
            _weights_of(spec, f"index_{i}", f"_{i}"),
            f"x_{i}, denoised_{i}, saved_{i} = {CALL}.step ({state}, fresh_{i}, row_{i}{_same(spec, f'_{i}')})",
        ]
        state = f"x_{i}, denoised_{i}, saved_{i}"
    indices = ", ".join(f"int64 index_{i} = {{{i}}}" for i in range(rows + 1))
    text = f"""
    <int64 first = {{0}}, int64 one = {{1}}, {indices}>
    {{
        {_sizes(spec)}
        {_start(spec)}
        {NEWLINE.join(calls)}
        images = {CALL}.decoder (x_{rows - 1})
    }}"""
    return _graph("sampler", fixed_rows(spec, rows), spec.outputs, text, (step, decoder))


def fixed_rows(spec: GeneratorSpec, rows: int) -> tuple[TensorSpec, ...]:
    """The spec's inputs with a table of so many rows."""
    return tuple(
        TensorSpec(tensor.name, tensor.dtype, (BATCH, rows, *tensor.shape[2:])) if tensor.name == "table" else tensor
        for tensor in spec.inputs
    )


def _same(spec: GeneratorSpec, row: str) -> str:
    """What `step` takes beside its state, its noise and its row of the table; `row` ends the names of a row's own."""
    return "".join(f", {tensor.name}{'_now' + row if tensor.name == WEIGHTS else ''}" for tensor in conditions(spec))


def _weights_of(spec: GeneratorSpec, index: str, row: str) -> str:
    """The weights of a row: its own, or the last where there are fewer."""
    if not spec.guided:
        return ""
    return (
        f"weight_row{row} = Min ({index}, last_weight_row)\n            "
        f"{WEIGHTS}_now{row} = Gather <axis = 1> ({WEIGHTS}, weight_row{row})"
    )


def _sizes(spec: GeneratorSpec) -> str:
    weights = f"""
        weight_rows_1 = Shape <start = 1, end = 2> ({WEIGHTS})
        weight_rows = Squeeze (weight_rows_1)
        last_weight_row = Sub (weight_rows, one)"""
    return f"""
        rows_1 = Shape <start = 1, end = 2> (table)
        rows = Squeeze (rows_1)
        draws_1 = Shape <start = 1, end = 2> ({spec.noise[0].name})
        draws = Squeeze (draws_1)
        last_draw = Sub (draws, one){weights if spec.guided else ""}"""


def _start(spec: GeneratorSpec) -> str:
    """The state before the first row: the first draw, and nothing seen."""
    return f"""
        initial = Gather <axis = 1> ({spec.noise[0].name}, first)
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
    return f"{names[tensor.dtype]}[{', '.join(map(_identifier, tensor.shape))}] {tensor.name}"


def _identifier(axis: int | str) -> str:
    """An axis as ONNX's syntax takes it: "height/8" is a name of its own."""
    name = re.sub(r"\W", "_", str(axis))
    return name if isinstance(axis, int) or name[0].isalpha() else f"of_{name}"  # 2*height/4


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
