"""OpenMoji: only the published package is read, and what it draws lies white on black in Fashion-MNIST's frame."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from zoo.datasets import DatasetError, openmoji

SVG = '<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg"><path d="{path}"/></svg>'
TOP, LEFT = SVG.format(path="M0,0h72v36h-72z"), SVG.format(path="M0,0h36v72h-36z")


def archive(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            file.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_only_outlines_are_read() -> None:
    inside = {"package/black/svg/1F600.svg": TOP, "package/color/svg/1F600.svg": LEFT, "package/black/svg/x.txt": ""}
    assert list(openmoji.drawings(archive(inside))) == [("1F600", TOP)]


def test_skin_tones_are_told_from_bases() -> None:
    assert openmoji.has_skin_tone("1F44B-1F3FD")
    assert not openmoji.has_skin_tone("1F44B")
    assert not openmoji.has_skin_tone("1F3FB0")


def test_a_drawing_is_white_where_it_covers() -> None:
    pytest.importorskip("resvg_py")
    drawn = openmoji.draw(TOP)
    assert drawn.shape == (28, 28, 1)
    assert (drawn[:14] == 255).all()
    assert (drawn[14:] == 0).all()


def test_pictures_come_in_order_in_a_black_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py")
    data = archive({f"package/black/svg/{name}.svg": svg for name, svg in
                    (("2600", LEFT), ("1F600", TOP), ("1F44B-1F3FD", TOP), ("2601", LEFT))})  # fmt: skip
    monkeypatch.setattr(openmoji, "DIGEST", openmoji.hashlib.sha256(data).hexdigest())  # type: ignore[attr-defined]
    (tmp_path / openmoji.PACKAGE).write_bytes(data)
    pictures = openmoji.outlines(str(tmp_path / openmoji.PACKAGE))
    assert (pictures.shape, pictures.dtype) == ((2, 32, 32, 1), np.uint8)
    assert pictures[0, 2:16, 2:30].min() == 255
    assert pictures[1, 2:30, 2:16].min() == 255
    assert all(pictures.sum((1, 2, 3)) == 14 * 28 * 255)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / openmoji.PACKAGE
    with pytest.raises(DatasetError, match=r"fetch_openmoji\.sh"):
        openmoji.package(path)
    path.write_bytes(archive({"package/black/svg/1F600.svg": TOP}))
    with pytest.raises(DatasetError, match=r"not version 17\.0\.0 as published"):
        openmoji.package(path)


def test_a_relative_folder_is_one_of_the_directory_where_it_was_asked(tmp_path: Path) -> None:
    """`npm` is a stand-in here, which makes the file that it was asked for."""
    tools = tmp_path / "bin"
    tools.mkdir()
    npm = tools / "npm"
    npm.write_text("#!/bin/sh\ntouch openmoji-17.0.0.tgz\n")
    npm.chmod(0o755)
    script = Path(openmoji.__file__).with_name("fetch_openmoji.sh")
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", script, "data/openmoji"], cwd=tmp_path, env={"PATH": path}, check=True)
    assert (tmp_path / "data/openmoji/openmoji-17.0.0.tgz").is_file()
