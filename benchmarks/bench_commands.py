"""`genzoo bench`: measure, which is meant where no command is named, and `verify`, `sign`, `compare` and `check`."""

from __future__ import annotations

import copy
import inspect
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from benchmarks.cli import RECORDS, bench

if TYPE_CHECKING:
    from benchmarks.compare import Comparison, Difference
    from benchmarks.receipts import Chain
    from benchmarks.verify import Verification

RELEASED = Path("docs/records/records.jsonl")
DEFAULT = "run"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Measured = Annotated[Path, typer.Argument(metavar="[RECORDS]", help="The file of records.")]
Margin = Annotated[float, typer.Option(min=0.0, max=1.0, help="How much slower a cell may be, as a share.")]


class WithDefault(TyperGroup):
    """Commands of which `run` is meant where none is named: `genzoo bench ddpm` is `genzoo bench run ddpm`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args and (args[0] in self.commands or args[0] == "--help")
        if not named and (args or not ctx.resilient_parsing):  # a shell that completes has named nothing yet
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """What `run` takes, and the other commands."""
        shown = copy.copy(self)
        shown.params = [*self.commands[DEFAULT].params, *self.params]
        shown.help = self.commands[DEFAULT].help
        super(WithDefault, shown).format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The commands, and what `run` completes."""
        default = self.commands[DEFAULT]
        inner = default.make_context(DEFAULT, [], parent=ctx, resilient_parsing=True)
        found = [*super().shell_complete(ctx, incomplete), *default.shell_complete(inner, incomplete)]
        if not incomplete.startswith("-"):
            found += [each for param in default.params for each in _values(param, inner, incomplete)]
        return list({each.value: each for each in found}.values())


def _values(param: Any, ctx: Any, incomplete: str) -> Sequence[Any]:
    return param.shell_complete(ctx, incomplete) if param.param_type_name == "argument" else ()


group = typer.Typer()
group.command(DEFAULT)(bench)
app = typer.Typer()
app.add_typer(
    group, name="bench", cls=WithDefault, help=inspect.getdoc(bench), subcommand_metavar="| COMMAND [ARGS]..."
)


@group.command()
def verify(
    records: Measured = RECORDS,
    key: Annotated[list[Path] | None, typer.Option(help="A trusted public key, PEM.")] = None,
    certificate: Annotated[list[Path] | None, typer.Option(help="A trusted root certificate, PEM.")] = None,
    head: Annotated[str, typer.Option(help="The digest that was published of the last receipt.")] = "",
    tables: Annotated[
        Path | None, typer.Option(help="The folder of README.md and docs/ whose tables are made again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check records: digests, receipts and signatures, and every number that follows from others.

    Published tables are made again from records that lie in docs/records, or where --tables names their folder.
    """
    from benchmarks import verify as verifying
    from zoo.store import signing

    trust = signing.trusted(key or (), certificate or ())
    root = tables if tables is not None else verifying.published_by(records)
    found = verifying.verify(records, trust, head=head, root=root)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "sound": found.sound}))
    else:
        _print_verification(found, records)
    if not found.sound:
        raise typer.Exit(1)


def _print_verification(found: Verification, path: Path) -> None:
    for sentence in found.faults:
        typer.echo(sentence)
    for note in found.notes:
        typer.echo(note)
    if found.signers:
        typer.echo(f"signed by {', '.join(found.signers)}")
    said = ", ".join(f"{count:,} {what}" for what, count in found.checked.items())
    typer.echo(f"{path}: {said}; {_faults(len(found.faults))}")
    following = f"genzoo bench sign {shlex.quote(str(path))} --sign-key KEY" if found.unsealed else "genzoo report"
    if found.sound or found.unsealed:
        typer.echo(f"next: {following}")


def _faults(count: int) -> str:
    return "no fault" if not count else "1 fault" if count == 1 else f"{count} faults"


@group.command()
def sign(
    records: Measured = RECORDS,
    sign_key: Annotated[Path | None, typer.Option(help="Sign with a private key, PEM.")] = None,
    sign_certificate: Annotated[Path | None, typer.Option(help="The certificate of --sign-key, PEM.")] = None,
    as_json: Json = False,
) -> None:
    """Seal the records that no receipt knows yet, in receipts beside them that are signed as models are.

    A signing key's password is read from $GENZOO_SIGN_PASSWORD.
    """
    from benchmarks import receipts
    from benchmarks.receipts import ReceiptError
    from zoo.exchange.commands.push import PASSWORD_VARIABLE
    from zoo.store.signing import SigningKey

    if sign_key is None:
        raise ReceiptError("nothing says who seals: name a private key (PEM, P-256, P-384 or P-521) with --sign-key")
    before = receipts.verify(records)
    chain = receipts.sign(records, SigningKey(sign_key, os.environ.get(PASSWORD_VARIABLE) or None, sign_certificate))
    _print_sealed(records, chain, chain.sealed - before.sealed, as_json)


def _print_sealed(path: Path, chain: Chain, new: int, as_json: bool) -> None:
    from benchmarks import receipts

    place = receipts.path_of(path)
    if as_json:
        record = {"receipts": str(place), "count": chain.receipts, "sealed": chain.sealed, "new": new}
        typer.echo(json.dumps({**record, "head": chain.head}))
        return
    typer.echo(f"{new} records were sealed, {chain.sealed} are, by {chain.receipts} receipts in {place}")
    typer.echo(f"head {chain.head}: publish it, and a cut end is noticed too")
    typer.echo(f"next: genzoo bench verify {shlex.quote(str(path))} --key PUBLIC.pem --head {chain.head}")


@group.command()
def compare(
    before: Annotated[Path, typer.Argument(help="A file of records.")],
    after: Annotated[Path, typer.Argument(help="Another, of the same cells.")],
    margin: Margin = 0.0,
    every: Annotated[bool, typer.Option("--all", help="Also what is indistinguishable.")] = False,
    as_json: Json = False,
) -> None:
    """Say what changed between two files of records, and whether it is more than chance."""
    from benchmarks import compare as comparing
    from benchmarks import records

    found = comparing.compare(records.read(before), records.read(after), margin)
    if as_json:
        typer.echo(json.dumps(_plain(found, margin)))
        return
    _print_comparison(found, every)
    typer.echo(f"next: genzoo bench check {shlex.quote(str(after))} --against {shlex.quote(str(before))}")


@group.command()
def check(
    records: Measured = RECORDS,
    against: Annotated[Path, typer.Option(help="The records of the release.")] = RELEASED,
    margin: Margin = 0.03,
    as_json: Json = False,
) -> None:
    """Fail where something is significantly worse than on the release's records: slower, or further from real pictures.

    Records of another machine are compared by what is relative to a reference.
    """
    from benchmarks import compare as comparing
    from benchmarks import records as reading

    found = comparing.compare(reading.read(against), reading.read(records), margin)
    losses = found.losses(margin)
    if as_json:
        typer.echo(json.dumps(_plain(found, margin)))
    else:
        _print_check(found, losses, against)
    if losses:
        raise typer.Exit(1)


def _print_check(found: Comparison, losses: Sequence[str], against: Path) -> None:
    for loss in losses:
        typer.echo(loss)
    if not found.same_machine:
        typer.echo("another machine measured the release: latencies are compared by their ratios to the reference only")
    if found.only_before:
        typer.echo(f"of the release, {len(found.only_before)} were not measured: {_few(found.only_before)}")
    compared = len({each.title for each in found.latency}), len({each.title for each in found.quality})
    typer.echo(
        f"{compared[0]} cells and {compared[1]} rows against {against}: {len(losses) or 'no'} significant losses"
    )
    typer.echo(f"next: genzoo bench {'compare' if losses else 'verify'} --help")


def _plain(found: Comparison, margin: float) -> dict[str, Any]:
    record = asdict(found)
    for column in ("latency", "quality"):
        words = [each.word for each in getattr(found, column)]
        record[column] = [{**each, "word": word} for each, word in zip(record[column], words, strict=True)]
    return {**record, "margin": margin, "losses": found.losses(margin)}


def _print_comparison(found: Comparison, every: bool) -> None:
    for change in found.changes:
        typer.echo(f"{change.what}: {change.before} -> {change.after} ({change.records} records)")
    for words, names in (("first", found.only_before), ("second", found.only_after)):
        if names:
            typer.echo(f"only in the {words}: {len(names)}, {_few(names)}")
    machines = "" if found.same_machine else ", of two machines"
    _print_differences(f"latency{machines}", found.latency, "ratio", every)
    _print_differences("quality", found.quality, "difference", every)
    for what, share in found.agreement.items():
        if share is not None:
            typer.echo(f"{_AGREEMENT[what]}: {100.0 * share:.1f} % of cells")


def _print_differences(heading: str, rows: Sequence[Difference], of: str, every: bool) -> None:
    """A table of what differs beyond chance, or of everything."""
    from rich.console import Console
    from rich.table import Table

    from benchmarks.statistics import ALIKE, short

    alike = [each for each in rows if each.word == ALIKE]
    shown = [each for each in rows if every or each not in alike]
    if rows:
        more = "" if every or not alike else "; --all shows them"
        typer.echo(f"\n{heading}: {len(alike)} of {len(rows)} numbers are indistinguishable{more}")
    if shown:
        table = Table("what", "number", "before", "after", of, "p, adjusted", "", box=None, header_style="bold")
        for each in shown:
            numbers = [short(each.before), short(each.after), _interval(each.estimate), f"{each.adjusted:.2g}"]
            table.add_row(each.title, each.column, *numbers, each.word)
        Console().print(table)


_AGREEMENT = {
    "time": "times agree within the interval of their difference",
    "time_overlap": "times have intervals that overlap",
    "relative": "ratios to the reference agree within the interval of their difference",
    "relative_overlap": "ratios to the reference have intervals that overlap",
    "close": "ratios to the reference are within 3 % of each other",
}


def _interval(found: Any) -> str:
    return f"{found.value:.3g} ({found.low:.3g} to {found.high:.3g})"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
