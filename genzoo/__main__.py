"""`python -m genzoo` is the command `genzoo`."""

import sys


def main() -> None:
    """The command line; Ctrl-C ends it quietly also while its modules are still being read."""
    try:
        from genzoo.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
