"""The studies of what was tuned from the base: what counts as ink, and that answers say what rows say."""

from __future__ import annotations

import numpy as np

from benchmarks.quality.judges.designs import CAPTIONED
from benchmarks.studies import adapters, control, editing, enlarging, faces, layouts, reference, repainting, subject
from zoo.datasets import one_person as person
from zoo.datasets import scene_maps
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.inked_designs import INK, PAPER
from zoo.datasets.portraits import portrait


def test_ink_is_what_lies_between_paper_and_ink() -> None:
    shades = np.stack([PAPER, INK, 0.5 * (PAPER + INK), np.array([220.0, 40.0, 40.0]), np.array([60.0, 200.0, 80.0])])
    found = adapters.in_ink(np.rint(shades).astype(np.uint8).reshape(1, 1, 5, 3))
    assert found.ravel().tolist() == [True, True, True, False, False]


def test_both_answers_are_those_of_the_rows() -> None:
    rows = [
        (row.title, row.setting.num_steps, row.calls, "0.5 (0 to 1)", "0.25 (0 to 1)", "0.125", "0.0000")
        for row in adapters.ROWS
    ]
    said = adapters.answer(rows)
    assert "the base has 50.0% right" in said
    assert "50.0% in 1, 50.0% in 2, 50.0% in 4, 50.0% in 8." in said
    assert "changes 0.00% of the pixels" in said
    assert len(rows[0]) == len(adapters.COLUMNS)
    told = [(name, *(f"{share} (0 to 1)" for share in (0.9, 0.8, 0.7, 0.6, 0.5))) for name in "abc"]
    assert "the base, told all in words, 90.0% and 70.0%." in subject.answer(told)
    assert len(told[0]) == len(subject.COLUMNS)


def test_the_judge_knows_who_the_person_is() -> None:
    heads = {attribute for style, attribute in CAPTIONED.heads if style == person.STYLE.name}
    assert {*person.IDENTITY, *subject.ASKED} == heads


def test_lines_agree_within_a_pixel_and_no_further() -> None:
    wanted = np.zeros((1, 8, 8, 1), np.uint8)
    wanted[0, 2] = 255
    assert control.agreement(wanted, wanted) == 1.0
    assert control.agreement(np.roll(wanted, 1, axis=1), wanted) == 1.0
    assert control.agreement(np.roll(wanted, 2, axis=1), wanted) == 0.0
    both = wanted | np.roll(wanted, 4, axis=1)
    np.testing.assert_allclose(control.agreement(both, wanted), 2 / 3)
    assert control.agreement(np.zeros_like(wanted), wanted) == 0.0


def test_a_step_is_across_the_edge_of_a_mask_alone() -> None:
    pictures = np.zeros((1, 4, 4, 3), np.uint8)
    pictures[:, :, 2:] = 60
    new = np.zeros((1, 4, 4), bool)
    new[:, :, 2:] = True
    assert repainting.steps(pictures, new).tolist() == [60.0]
    assert repainting.steps(pictures, np.roll(new, 2, axis=2) & (np.arange(4) < 1)).tolist() == [0.0]
    own = ("a", "all", "0.5", "0.5", 0, "1.0", "3.0")
    assert "right in 50.0%" in repainting.answer([own, own, own, own])
    assert len(own) == len(repainting.COLUMNS)


def test_a_box_has_the_share_of_its_colour() -> None:
    pictures = np.zeros((1, 64, 64, 3), np.uint8) + scene_maps.COLOURS[0].astype(np.uint8)
    pictures[:, 32:48, 32:64] = scene_maps.COLOURS[scene_maps.FIGURES + 2]
    boxes = np.array([[[2, 0.5, 0.5, 1.0, 1.0], [2, 0.0, 0.0, 0.5, 0.5], [-1, 0, 0, 0, 0]]], np.float32)
    assert layouts.shares(pictures, boxes).tolist() == [0.5, 0.0]
    rows = [("a", "0.5 (0 to 1)", "0.25 (0 to 1)", "1 (0 to 1)")] * 5
    assert "Of a box 50.0% has its figure's colour" in layouts.answer(rows)
    assert len(rows[0]) == len(layouts.COLUMNS)


def test_bicubic_of_one_colour_is_that_colour() -> None:
    small = np.full((2, 4, 4, 3), 70, np.uint8)
    assert (enlarging.bicubic(small) == np.full((2, 16, 16, 3), 70, np.uint8)).all()


def test_what_is_told_of_a_person_and_of_an_edit_is_what_the_rows_say() -> None:
    told = [(name, "0.9 (0 to 1)", "0.8 (0 to 1)", "0.7 (0 to 1)", "0.6 (0 to 1)") for name in "abcdef"]
    assert "90.0% of who somebody is are right in the design of the face and 80.0% in another" in faces.answer(told)
    assert len(told[0]) == len(faces.COLUMNS)
    edits = [(f"t edit={share}", str(1 - share), "0", str(share**2), "0", "1") for share in (0.0, 0.5, 1.0)]
    said = editing.answer([*edits, edits[0]])
    assert "together most at edit=0.0" in said
    assert len(edits[0]) == len(editing.COLUMNS)


def test_another_s_prompt_is_of_the_same_design_and_of_another_picture() -> None:
    shown = [portrait(style, index) for style in DESIGNS[:2] for index in range(control.IMAGES)]
    own, others = (control.prompts(kind, shown) for kind in ("all", "another's"))
    assert [each.split()[0] for each in own] == [each.split()[0] for each in others]
    assert all(one != other for one, other in zip(own, others, strict=True))
    assert sorted(own) == sorted(others)
    assert set(control.prompts("nothing", shown)) == {""}


def test_control_says_what_its_rows_say() -> None:
    rows = [(row.name, row.prompt, f"0.{index}00", None, "0.5 (0 to 1)") for index, row in enumerate(control.ROWS)]
    said = control.answer(rows)
    assert "at 0.20 where it says all, 0.30 where it says the design," in said
    assert said.endswith("as the base's do, 0.60.")
    assert len(rows[0]) == len(control.COLUMNS)


def test_a_reference_is_asked_of_held_out_combinations_of_each_design() -> None:
    found = reference.chosen()
    assert len(found) == reference.IMAGES * len(DESIGNS)
    assert all(each.wanted.held_out for each, _ in found)
    rows = [
        (f"{scale}", f"{0.1 * index:.1f} (0 to 1)", "0.5 (0 to 1)", "0.5")
        for index, scale in enumerate(reference.SCALES)
    ]
    assert reference.answer(rows).startswith("With the picture beside, what the prompt says is right in 20.0%")
    assert reference.SCALES[2] == 1.0
