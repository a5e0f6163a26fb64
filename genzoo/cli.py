"""The command line `genzoo`: small Typer apps, joined; errors become one sentence."""

from __future__ import annotations

import errno
import importlib
import sys

import typer

from zoo.errors import GenzooError

APPS = (
    "zoo.cli",
    "zoo.exchange.commands.pull",
    "zoo.exchange.commands.push",
    "zoo.exchange.commands.importing",
    "zoo.exchange.commands.maintenance",
    "export.cli",
    "serving.cli",
    "benchmarks.cli",
    "benchmarks.transfers.pulls",
)
EXTRAS = {
    "torch": "export",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxruntime": "cpu",
    "tensorrt_rtx": "engines",
    "tritonclient": "serving",
    "PIL": "serving",
    "mlperf_loadgen": "benchmarks",
    "threadpoolctl": "benchmarks",
    "jinja2": "benchmarks",
    "diffusers": "benchmarks",
    "model_signing": "signing",
    "cryptography": "signing",
    "huggingface_hub": "hub",
}

app = typer.Typer(
    name="genzoo",
    help="A model zoo of image generators: checkpoint, ONNX, TensorRT, Triton, and a measured point for each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for module in APPS:
    app.registered_commands += importlib.import_module(module).app.registered_commands


def main() -> None:
    """Run the command line; exit with 1 and one sentence for what a person can act on."""
    try:
        app()
    except GenzooError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        _fail(f"this command needs {error.name}, which is not installed: pip install 'genzoo[{extra}]'")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
            raise
        _fail(f"{error.strerror}: {error.filename or 'while writing'}; nothing half-written was left behind")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(sentence: str) -> None:
    typer.echo(f"error: {sentence}", err=True)
    sys.exit(1)
