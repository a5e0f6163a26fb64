"""What went wrong, as one sentence for a person or, under `--json`, as one JSON object for a machine.

Both go to standard error, as its last line; standard output has results only. The exit code is the same for both: 1 for
what a command ran into, 2 for a command line that cannot be read, 130 for Ctrl-C.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer

from zoo.errors import GenzooError
from zoo.files import HOME_VARIABLE, HomeError, home
from zoo.plain import printable

(UsageError,) = typer.BadParameter.__bases__  # what every mistake in a command line derives from
LONG_WORD = re.compile(r"(\S{300})\S+")  # such as a name that is too long for a file system
EXTRAS = {
    "torch": "export",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxruntime": "cpu",
    "tensorrt_rtx": "engines",
    "tritonclient": "serving",
    "PIL": "serving",
    "tokenizers": "serving",
    "fastapi": "serving",
    "uvicorn": "serving",
    "mlperf_loadgen": "benchmarks",
    "threadpoolctl": "benchmarks",
    "jinja2": "benchmarks",
    "diffusers": "benchmarks",
    "model_signing": "signing",
    "cryptography": "signing",
    "huggingface_hub": "hub",
    "ray": "distributed",
}
REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)  # to write


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """A list that gets an entry with each Ctrl-C in the block: a library may make another error of the interrupt."""
    seen: list[int] = []

    def interrupt(number: int, _: object) -> NoReturn:
        seen.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where a shell wants it ignored
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def end(error: BaseException, words: Sequence[str], *, interrupted: bool = False) -> NoReturn:
    """Leave with what `error` says; one that says nothing to a person is raised again, with its traceback."""
    if interrupted or isinstance(error, KeyboardInterrupt | typer.Abort):
        sys.exit(130)
    sentence = described(error)
    if sentence is None:
        raise error
    sentence = LONG_WORD.sub(r"\1...", printable(sentence))
    if "--json" in words:
        typer.echo(json.dumps({"error": sentence, "type": type(error).__name__}), err=True)
    else:
        typer.echo(f"error: {sentence}", err=True)
    sys.exit(2 if isinstance(error, UsageError) else 1)


def described(error: BaseException) -> str | None:
    """One sentence; None for an error that is a fault of the code."""
    if isinstance(error, GenzooError):
        return str(error)
    if isinstance(error, UsageError):
        return _usage(error)
    if isinstance(error, ModuleNotFoundError):
        extra = EXTRAS.get((error.name or "").split(".")[0])
        return extra and f"this needs {error.name}, which is not installed: pip install 'genzoo[{extra}]'"
    if isinstance(error, OSError):
        return _system(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory for what was asked: ask for less at once"
    return None


def _usage(error: Any) -> str:
    command = error.ctx.command_path if error.ctx else "genzoo"
    said = str(error.format_message()).replace("Value error, ", "").rstrip(".")
    return f"{said}; `{command} --help` says what it takes"


def _system(error: OSError) -> str | None:
    """What the system refused, and where; a refusal without a path is a full disk's or nobody's."""
    half = "; nothing half-written was left behind" if error.errno in REFUSED else ""
    if error.filename is None:
        return f"{error.strerror}: while writing{half}" if half else None
    path = Path(os.fsdecode(error.filename))
    if _is_below_home(path):
        half = f"; genzoo's home is {home()}: set ${HOME_VARIABLE} to a folder that can be written{half}"
    return f"{error.strerror}: {path}{half}"


def _is_below_home(path: Path) -> bool:
    try:
        return path.is_relative_to(home())
    except HomeError:
        return False
