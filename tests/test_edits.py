"""Image-to-image, inpainting, mixtures and guidance on an interval, with trained checkpoints on every runtime.

The textbook loops are written out in NumPy, float64, around the checkpoint's own network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import genzoo
from export.bundle import Bundle
from export.runners import TorchRunner, bundle_generator
from serving import interface, model_repository
from serving.bundles import prepare
from serving.client import TritonRunner
from zoo import registry
from zoo.contract.errors import RequestError
from zoo.contract.generator import Generator
from zoo.contract.request import Columns, Mixture, SampleRequest, Setting, table
from zoo.datasets import fashion_mnist
from zoo.images import to_images, to_pixels
from zoo.sampling import noise

pytestmark = pytest.mark.usefixtures("zoo_home")
PIXELS, LATENTS = "ddpm", "ldm"
SEEDS = (3, 14)
CONTEXT = 8  # rows of a picture that are kept
RUNTIME_PIXELS = 0.002  # as in test_checkpoints: the share that may be one grey level apart


@cache
def reference(name: str) -> TorchRunner:
    return TorchRunner(registry.checkpoint(name))


@cache
def exported(name: str) -> Generator:
    return bundle_generator(bundle(name))


@cache
def bundle(name: str) -> Bundle:
    return prepare(name, judge=False)


@cache
def picture() -> np.ndarray:
    """A pullover that no checkpoint has seen, uint8 (32, 32, 1)."""
    image: np.ndarray = fashion_mnist.load("test").images[1]
    return image


@cache
def below() -> np.ndarray:
    """A mask, uint8 (32, 32, 1): all but the first rows is made anew."""
    mask = np.full((32, 32, 1), 255, np.uint8)
    mask[:CONTEXT] = 0
    return mask


def edit(setting: Setting, *, masked: bool = False, seeds: tuple[int, ...] = SEEDS, **given: Any) -> SampleRequest:
    mask = {"mask_image": (below(),)} if masked else {}
    return SampleRequest(seeds, {"image": (picture(),), **mask, **given}, setting)


def check_close(first: np.ndarray, second: np.ndarray, share: float = RUNTIME_PIXELS) -> None:
    """Fails where a pixel is more than one grey level apart, or more than a `share` of them is apart."""
    difference = np.abs(first.astype(int) - second.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= share


def distance(images: np.ndarray) -> float:
    """Mean grey levels from the picture."""
    return float(np.abs(images.astype(float) - picture()).mean())


@pytest.mark.parametrize("name", [PIXELS, LATENTS])
def test_strength_takes_effect_in_whole_steps(name: str) -> None:
    generator = exported(name)
    made = {strength: generator.sample(edit(Setting(10, strength=strength))) for strength in (0.3, 0.35, 0.39, 0.4)}
    np.testing.assert_array_equal(made[0.3], made[0.35])
    np.testing.assert_array_equal(made[0.3], made[0.39])
    assert (made[0.3] != made[0.4]).any()


@pytest.mark.parametrize(
    ("num_steps", "strength", "steps"),
    [(10, 0.3, 3), (10, 0.39, 3), (10, 0.01, 1), (10, 0.7, 7), (1000, 0.999, 999), (3, 1 / 3, 1), (10, 1.0, 10)],
)
def test_the_rows_of_an_edit_are_the_last_of_the_whole_way(num_steps: int, strength: float, steps: int) -> None:
    spec = exported(PIXELS).spec
    for travelled in (strength, float(np.float32(strength))):  # as in this process, and as a server is told it
        rows, whole = (table(spec, Setting(num_steps, strength=each)) for each in (travelled, None))
        assert rows is not None
        assert whole is not None
        assert len(rows) == steps
        np.testing.assert_array_equal(rows[1:], whole[num_steps - steps + 1 :])


@pytest.mark.parametrize("name", [PIXELS, LATENTS])
def test_the_stronger_the_farther_from_the_picture(name: str) -> None:
    made = [exported(name).sample(edit(Setting(10, strength=each))) for each in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)]
    found = [distance(images) for images in made]
    assert found == sorted(found)
    assert found[0] < 0.3 * found[-1]


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_at_full_strength_without_a_mask_nothing_is_left_of_the_picture(sampler: str) -> None:
    generator, setting = exported(PIXELS), Setting(4, sampler, strength=1.0)
    np.testing.assert_array_equal(
        generator.sample(edit(setting)), generator.sample(SampleRequest(SEEDS, setting=Setting(4, sampler)))
    )


MASKED = [
    *((name, Setting(4, sampler, strength=strength)) for name in (PIXELS, LATENTS)
      for sampler in ("ddim", "ddpm", "heun", "dpmpp_2m") for strength in (None, 0.5)),
    ("lcm", Setting(4)),
    ("ddpm-pd4", Setting(4, strength=0.75)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "setting"), MASKED)
def test_what_the_mask_keeps_is_kept_to_the_bit_and_the_rest_is_of_the_seed(name: str, setting: Setting) -> None:
    request = edit(setting, masked=True, class_id=(2,))
    images = exported(name).sample(request)
    kept = np.broadcast_to(picture()[:CONTEXT], (len(SEEDS), CONTEXT, 32, 1))
    np.testing.assert_array_equal(images[:, :CONTEXT], kept)
    assert len({image[CONTEXT:].tobytes() for image in images}) == len(SEEDS)
    check_close(images, reference(name).generator.sample(request))


def test_a_graph_of_pixels_keeps_them_by_itself() -> None:
    generator = exported(PIXELS)
    tensors = generator.feeds.of(edit(Setting(4, "ddpm"), masked=True))
    kept = generator.runner.run(**tensors)["images"][:, :CONTEXT]
    np.testing.assert_array_equal(kept, np.broadcast_to(picture()[:CONTEXT], kept.shape))


def network(classes: tuple[int, ...], weights: Callable[[float], list[float]]) -> Callable[[Any, float], np.ndarray]:
    """D(x, sigma) of v-prediction, float64, from the weighted sum of F over classes (10 is none)."""
    import torch

    module = reference(PIXELS).graphs["denoiser"].module

    def denoised(x: np.ndarray, sigma: float) -> np.ndarray:
        scale = 1.0 / np.sqrt(1.0 + sigma**2)
        time = torch.full((len(x),), 2.0 / np.pi * np.arctan(sigma))
        with torch.inference_mode():
            found = [
                module(torch.from_numpy((scale * x).astype(np.float32)), time, torch.full((len(x),), each)).numpy()
                for each in classes
            ]
        total = sum(weight * each for weight, each in zip(weights(sigma), found, strict=True))
        return np.asarray(scale**2 * x - sigma * scale * total)

    return denoised


def textbook(
    denoised: Callable[[Any, float], np.ndarray],
    sampler: str,
    num_steps: int,
    seeds: tuple[int, ...] = SEEDS,
    begin: tuple[np.ndarray, int] | None = None,
    masked: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """DDIM (Song et al. 2021, equation 12) or DDPM (Ho et al. 2020, equations 6 and 7): uint8 images.

    `begin` is a picture and the steps that are left out (Meng et al. 2022), `masked` the known picture and where it is
    known (Lugmayr et al. 2022, equation 8).
    """
    time = np.linspace(2.0 / np.pi * np.arctan(100.0), 0.0, num_steps + 1)[begin[1] if begin else 0 :]
    sigmas = np.tan(0.5 * np.pi * time)
    draws = noise.normal(seeds, (len(sigmas), 1, 32, 32)).astype(np.float64)
    x = sigmas[0] * draws[:, 0] + (begin[0] if begin else 0.0)
    for step, (now, following) in enumerate(pairwise(sigmas)):
        estimate = denoised(x, now)
        share = (following / now) ** 2
        draw = draws[:, step + 1] if sampler == "ddpm" else draws[:, 0]
        if sampler == "ddpm":
            x = share * x + (1.0 - share) * estimate + following * np.sqrt(1.0 - share) * draw
        else:
            x = estimate + following / now * (x - estimate)
        if masked:
            known, mask = masked
            x = mask * (known + following * draw) + (1.0 - mask) * x
    return np.asarray(to_images(as_torch(x)))


def as_torch(x: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(x.astype(np.float32))


def off(_: float) -> list[float]:
    return [1.0]


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_an_edit_is_the_textbook_loop(sampler: str, masked: bool, strength: float) -> None:
    known = to_pixels(picture()[None]).astype(np.float64)
    begin = (known, 4) if strength < 1.0 else None
    mask = (below().transpose(2, 0, 1)[None] < 128).astype(np.float64)
    expected = textbook(network((5,), off), sampler, 10, begin=begin, masked=(known, mask) if masked else None)
    request = edit(Setting(10, sampler, strength=strength), masked=masked, class_id=(5,))
    check_close(expected, exported(PIXELS).sample(request))


def mixture(setting: Setting) -> SampleRequest:
    return SampleRequest(SEEDS, {"class_id": (Mixture((7, 9), (3.0, 1.0)),)}, setting)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_mixture_is_the_weighted_sum_of_estimates(scale: float) -> None:
    weights = [0.75 * scale, 0.25 * scale, 1.0 - scale]
    expected = textbook(network((7, 9, 10), lambda _: weights), "ddim", 6)
    found = exported(PIXELS).sample(mixture(Setting(6, guidance_scale=scale)))
    check_close(expected, found)
    alone = exported(PIXELS).sample(SampleRequest(SEEDS, {"class_id": (7,)}, Setting(6, guidance_scale=scale)))
    assert (np.abs(found.astype(int) - alone) > 8).any(), "the second class says something too"


def test_guidance_is_on_at_the_levels_of_its_interval() -> None:
    def weights(sigma: float) -> list[float]:
        return [4.0, -3.0] if 0.3 <= sigma <= 5.0 else [1.0, 0.0]

    expected = textbook(network((9, 10), weights), "ddpm", 8)
    setting = Setting(8, "ddpm", 4.0, guidance_interval=(0.3, 5.0))
    check_close(expected, exported(PIXELS).sample(SampleRequest(SEEDS, {"class_id": (9,)}, setting)))


def asked() -> dict[str, SampleRequest]:
    """One request of each form, of as many images and three or four steps."""
    return {
        "plain": SampleRequest(SEEDS, setting=Setting(4)),
        "stochastic": SampleRequest(SEEDS, setting=Setting(3, "ddpm")),
        "guided": SampleRequest(SEEDS, setting=Setting(4, guidance_scale=2.0)),
        "on an interval": SampleRequest(SEEDS, setting=Setting(4, "heun", 3.0, guidance_interval=(0.3, 5.0))),
        "a mixture": mixture(Setting(4, "ddpm", 2.0)),
        "image-to-image": edit(Setting(4, strength=0.75)),
        "image-to-image by its own strength": edit(Setting(4, "dpmpp_2m")),
        "inpainting": edit(Setting(4, "ddpm"), masked=True),
        "inpainting from half-way": edit(Setting(4, "heun", strength=0.5), masked=True),
        "inpainting of a mixture": edit(
            Setting(4, strength=0.75), masked=True, class_id=(Mixture((1, 3), (1.0, 1.0)),)
        ),
    }


@cache
def alone(name: str) -> dict[str, np.ndarray]:
    return {form: exported(name).run(**columns(name, request))["image"] for form, request in asked().items()}


def columns(name: str, request: SampleRequest) -> Columns:
    return interface.tensors(exported(name).spec, request)


@pytest.mark.parametrize("name", [PIXELS, LATENTS])
def test_a_batch_of_everything_is_what_each_is_alone(name: str) -> None:
    generator, apart = exported(name), alone(name)
    parts = [columns(name, request) for request in asked().values()]
    together = generator.run(**interface.merged(generator.spec, parts))["image"]
    for expected, images in zip(apart.values(), np.split(together, len(parts)), strict=True):
        check_close(expected, images)
    rows = [len(group) for group in generator.feeds.executions(interface.merged(generator.spec, parts))]
    assert len(rows) < len(parts), "some of them share an execution"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server."""
    from serving.server import TritonServer

    folder = tmp_path_factory.mktemp("served")
    bundles = [bundle(name) for name in (PIXELS, LATENTS)]
    repository = model_repository.write(bundles, folder / "models", allow_unadmitted=True)
    with TritonServer(repository, folder / "triton.log") as server:
        yield server.grpc_url


@pytest.mark.parametrize("name", [PIXELS, LATENTS])
def test_triton_and_torch_give_the_same_images(name: str, served: str) -> None:
    runner, torch, here = TritonRunner(served, name), reference(name).generator, alone(name)
    given = {form: columns(name, request) for form, request in asked().items()}
    with ThreadPoolExecutor(len(given)) as pool:  # all at once: the server makes batches of them as it likes
        there = dict(zip(given, pool.map(lambda each: runner.run(**each)["image"], given.values()), strict=True))
    for form, images in here.items():
        check_close(images, there[form])
        check_close(images, torch.run(**given[form])["image"])


def test_a_way_from_seed_to_seed_begins_with_the_picture_too() -> None:
    generator = exported(PIXELS)
    request = edit(Setting(4, strength=0.5), masked=True, seeds=(1, 2), class_id=(2,))
    (frames,) = generator.between(request, 5)
    check_close(frames[[0, -1]], generator.sample(request))
    assert (frames[:, :CONTEXT] == picture()[:CONTEXT]).all()
    assert distance(frames[2:3]) < 20.0


def test_from_python_a_class_may_be_its_label_and_a_mixture_is_a_value() -> None:
    generator = genzoo.load(str(bundle(PIXELS).path))
    named = generator.sample(SEEDS, ["boot", 8], num_steps=2)
    np.testing.assert_array_equal(named, generator.sample(SEEDS, [9, "Bag"], num_steps=2))
    with pytest.raises(RequestError, match="did you mean boot"):
        generator.sample(SEEDS, "boots")
    mixed = generator.sample(SEEDS, class_id=Mixture((7, 9), (3.0, 1.0)), num_steps=6)
    check_close(mixed, exported(PIXELS).sample(mixture(Setting(6))))


@pytest.mark.parametrize(
    ("name", "conditions", "setting", "sentence"),
    [
        ("gan", {"image": (0,)}, Setting(), "gan takes no image: it makes its images in one call"),
        ("gan", {}, Setting(strength=0.5), "gan takes no strength: it makes its images in one call"),
        ("ddpm-pd1", {"image": (0,)}, Setting(), "ddpm-pd1 takes no image: it takes one step"),
        ("ddgan", {"mask_image": (0,)}, Setting(), r"ddgan takes no mask_image: its state \(2, 32, 32\) is no image"),
        (PIXELS, {"mask_image": (0,)}, Setting(), "mask_image was given and no image"),
        (PIXELS, {}, Setting(strength=0.5), "strength was given and no image"),
        (PIXELS, {"image": (0,)}, Setting(strength=0.0), "strength 0 is outside 0 to 1"),
        (PIXELS, {"image": (0,)}, Setting(strength=float("nan")), "strength nan is outside 0 to 1"),
        (PIXELS, {"image": (picture()[:16],)}, Setting(), r"image is uint8 \(16, 32, 1\): expected .* \(32, 32, 1\)"),
        (PIXELS, {"image": (picture() / 255.0,)}, Setting(), "image is float64"),
        ("gan", {"class_id": (Mixture((0, 1), (1.0, 1.0)),)}, Setting(), "class_id takes one value an image"),
        (PIXELS, {"class_id": (Mixture((0, 1), (1.0, -1.0)),)}, Setting(), "with a sum above 0"),
        (PIXELS, {"class_id": (Mixture(tuple(range(5)), (1.0,) * 5),)}, Setting(), "mixes 5 values: at most 4"),
        (PIXELS, {}, Setting(guidance_interval=(5.0, 0.2)), "two noise levels, the lower first"),
    ],
)  # fmt: skip
def test_what_cannot_be_edited_is_refused_by_name(
    name: str, conditions: dict[str, Any], setting: Setting, sentence: str
) -> None:
    spec = registry.checkpoint(name).spec
    with pytest.raises(RequestError, match=sentence):
        Generator(spec, Unasked()).sample(SampleRequest((0,), conditions, setting))


class Unasked:
    """A runner that is never reached."""

    def run(self, **_: np.ndarray) -> dict[str, np.ndarray]:
        raise AssertionError("a request that cannot be fulfilled was run")
