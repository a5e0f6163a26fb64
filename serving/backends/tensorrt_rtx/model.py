"""TensorRT-RTX as a Triton backend written in Python: NVIDIA's own TensorRT backend does not load its plans.

Placed in the backend directory as `tensorrt_rtx`, it runs the plan that the configuration names for the compute
capability of its GPU, by the release of the library that built it, which the record beside the plan names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from export import cuda
from export.engine import EngineError, placed
from export.gpu_runners import TensorRTRunner
from serving.backends.graph_model import GraphModel


class TritonPythonModel(GraphModel):
    """Triton's interface."""

    def open(self, folder: Path, config: dict[str, Any], device: int) -> TensorRTRunner:
        cuda.use(device)
        here = cuda.gpu()
        file = config.get("cc_model_filenames", {}).get(here.capability) or config.get("default_model_filename")
        if not (file and (folder / file).is_file()):  # Triton puts in a default of its own
            raise EngineError(f"{config['name']} has no plan for {here}: the gate admitted none on its generation")
        return TensorRTRunner(placed(folder / file))
