"""The family tree grows from what checkpoints declare and from records of the weights that are here."""

from __future__ import annotations

from benchmarks.report.family_tree import FamilyTree
from tests.benchmarks.made_up import made_up, shipped
from zoo import shelf
from zoo.contract.request import Setting
from zoo.family import Branch


def test_systems_come_by_branch_and_then_as_their_papers_did(small_tree: FamilyTree) -> None:
    declared = [system for checkpoint in shipped() for system in checkpoint.systems]
    assert sorted(map(repr, declared)) == sorted(repr(place.system) for place in small_tree.places)
    for branch in Branch:
        papers = [place.system.published for place in small_tree.branch(branch)]
        assert papers == sorted(papers)
    assert [place.system.branch for place in small_tree.places] == sorted(
        (place.system.branch for place in small_tree.places), key=list(Branch).index
    )


def test_a_place_has_the_row_of_its_own_setting(small_tree: FamilyTree) -> None:
    rows = {place.title: place.row for place in small_tree.places if place.row}
    assert {title: row.percentile("onnxruntime").value for title, row in rows.items()} == {
        "gan": 1.5,
        "ddpm 50": 60.0,
        "ddpm 18 heun": 25.0,
        "ddpm-pd4 4": 6.0,
    }


def test_weights_that_are_not_here_are_not_shown() -> None:
    tree = FamilyTree.of(shipped(), made_up("gan", 1.0, 100, 1.0, weights="another's"))
    assert not any(place.row for place in tree.places)
    assert not tree.rows(Branch.GANS)


def test_every_trained_checkpoint_has_a_branch(small_tree: FamilyTree) -> None:
    members = {each.name for branch in Branch for each in small_tree.members(branch)}
    assert members == {each.name for each in shipped()}


def test_a_step_on_the_way_belongs_where_it_leads(small_tree: FamilyTree) -> None:
    from dataclasses import replace

    teacher, student = (each for each in small_tree.checkpoints if each.name in ("ddpm", "ddpm-pd4"))
    tree = replace(small_tree, checkpoints=(replace(teacher, systems=()), student))
    assert tree.members(Branch.FEW_STEPS) == list(tree.checkpoints)
    assert tree.members(Branch.DIFFUSION) == []


def test_other_settings_of_a_branch_are_among_its_rows() -> None:
    weights = shelf.config("ddpm")["weights"]["sha256"]
    tree = FamilyTree.of(shipped(), made_up("ddpm", 7.0, 100, 2.0, setting=Setting(5, "ddim"), weights=weights))
    assert [row.title for row in tree.rows(Branch.DIFFUSION)] == ["ddpm 5"]
    assert not any(place.row for place in tree.places)
