"""How a server asks who is there: the challenges in WWW-Authenticate (RFC 9110, 11.6.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART = re.compile(rf'({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))|({_TOKEN})')


@dataclass(frozen=True)
class Challenge:
    """One way to say who one is. Scheme and parameters have lower-case names."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def challenges(header: str) -> list[Challenge]:
    """All of a header's, in its order; several may share one, and values need no quotes."""
    found: list[Challenge] = []
    for part in _PART.finditer(header):
        name, quoted, plain, scheme = part.groups()
        if scheme is not None:
            found.append(Challenge(scheme.lower()))
        elif found:
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found[-1].parameters.setdefault(name.lower(), value)
    return found
