"""`python -m tests.same_images REVISION`: does every checkpoint of the tree draw the same bytes as at REVISION?

Both revisions draw on this host through their own command line, so what is compared is all that lies between a
checkpoint's weights and its images: table, noise, export, ONNX Runtime. One line a checkpoint; 1 if one differs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]


def draw(checkout: Path, name: str, seeds: str, home: Path) -> np.ndarray:
    """uint8 NHWC of a checkpoint as the code in `checkout` draws it."""
    output = home / f"{name}.npz"
    command = [sys.executable, "-m", "genzoo", "sample", name, "--seeds", seeds, "-o", str(output), "--json"]
    # The genzoo of the folder, not the one that is installed; its tree, not one that was set.
    env = {key: value for key, value in os.environ.items() if key != "GENZOO_CHECKPOINTS"}
    env |= {"GENZOO_HOME": str(home), "PYTHONPATH": str(checkout)}
    subprocess.run(command, cwd=checkout, env=env, check=True, capture_output=True)
    images: np.ndarray = np.load(output)["images"]
    return images


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision")
    parser.add_argument("--seeds", default="0-15")
    parser.add_argument("names", nargs="*", help="checkpoints; all of the tree without")
    asked = parser.parse_args()
    names = asked.names or sorted(path.parent.name for path in (ROOT / "zoo/checkpoints").glob("*/config.json"))
    differing = 0
    with tempfile.TemporaryDirectory(prefix="same-images-") as folder:
        before = Path(folder, "before")
        git = ("git", "-C", str(ROOT), "worktree")
        subprocess.run([*git, "add", "--detach", "--quiet", str(before), asked.revision], check=True)
        try:
            for name in names:
                homes = [Path(folder, "home", side) for side in ("before", "now")]
                for home in homes:
                    home.mkdir(parents=True, exist_ok=True)
                old, new = (
                    draw(checkout, name, asked.seeds, home)
                    for checkout, home in zip((before, ROOT), homes, strict=True)
                )
                same = old.shape == new.shape and old.tobytes() == new.tobytes()
                differing += not same
                print(f"{name}: {len(new)} images, {'the same bytes' if same else 'DIFFERENT'}", flush=True)
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)
    print(f"{len(names) - differing} of {len(names)} checkpoints draw the same bytes as at {asked.revision}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
