"""`python3 -m serving.entrypoint OPTION...`: becomes a deployment's `tritonserver`, closed to all administration.

Its secret is new at each start and nobody's: an orchestrator replaces the server where it has to be changed.
"""

from __future__ import annotations

import os
import secrets
import sys

from serving.endpoint import restrictions


def main(options: list[str]) -> None:
    """Does not return."""
    command = ["tritonserver", "--disable-auto-complete-config", *restrictions(secrets.token_hex(16)), *options]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
