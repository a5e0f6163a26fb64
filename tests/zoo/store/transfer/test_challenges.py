"""Headers by which servers ask who is there."""

from __future__ import annotations

import pytest

from zoo.store.transfer.challenges import Challenge, challenges

REALM = "https://auth.example/token"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f'Bearer realm="{REALM}",service="zoo"', [("bearer", {"realm": REALM, "service": "zoo"})]),
        (f"Bearer realm={REALM}, service=zoo", [("bearer", {"realm": REALM, "service": "zoo"})]),
        (f'BEARER Realm="{REALM}" , SERVICE = "zoo"', [("bearer", {"realm": REALM, "service": "zoo"})]),
        (
            f'Basic realm="a, b=\\"c\\"", Bearer realm="{REALM}"',
            [("basic", {"realm": 'a, b="c"'}), ("bearer", {"realm": REALM})],
        ),
        (f'Negotiate, Bearer realm="{REALM}"', [("negotiate", {}), ("bearer", {"realm": REALM})]),
        ("Basic", [("basic", {})]),
        ('Bearer realm="first",realm="second"', [("bearer", {"realm": "first"})]),
        ("", []),
        ('="\x00, ,,', []),
    ],
)
def test_every_challenge_of_a_header_is_read(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert challenges(header) == [Challenge(*each) for each in expected]
