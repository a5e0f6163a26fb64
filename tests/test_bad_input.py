"""Each command under bad input, in this process: no traceback, one sentence, exit code 1 or 2, whatever the mistake.

A mistake is put into every parameter of every command in turn, by the parameter's type; a new command or a new option
is tested with no edit here but its line in `WORDS`.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from typer.models import ArgumentInfo

from genzoo import cli
from genzoo.failures import described
from zoo import registry, shelf
from zoo.files import HOME_VARIABLE

# What each command needs to be asked for something that is not there. FILE and FOLDER are what the mistakes take.
WORDS = {
    "show": ("no-such",),
    "sample": ("no-such", "-o", "grid.png"),
    "train": ("no-such",),
    "export": ("no-such",),
    "gate": ("no-such",),
    "build": ("no-such",),
    "tune": ("no-such",),
    "serve": ("no-such",),
    "reload": ("no-such",),
    "repository": ("no-such", "-o", "models"),
    "demo": ("--samples", "no-such"),
    "bench": ("no-such",),
    "report": ("--records", "no-such"),
    "tree": ("--records", "no-such"),
    "ratios": ("no-such",),
    "profile": ("no-such",),
    "race": ("no-such",),
    "study": ("no-such",),
    "card": ("no-such",),
    "gpu": ("no-such",),
    "train-features": ("no-such",),
    "pulls": ("--size", "no-such"),
    "pull": ("no-such", "--from", "folder"),
    "push": ("no-such", "folder"),
    "import": ("no-such",),
    "verify": ("no-such",),
    "gc": ("--max-size", "no-such"),
    "release": ("folder", "no-such", "--sign-key", "no-such.key"),
}
LEFT_OUT = {"list", "index", "install-server", "doctor"}  # take nothing that could be wrong
NO_LIMIT = [("--max-size", "no-such", "--max-size", ""), ("--max-size", "no-such", "--max-age", "")]
NAMES = ("", "no-such", "[/foo]", "../vae", "\x1b[31m", "a" * 5000, "\udcff", "vae\n")
PATHS = ("", "folder", "file", "file/below", "/proc/genzoo/below", "a" * 5000, "\udcff.npz/below.npz")
NUMBERS = ("", "-1", "x", "1" * 30, "1e400", "nan")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in with a home, a file and a folder, away from the checkout."""
    for name in ("home", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("neither JSON nor a picture\n")
    (tmp_path / "link").symlink_to("/nonexistent/genzoo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.delenv(shelf.TREE_VARIABLE, raising=False)
    monkeypatch.delenv("GENZOO_REMOTE", raising=False)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command line; an error that it lets through fails."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    code = ended.value.code
    assert isinstance(code, int), code
    return (code, *capsys.readouterr())


def fault(code: int, out: str, err: str) -> str | None:
    """What is wrong with the way a command failed; None where it is as promised."""
    lines = err.splitlines()
    if code not in (1, 2):
        return f"exit code {code}"
    if not lines or not lines[-1].startswith("error: ") or sum("error: " in line for line in lines) != 1:
        return f"not one sentence, last of all: {err!r}"
    if "Traceback" in err or not lines[-1].isprintable():
        return f"not for a person: {err!r}"
    return None


def commands() -> dict[str, Callable[..., None]]:
    found = {command.name or command.callback.__name__: command.callback for command in cli.app.registered_commands}
    return {name.replace("_", "-"): callback for name, callback in found.items() if name not in LEFT_OUT}


def mistakes(name: str) -> Iterator[tuple[str, ...]]:
    """The words of a command with one mistake each, in every parameter that takes a value."""
    words, place = WORDS[name], 0
    yield words
    for parameter, hint in get_type_hints(commands()[name], include_extras=True).items():
        if get_origin(hint) is not Annotated or hint.__origin__ is bool:
            continue
        [info] = hint.__metadata__
        given = [each for each in (info.default, *(info.param_decls or ())) if str(each).startswith("--")]
        option = given[0] if given else f"--{parameter.replace('_', '-')}"
        for value in values_of(hint.__origin__):
            yield (
                (*words[:place], value, *words[place + 1 :])
                if isinstance(info, ArgumentInfo)
                else (*words, option, value)
            )
        place += isinstance(info, ArgumentInfo)


def values_of(kind: Any) -> tuple[str, ...]:
    kinds = (kind, *get_args(kind))
    if any(isinstance(each, type) and issubclass(each, StrEnum) for each in kinds):
        return NAMES[:2]
    return PATHS if "Path" in str(kind) else NUMBERS if {int, float} & set(kinds) else NAMES


@pytest.mark.parametrize("name", commands())
def test_a_mistake_anywhere_is_one_sentence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = [(words, fault(*run(capsys, name, *words))) for words in mistakes(name) if words not in NO_LIMIT]
    assert [(words, wrong) for words, wrong in found if wrong] == []
    assert not Path("grid.png").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("sample", "ddpm-pd5", "--seeds", "0"), "did you mean"),
        (("sample", "vae", "--seeds", "0", "--class-ids", "12"), "class_id 12 is outside 0 to 9"),
        (("sample", "vae", "--seeds", "18446744073709551616"), "outside 0 to 2**64 - 1"),
        (("sample", "vae", "--seeds", "x"), "write one seed, a range or a list"),
        (("sample", "vae", "--seeds", "0", "--steps", "4"), "in one call"),
        (("sample", "ddpm-pd4", "--seeds", "0", "--steps", "3"), "trained for 4 steps, not 3"),
        (("sample", "ddpm", "--seeds", "0", "--sampler", "huen"), "did you mean heun"),
        (("export", "nothing"), "unknown checkpoint"),
        (("sample", "vae", "--seeds", "0-99999999999"), "at most 100,000 at once"),
        (("sample", "ddpm", "--seeds", "0", "--guidance-scale", "nan"), "guidance_scale nan"),
        (("train", "vae", "--data", "/nonexistent"), "dataset-fashion-mnist"),
        (("train", "vae", "--device", "tpu"), "device 'tpu' is not here: choose one of cpu"),
        (("train", "vae", "--images", "1"), "less than one batch of vae"),
        (("push", "vea", "folder"), "did you mean vae"),
        (("verify", "vea"), "did you mean vae"),
        (("card", "vea"), "did you mean vae"),
        (("study", "solver"), "did you mean solvers"),
        (("train-features", "criti"), "did you mean critic"),
        (("bench", "vae", "--runtime", "onnx"), "did you mean onnxruntime"),
        (("bench", "vae", "--scenario", "online"), "did you mean offline"),
        (("build", "vae", "--target", "sm8"), "'sm89'"),
        (("exprt", "vae"), "Did you mean 'export'"),
    ],
)
def test_what_was_seen_and_what_was_expected_is_said(
    words: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ("-o", "out.npz", "--runtime", "torch") if words[0] == "sample" else ()
    before = sorted(Path().rglob("*"))
    code, out, err = run(capsys, *words, *extra)
    assert fault(code, out, err) is None
    assert expected in err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("home", ["/dev/null", "file", "file/below", "link"])
@pytest.mark.parametrize(
    "line",
    [
        "list",
        "show vae",
        "sample vae -o grid.png",
        "sample vae -o grid.png --runtime torch",
        "sample vae -o grid.png --runtime triton",
        "train vae",
        "export vae",
        "gate vae",
        "build vae",
        "serve vae",
        "repository vae -o models",
        "demo",
        "bench vae",
        "ratios vae",
        "race vae",
        "card vae",
        "pull vae --offline",
        "push vae folder",
        "import folder",
        "verify",
    ],
)
def test_a_home_that_is_no_folder_is_one_sentence_that_names_it(
    line: str, home: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, home)
    before = sorted(Path().rglob("*"))
    code, out, err = run(capsys, *line.split())
    assert fault(code, out, err) is None
    assert home in err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("line", ["list", "show vae", "gc"])
def test_what_only_reads_needs_no_home(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, "/proc/genzoo")  # is not there, and nobody can make it
    assert run(capsys, *line.split())[0] == 0


def test_a_user_without_a_home_is_told_which_variable_to_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what Python does where the system knows no user
    for variable in (HOME_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    code, out, err = run(capsys, "show", "vae")
    assert (code, out, err) == (1, "", "error: this user has no home directory: set $GENZOO_HOME to a folder\n")
    assert described(FileNotFoundError(errno.ENOENT, "not there", "/x")) == "not there: /x"
    monkeypatch.setenv(HOME_VARIABLE, "home")
    assert run(capsys, "show", "vae")[0] == 0


def test_a_home_whose_name_is_no_text_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, "/tmp/\udcff\udcfe")
    code, out, err = run(capsys, *["sample", "vae", "-o", "grid.png"])
    assert fault(code, out, err) is None
    assert "/tmp/\\udcff\\udcfe is no text" in err


@pytest.mark.parametrize(
    ("line", "code", "kind"),
    [
        ("show vea", 1, "UnknownNameError"),
        ("sample vae --seeds 0-99999999999 -o grid.png", 1, "RequestError"),
        ("sample vae -o file/below.png", 1, "NotADirectoryError"),
        ("report --records no-such", 1, "RecordError"),
        ("list --jsn", 2, "NoSuchOption"),
        ("sample vae", 2, "MissingParameter"),
        ("sample vae -o grid.png --steps x", 2, "BadParameter"),
        ("lst", 2, "UsageError"),
    ],
)
def test_under_json_a_failure_is_an_object_on_standard_error(
    line: str, code: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seen, out, sentence = run(capsys, *line.split())
    assert fault(seen, out, sentence) is None
    assert run(capsys, *line.split(), "--json") == (
        code,
        "",
        json.dumps({"error": sentence.removeprefix("error: ").rstrip("\n"), "type": kind}) + "\n",
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_ctrl_c_and_a_lack_of_memory_end_quietly(
    error: type[BaseException], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(registry, "record", fail)
    code, out, err = run(capsys, "show", "vae")
    assert out == ""
    assert (code, err) == (130, "") if error is KeyboardInterrupt else fault(code, out, err) is None


def test_a_fault_of_the_code_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "record", lambda name: {}["no such key"])
    with pytest.raises(KeyError):
        cli.main(["show", "vae"])


@pytest.mark.parametrize("output", ["file/below.png", "/dev/null/a.png", "folder", "", "a.gif"])
def test_where_no_picture_can_be_written_is_said_before_one_is_made(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "sample", "no-such", "-o", output)
    assert fault(code, out, err) is None
    assert "no-such" not in err, "the name was looked up first"
