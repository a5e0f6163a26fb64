"""An ONNX model that makes images in one call -> a checkpoint of the family `onnx_generator`.

Its tensors say what it is: float32 noise, perhaps a class (whole numbers, or float32 one-hot) and single numbers, and
images: whole numbers or floats, NCHW or NHWC, whose range is measured by running it once on the noise of sixteen seeds,
or said by who imports it. What it becomes in the house's opset is run too, and must give the same.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo import shelf
from zoo.contract.conditions import Condition, scalar
from zoo.contract.graph import OPSET
from zoo.contract.layout import WEIGHTS
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError
from zoo.exchange.importing import onnx_tensors, weights
from zoo.exchange.importing.draft import UNKNOWN, Draft, ImportingError
from zoo.exchange.importing.onnx_tensors import CHANNELS, Tensors
from zoo.family import Checkpoint, class_conditional
from zoo.files import atomic
from zoo.sampling import noise
from zoo.untrusted.onnx import check_onnx, first_line, tensors

MAX_MODEL_BYTES = 2 << 20  # without its weights; it becomes text in config.json
WEIGHT_BYTES = 1024  # from which a tensor lies in the checkpoint's file
SEEDS = range(16)
LIMIT_S = 120.0  # for all of them together
SLACK = 0.05  # how far beyond its range a float image may reach
RANGES = {"-1,1": "symmetric", "0,1": "unit", "0,255": "bytes"}  # as they are said
IR_VERSION = 10  # from 4 on a graph need not list its constants among its inputs
MOST_APART = 1  # grey levels, of the model in another opset


@dataclass(frozen=True)
class Measured:
    """What the model gave for a few seeds."""

    values: np.ndarray  # (SEEDS, ...)
    range: str
    layout: str
    notes: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        _, *axes = self.values.shape
        height, width, channels = axes if self.layout == "nhwc" else (*axes[1:], axes[0])
        return height, width, channels


def draft(path: Path, scratch: Path, image_range: str | None = None) -> Draft:
    """Raises UntrustedError for a model that is not sound, ImportingError for one that is no one-shot generator."""
    import onnx
    import onnx.external_data_helper

    if image_range is not None and image_range not in RANGES:
        raise ImportingError(f"there is no range {image_range[:20]!r}: expected {', '.join(RANGES)}")
    model = check_onnx(path)
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        found = onnx_tensors.read(model, path)
        stored = _take_weights(model)
    except (ValueError, OSError, onnx.checker.ValidationError) as error:
        raise ImportingError(f"{path}: its tensors cannot be read ({first_line(error)})") from error
    return _draft(model, found, stored, path, scratch, image_range)


def _draft(
    model: Any, found: Tensors, stored: dict[str, np.ndarray], path: Path, scratch: Path, image_range: str | None
) -> Draft:
    from safetensors.numpy import save_file

    config = _config(model, found, path)
    file = scratch / WEIGHTS
    with atomic(file) as temporary:
        save_file(stored, temporary, metadata={"format": "np"})
    module = _module(config, stored)
    measured = _measured(module, found, path, RANGES[image_range] if image_range else None)
    config = replace(config, range=measured.range, layout=measured.layout)
    spec = _spec(found, measured.image_shape, path)
    known = Checkpoint(spec, config, dataset=UNKNOWN, licence=UNKNOWN)
    _check_conversion(_module(config, stored), spec, found, path)
    read = weights.read(file)
    record = shelf.record(known, file, read, weights.dtype(read), {})
    return Draft("ONNX generator", record, {WEIGHTS: file}, notes=(*measured.notes, *found.notes))


def _config(model: Any, found: Tensors, path: Path) -> Any:
    from zoo.families.onnx_generator import OnnxConfig, Scalar

    classes = found.classes
    return OnnxConfig(
        model={"onnx": _text(model, path)},
        inputs=(found.noise.name,) + ((classes.name,) if classes else ()),
        squeezed=found.squeezed,
        class_axes=len(classes.shape) if classes else 1,
        output=found.images.name,
        classes=found.class_form,
        class_count=found.class_count,
        scalars=tuple(Scalar(name, edge.name, len(edge.shape)) for name, edge in found.scalars.items()),
        alone=found.alone,
    )


def _spec(found: Tensors, image_shape: tuple[int, int, int], path: Path) -> GeneratorSpec:
    """Raises ImportingError for what no generator of ours can be."""
    spec = class_conditional("", "onnx_generator", found.latent, image_shape, found.class_count)
    numbers = tuple(
        Condition(name, "scalar", scalar.Options(low, high), default=default)
        for name, (low, high, default) in found.numbers.items()
    )
    spec = replace(spec, conditions=(*spec.conditions, *numbers))
    try:
        return GeneratorSpec.from_json(spec.to_json())
    except GenzooError as error:
        raise ImportingError(f"{path} cannot be asked here: {error}") from error


def _module(config: Any, stored: dict[str, np.ndarray]) -> Any:
    import torch

    from zoo.families.onnx_generator import OnnxGenerator

    module = OnnxGenerator(config)
    module.load_state_dict({name: torch.from_numpy(values.astype(np.float32)) for name, values in stored.items()})
    return module


def _given(found: Tensors) -> list[np.ndarray]:
    """The house's tensors of a few seeds, in the order of a spec's inputs."""
    given = [noise.normal(SEEDS, (1, *found.latent))]
    if found.class_count:
        given.append(np.arange(len(SEEDS))[:, None] % found.class_count)
    given += [np.full((len(SEEDS), 1), default, np.float32) for _, _, default in found.numbers.values()]
    return given


def _measured(module: Any, found: Tensors, path: Path, said: str | None) -> Measured:
    """What the model gives; its range and its layout, and a sentence that says them. Raises ImportingError."""
    import torch

    try:
        values = module.raw(*map(torch.from_numpy, _given(found)), limit_s=LIMIT_S).numpy()
    except TimeoutError as error:
        raise ImportingError(
            f"{path} was run on the noise of {len(SEEDS)} seeds, and {error}: it has a Loop that does not end, or is "
            "too large to be imported here"
        ) from error
    except Exception as error:  # ONNX Runtime's errors have no common root
        raise ImportingError(f"{path} cannot be run: {first_line(error)[:300]}") from error
    if values.ndim != 4 or len(values) != len(SEEDS):
        raise ImportingError(f"{path} gave {list(values.shape)} for {len(SEEDS)} seeds, expected an image each")
    layout, more = _layout(values, path)
    if values.dtype == np.uint8:
        if said:
            raise ImportingError(f"{path} gives whole numbers: they are what they are, leave --range out")
        return Measured(values, "uint8", layout, more)
    kind, note = _range(values, path, said)
    return Measured(values, kind, layout, (*more, note))


def _layout(values: np.ndarray, path: Path) -> tuple[str, tuple[str, ...]]:
    """Where the colours are; what both fit is what the type usually has, and said. Raises ImportingError."""
    usual = "nhwc" if values.dtype == np.uint8 else "nchw"
    fitting = [layout for layout, axis in (("nchw", 1), ("nhwc", 3)) if values.shape[axis] in CHANNELS]
    if not fitting:
        raise ImportingError(
            f"{path} gives images of {list(values.shape[1:])}: expected 1, 3 or 4 colours, on the first "
            "or the last axis of an image"
        )
    if len(fitting) == 1:
        return fitting[0], (f"its images are {fitting[0].upper()}",) if fitting[0] != usual else ()
    return usual, (f"its images of {list(values.shape[1:])} were taken as {usual.upper()}",)


def _range(values: np.ndarray, path: Path, said: str | None) -> tuple[str, str]:
    """The range of float images, and a sentence that says it. Raises ImportingError."""
    low, high = float(values.min()), float(values.max())
    gave = f"{len(SEEDS)} seeds gave {low:.3f} to {high:.3f}"
    if not np.isfinite(values).all():
        raise ImportingError(f"{path} gave values that are no numbers: {gave}")
    if said:
        words = next(word for word, kind in RANGES.items() if kind == said)
        return said, f"its images are in [{words.replace(',', ', ')}], as was said, and clamped to it: {gave}"
    if not (low >= -1.0 - SLACK and high <= 1.0 + SLACK):
        raise ImportingError(
            f"{path} gave values from {low:.3g} to {high:.3g}, expected images in [-1, 1] or [0, 1]: say which range "
            f"they are clamped to, --range {' or '.join(RANGES)}"
        )
    kind, words = ("unit", "[0, 1]") if low >= -SLACK else ("symmetric", "[-1, 1]")
    return kind, f"its images were taken to lie in {words}: {gave}"


def _check_conversion(module: Any, spec: GeneratorSpec, found: Tensors, path: Path) -> None:
    """Raises ImportingError where the model in the house's opset does not give what it gave as it came."""
    import onnxruntime
    import torch

    given = _given(found)
    expected = module(*map(torch.from_numpy, given)).numpy()
    try:
        model = module.onnx_model()
        _declare(model, spec)
        model.ir_version = max(model.ir_version, IR_VERSION)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        images = session.run(None, {tensor.name: each for tensor, each in zip(spec.inputs, given, strict=True)})[0]
    except Exception as error:  # ONNX Runtime's errors have no common root
        raise ImportingError(f"{path} cannot be exported: {first_line(error)[:300]}") from error
    apart = np.abs(images.astype(int) - expected.astype(int)).max() if images.shape == expected.shape else 256
    if apart > MOST_APART:
        version = next(entry.version for entry in onnx_tensors.imports(module.skeleton))
        raise ImportingError(
            f"{path} makes other images in opset {OPSET} than in its own {version}, {apart} grey levels apart: "
            f"export it in opset {OPSET}"
        )


def _declare(model: Any, spec: GeneratorSpec) -> None:
    """Give a graph the edges of a spec."""
    import onnx

    for values, specs in ((model.graph.input, spec.inputs), (model.graph.output, spec.outputs)):
        del values[:]
        for tensor in specs:
            kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
            values.append(onnx.helper.make_tensor_value_info(tensor.name, kind, tensor.shape))


def _take_weights(model: Any) -> dict[str, np.ndarray]:
    """Move the large floating tensors of a model out of it, under names of their own."""
    import onnx

    from zoo.families.onnx_generator import TORCH, WEIGHT

    found: dict[str, np.ndarray] = {}
    names: dict[str, str] = {}
    for tensor in tensors(model):
        if not tensor.HasField("raw_data") and not tensor.string_data:
            values = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)
            tensor.CopyFrom(values)
    for tensor in model.graph.initializer:
        if tensor.data_type not in TORCH or len(tensor.raw_data) < WEIGHT_BYTES:
            continue
        name = f"{WEIGHT}{tensor.name.replace('.', '/')}"
        if name in found:
            raise ValueError(f"two tensors are called {tensor.name}")
        found[name], names[tensor.name] = onnx.numpy_helper.to_array(tensor), name
        tensor.ClearField("raw_data")
        tensor.name = name
    _rename_inputs(model.graph, names)
    return found


def _rename_inputs(graph: Any, names: dict[str, str]) -> None:
    from zoo.untrusted.onnx import graphs_of

    kept = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(kept)
    for inner in graphs_of(graph):
        for node in inner.node:
            node.input[:] = [names.get(name, name) for name in node.input]


def _text(model: Any, path: Path) -> str:
    data = model.SerializeToString(deterministic=True)
    if len(data) > MAX_MODEL_BYTES:
        raise ImportingError(f"{path} has {len(data)} bytes beside its weights, at most {MAX_MODEL_BYTES} are taken")
    return base64.b64encode(data).decode()
