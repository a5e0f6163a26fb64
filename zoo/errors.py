"""The root of genzoo's errors: what the command line prints as one sentence, without a traceback.

Each package derives its own, beside what raises it; docs/errors.md draws the tree of all of them. A message says what
was seen, what was expected and what to do.
"""

from __future__ import annotations


class GenzooError(Exception):
    """Something that the person at the keyboard can act on."""


class StoreError(GenzooError):
    """A checkpoint or a blob is missing, truncated or altered; the message says which file, and what to do."""
