"""Imported one-shot generators: an ONNX model that makes images of noise, perhaps a class and numbers, in one call.

The reference is ONNX Runtime on the model as it came; what is exported is the same model in the house's opset, with the
house's edges around it, so the gate judges that conversion. Its weights are the checkpoint's; the rest of it, which is
small, is part of the config.
"""

from __future__ import annotations

import base64
import binascii
import threading
import time
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.contract.graph import OPSET, Graph
from zoo.family import Checkpoint, Family
from zoo.images import PixelError, to_images
from zoo.networks.onnx_edges import RANGES as RANGES
from zoo.networks.onnx_edges import OnnxConfig as OnnxConfig
from zoo.networks.onnx_edges import Scalar as Scalar

WEIGHT = "weight/"  # before the name of each tensor that lies in the checkpoint's file
TORCH = {1: torch.float32, 10: torch.float16}  # onnx.TensorProto's FLOAT and FLOAT16


def parse(config: OnnxConfig) -> Any:
    """The ModelProto without its weights. Raises UntrustedError, ValueError."""
    import onnx

    from zoo.untrusted.onnx import check_bytes, check_model

    try:
        data = base64.b64decode(str(config.model["onnx"]), validate=True)
    except (KeyError, binascii.Error) as error:
        raise ValueError("its ONNX model is missing or no base64") from error
    label = Path("config.json")
    check_bytes(data, label)
    model = onnx.ModelProto.FromString(data)
    check_model(model, label, empty=WEIGHT)
    return model


class OnnxGenerator(nn.Module):
    """`forward(noise, class_ids, *numbers)`: (B, 1, ...), (B, 1) int64, each (B, 1) -> uint8 NHWC.

    By ONNX Runtime on the original. What the model does not take is left out.
    """

    def __init__(self, config: OnnxConfig) -> None:
        super().__init__()
        self.config, self.skeleton = config, parse(config)
        for tensor in self.skeleton.graph.initializer:
            if tensor.name.startswith(WEIGHT):
                self.register_buffer(tensor.name, torch.empty(tuple(tensor.dims)))

    def complete(self) -> Any:
        """The model as it came, with its weights."""
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self.skeleton)
        buffers = dict(self.named_buffers())
        for tensor in model.graph.initializer:
            if tensor.name in buffers:
                values = buffers[tensor.name].detach().cpu().to(TORCH[tensor.data_type])
                tensor.raw_data = values.contiguous().numpy().tobytes()
        return model

    @cached_property
    def session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        return onnxruntime.InferenceSession(
            self.complete().SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def raw(self, noise: Tensor, *conditions: Tensor, limit_s: float = inf) -> Tensor:
        """What the model itself gives. Raises TimeoutError where it has not ended after `limit_s` seconds."""
        began, size = time.monotonic(), 1 if self.config.alone else max(1, len(noise))
        found = [
            self._run(self._feeds(*(each[at : at + size] for each in (noise, *conditions))), limit_s, began)
            for at in range(0, max(1, len(noise)), size)
        ]
        return torch.from_numpy(np.concatenate(found))

    def _feeds(self, noise: Tensor, *conditions: Tensor) -> dict[str, Any]:
        """The model's own inputs, of a batch."""
        config, given = self.config, list(conditions)
        feeds = {config.inputs[0]: noise[:, 0] if config.squeezed else noise}
        if len(config.inputs) == 2:
            feeds[config.inputs[1]] = self._classes(given.pop(0))
        for scalar, values in zip(config.scalars, given, strict=True):
            feeds[scalar.input] = values.reshape({0: (), 1: (-1,), 2: (-1, 1)}[scalar.axes])
        return {name: tensor.contiguous().numpy() for name, tensor in feeds.items()}

    def _classes(self, ids: Tensor) -> Tensor:
        if self.config.classes == "one_hot":
            return nn.functional.one_hot(ids[:, 0], self.config.class_count).float()
        ids = ids.int() if self.config.classes == "int32" else ids
        return ids[:, 0] if self.config.class_axes == 1 else ids

    def _run(self, feeds: dict[str, Any], limit_s: float, began: float) -> Any:
        """The output, unless the run is stopped: the runtime looks between two nodes, also inside a Loop."""
        import onnxruntime

        options, late = onnxruntime.RunOptions(), threading.Event()

        def stop() -> None:
            late.set()
            options.terminate = True

        timer = threading.Timer(max(0.0, began + limit_s - time.monotonic()), stop)
        timer.daemon = True
        if limit_s < inf:
            timer.start()
        try:
            return self.session.run([self.config.output], feeds, options)[0]
        except Exception as error:  # ONNX Runtime's errors have no common root
            if late.is_set():
                raise TimeoutError(f"it had not ended after {limit_s:g} s") from error
            raise
        finally:
            timer.cancel()

    def forward(self, noise: Tensor, *conditions: Tensor) -> Tensor:
        output = self.raw(noise, *conditions)
        if self.config.channels_last:
            output = output.permute(0, 3, 1, 2)
        if self.config.range in ("uint8", "bytes"):  # in [-1, 1] a half of a grey level may be rounded to another
            if not bool(torch.isfinite(output).all()):
                raise PixelError("pixels are NaN or infinite: the weights are damaged")
            return output.float().clamp(0.0, 255.0).round().permute(0, 2, 3, 1).to(torch.uint8)
        images: Tensor = to_images(output if self.config.range == "symmetric" else output * 2.0 - 1.0)
        return images

    def onnx_model(self) -> Any:
        """The model in the house's opset, functions inlined, between the inputs and the output of `GeneratorSpec`."""
        from zoo.networks.onnx_edges import between_edges

        return between_edges(self.complete(), self.config, OPSET)


def graphs(module: OnnxGenerator, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


FAMILY = Family(build=OnnxGenerator, graphs=graphs, checkpoints=(), config=OnnxConfig)
