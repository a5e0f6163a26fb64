"""A package of native code is made once, gives the reference's images at any batch size, and is loaded as it was."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
if not shutil.which("g++"):
    pytest.skip("AOTInductor calls a C++ compiler", allow_module_level=True)

from export.bundle import Bundle
from export.parity import image_error
from export.runners import RunnerError, TorchRunner
from export.runtimes import Executor, Runtime, aot, opened
from tests.examples import at_random
from zoo.contract.request import SampleRequest, Setting
from zoo.family import Checkpoint

EXECUTOR = Executor(Runtime.AOTINDUCTOR, threads=1)


@pytest.mark.longer
@pytest.mark.skipif(not at_random, reason="it compiles for a minute: in `make fuzz`")
def test_a_denoiser_makes_the_images_of_the_reference_at_any_batch_size(
    toy_diffusion: Checkpoint, toy_bundles: Mapping[str, Path]
) -> None:
    generator = opened(Bundle.open(toy_bundles["toy-diffusion"]), EXECUTOR)
    for count, guidance in ((1, 1.0), (3, 1.0), (3, 2.0), (70, 2.0)):
        asked = SampleRequest(tuple(range(count)), setting=Setting(2, guidance_scale=guidance))
        expected = TorchRunner(toy_diffusion).generator.sample(asked)
        assert image_error(expected, generator.sample(asked)).lsb <= 1


def test_a_package_is_made_once_and_loaded_only_as_it_was(
    toy_one_shot: Checkpoint, toy_bundles: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(toy_bundles["toy-linear"])
    opened(bundle, EXECUTOR)
    monkeypatch.setattr(aot, "_build", lambda *_: pytest.fail("it is there already"))
    generator = opened(bundle, EXECUTOR)
    for count in (1, 3, 70):
        asked = SampleRequest(tuple(range(count)))
        expected = TorchRunner(toy_one_shot).generator.sample(asked)
        assert image_error(expected, generator.sample(asked)).lsb <= 1
    folder = aot.package(toy_one_shot, EXECUTOR)
    code = folder / "generator.pt2"
    code.write_bytes(code.read_bytes() + b"\0")
    with pytest.raises(RunnerError, match="is native code that was altered since it was made: remove"):
        opened(bundle, EXECUTOR)


def test_a_package_is_of_its_numbers_and_threads(toy_diffusion: Checkpoint) -> None:
    keys = [aot.inputs(toy_diffusion, Executor(Runtime.AOTINDUCTOR, threads=threads)) for threads in (1, 2)]
    assert keys[0] != keys[1]
    assert {"checkpoint", "code", "torch", "machine", "precision"} <= set(keys[0])
    assert "export/runtimes/modules.py" in keys[0]["code"]
    assert np.all([key["threads"] == threads for key, threads in zip(keys, (1, 2), strict=True)])
