"""What is served was exported and admitted: one after the other, or side by side where several are not there yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.bundles import prepare_all
from zoo import shelf
from zoo.files import HOME_VARIABLE
from zoo.registry import UnknownNameError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))


def test_bundles_that_are_missing_are_made_side_by_side_and_come_in_order() -> None:
    said: list[str] = []
    names = ["vae", "gan", "vae"]
    bundles = prepare_all(names, said.append)
    assert [bundle.name for bundle in bundles] == names
    assert all(bundle.admitted for bundle in bundles)
    assert sorted(said) == ["gan is exported and admitted", "vae is exported and admitted"]
    assert [bundle.digest for bundle in prepare_all(names, said.append)] == [bundle.digest for bundle in bundles]
    assert len(said) == 2, "the second time they are there"


def test_what_goes_wrong_beside_the_others_is_told_as_it_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path / "tree"))
    for name in ("vae", "gan"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "config.json").write_bytes((shelf.TREE / name / "config.json").read_bytes())
        (tmp_path / "tree" / name / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(shelf.StoreError, match=r"model.safetensors has 7 bytes, expected"):
        prepare_all(["vae", "gan"])
    with pytest.raises(UnknownNameError, match="gam"):
        prepare_all(["vae", "gam"])
