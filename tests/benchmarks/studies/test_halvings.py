"""What the study of the chain concludes from its rows."""

from __future__ import annotations

from benchmarks.studies import halvings


def test_the_costliest_halving_and_the_steps_at_which_students_win_are_named() -> None:
    rows = [
        ("ddpm-s", 1000, None, None, 1.0, 1.0),
        ("ddpm-s-pd4", 4, 0.1, 0.1, 2.0, 2.0),
        ("ddpm-s-pd2", 2, 0.3, 0.35, 3.0, 9.0),
        ("ddpm-s, DDIM", 4, None, 0.4, 3.0, 3.0),
        ("ddpm-s, DDIM", 2, None, 0.6, 9.0, 8.0),
    ]
    said = halvings.answer(rows)
    assert "ends at 2 (0.30 from its teacher)" in said
    assert "DDIM in 4 steps" in said, "in two steps only one of the nets prefers the student"
    assert "DDIM in no number of steps" in halvings.answer(rows[:1] + rows[2:3] + rows[4:])
