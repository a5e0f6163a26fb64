"""Text from outside before it is shown."""

from __future__ import annotations

import sys

import pytest

from zoo.plain import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("MIT, café, 猫, 🐈", "MIT, café, 猫, 🐈"),
        ("one\ntwo\r\nthree\tfour\u2028five", "one two  three four five"),
        ("\x1b[31mred\x07\x00", "\\x1b[31mred\\x07\\x00"),
        ("\x9b2J", "\\x9b2J"),
        ("nice\u202egnp.exe\u200b", "nice\\u202egnp.exe\\u200b"),
        ("half \ud800 a pair", "half \\ud800 a pair"),
        ("[/foo] {x} %s", "[/foo] {x} %s"),
    ],
)
def test_what_a_terminal_would_obey_is_made_visible(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_every_character_comes_out_as_one_that_can_be_printed_and_encoded() -> None:
    shown = printable("".join(map(chr, range(sys.maxunicode + 1))))
    assert shown.isprintable()
    shown.encode()
