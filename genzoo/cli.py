"""The command line `genzoo`: small Typer apps, joined; errors become one sentence."""

from __future__ import annotations

import importlib
import inspect
import io
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata
from typing import Annotated

import typer
from typer.core import TyperGroup
from typer.models import CommandInfo, TyperInfo

from genzoo import failures

APPS = (
    "zoo.cli",
    "zoo.exchange.commands.pull",
    "zoo.exchange.commands.push",
    "zoo.exchange.commands.importing",
    "zoo.exchange.commands.maintenance",
    "export.cli",
    "export.tuning.cli",
    "serving.cli",
    "benchmarks.cli",
    "benchmarks.bench_commands",
    "benchmarks.transfers.pulls",
)
# In the order of `genzoo --help`.
PANELS = {
    "Look": ("list", "show", "sample", "doctor"),
    "Make": ("train", "export", "gate", "build", "tune", "index"),
    "Serve": ("serve", "reload", "repository", "deploy", "install-server"),
    "Measure": (
        *("demo", "bench", "race", "gpu", "report", "tree", "ratios", "profile"),
        *("study", "card", "train-features", "pulls"),
    ),
    "Exchange": ("pull", "push", "import", "verify", "gc", "release"),
}


class InOrder(TyperGroup):
    """Commands and groups of commands in the order of PANELS."""

    def list_commands(self, ctx: object) -> list[str]:
        order = [name for names in PANELS.values() for name in names]
        return sorted(self.commands, key=lambda name: order.index(name) if name in order else len(order))


app = typer.Typer(
    name="genzoo",
    cls=InOrder,
    help="A model zoo of image generators: checkpoint, ONNX, TensorRT, Triton, and a measured point for each.",
    epilog="Under --json a failure is the last line of standard error: an object of `error`, a sentence, and `type`.",
    pretty_exceptions_enable=False,
)


def _paragraphs(text: str) -> str:
    """Without the line ends of the source, which stand in the way of the terminal's own."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _join() -> None:
    """Every app's commands and groups, each in its panel; one without a place in PANELS stands below all others."""
    found: dict[str, CommandInfo | TyperInfo] = {}
    for module in APPS:
        joined = importlib.import_module(module).app
        for command in joined.registered_commands:
            found[_told(command)] = command
            app.registered_commands.append(command)
        for group in joined.registered_groups:
            found[group.name] = group
            app.registered_groups.append(group)
            for command in group.typer_instance.registered_commands:
                _told(command)
    for panel, names in PANELS.items():
        for name in names:
            found[name].rich_help_panel = panel


def _told(command: CommandInfo) -> str:
    """The name of a command, which is given its help."""
    assert command.callback
    command.help = _paragraphs(inspect.getdoc(command.callback) or "")
    return command.name or command.callback.__name__.replace("_", "-")


_join()


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"genzoo {metadata.version('genzoo')}")
        except metadata.PackageNotFoundError:
            typer.echo("genzoo, not installed: run from its source tree")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A model zoo of image generators: checkpoint, ONNX, TensorRT, Triton, and a measured point for each."""


@cache
def _command() -> Callable[..., object]:
    """The whole tree of commands, which takes longer to build than most of them take to fail."""
    return typer.main.get_command(app)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; exit with one sentence for what a person can act on."""
    words = sys.argv[1:] if words is None else words
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a lone surrogate, or a letter that the locale lacks
    with failures.interrupts() as interrupted:
        try:
            code = _command()(words or ["--help"], prog_name="genzoo", standalone_mode=False)
        except BaseException as error:
            failures.end(error, words, interrupted=bool(interrupted))
    sys.exit(code if isinstance(code, int) else 0)
