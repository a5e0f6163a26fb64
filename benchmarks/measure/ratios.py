"""What the fused graph, and what was tuned, are worth: against the same checkpoint in a plain PyTorch loop, against the
best of what others would run it with, against a diffusers pipeline of a network of the same size; and what Triton adds.

Contenders take turns, all in one run. Each round gives a ratio; the median of the rounds is what is published, with its
interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks import environment, records
from benchmarks.measure import sweep, workload
from benchmarks.records import Record
from benchmarks.statistics import Estimate, percentile
from export.bundle import Bundle
from export.runners import OnnxRuntimeRunner
from export.runtimes import Executor, opened
from export.tiers import TIERS, Tier, tier
from export.tuning.candidates import PEERS, candidates, is_peer, usable
from export.tuning.record import Tuned, executor_of
from export.tuning.turns import BURST, SETTLE, Contender, interleaved
from export.tuning.variants import beside
from zoo import registry
from zoo.contract.errors import RequestError
from zoo.contract.feeds import Runner, Tensors, feeds
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.spec import GeneratorSpec

STEPS, BATCHES, OVERHEAD_STEPS = (1, 2, 4), (1, 16), 1
FUSED, PLAIN, DIFFUSERS = "fused", "plain PyTorch loop", "diffusers pipeline"


def measure(bundle: Bundle, rounds: int, *, triton: bool) -> Record:
    """The whole comparison as one record. Raises GenzooError."""
    import torch

    _check(bundle.spec)
    found, tiers = lines(bundle, rounds)
    overhead = None
    if triton:
        with sweep.endpoints("triton", [bundle]) as connect:
            overhead = triton_overhead(sweep.in_process(bundle), connect(bundle), OVERHEAD_STEPS, rounds)
    identity = {
        "checkpoint": bundle.name,
        "artifact": bundle.digest,
        "protocol": {"rounds": rounds, "settle": SETTLE, "burst": BURST, "torch_threads": torch.get_num_threads()},
        "machine": environment.machine(),
    }
    content = {
        "lines": found,
        "tiers": tiers,
        "triton": overhead,
        "sizes": sizes(bundle.name),
        "environment": environment.describe(),
    }
    return records.make("ratio", identity, **content)


def _check(spec: GeneratorSpec) -> None:
    """Raises RequestError for what the other two cannot be compared with."""
    height, width, channels = spec.image_shape
    if spec.sampling is None or spec.sampling.steps or spec.latent_shape != (channels, height, width):
        raise RequestError(f"{spec.name} is no denoiser of pixels at any number of steps: name one, like ddpm or fm")


def lines(
    bundle: Bundle, rounds: int, steps: Sequence[int] = STEPS, batches: Sequence[int] = BATCHES
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The fused graph against the others, and by tier what was tuned here against the best peer of that tier.

    For each number of steps and batch size. Nothing of tiers where nothing was tuned for this host.
    """
    fused, pipeline = OnnxRuntimeRunner(bundle), DiffusersPipeline()
    plain, fields = plain_torch(bundle.name), {batch: Field.of(bundle, batch) for batch in batches}
    found, tiers = [], []
    for num_steps in steps:
        for batch in batches:
            tensors = feeds(bundle.spec, SampleRequest(tuple(range(batch)), setting=Setting(num_steps)))
            contenders: dict[str, Contender] = {
                FUSED: partial(fused.run, **tensors),
                PLAIN: partial(plain, tensors),
                DIFFUSERS: partial(pipeline, batch, num_steps),
                **fields[batch].contenders(tensors),
            }
            times = interleaved(contenders, rounds)
            best = fields[batch].best(TIERS[0], times)
            found += [_line(num_steps, batch, against, times) for against in (PLAIN, DIFFUSERS)]
            found.append(_line(num_steps, batch, best, times) | {"against": f"best peer: {best}"})
            tiers += [_of_tier(num_steps, batch, tier, fields[batch], times) for tier in fields[batch].ours]
    return found, tiers


@dataclass(frozen=True)
class Field:
    """What takes part for a batch size: peers, each with the tier of its images, and by tier what was tuned."""

    peers: Mapping[Executor, Tier]
    ours: Mapping[Tier, Executor]
    generators: Mapping[Executor, Generator]

    @classmethod
    def of(cls, bundle: Bundle, batch: int) -> Field:
        """Those that can be used here. What was not tuned has float32's tier by its numbers, or none."""
        tuned = Tuned.read(bundle.name)
        if tuned is not None and (tuned.stale(bundle) or batch not in tuned.batches):
            tuned = None
        if tuned is None:
            runtimes = [each for each in usable()[0] if each in PEERS]
            peers = {each: TIERS[0] for each in candidates(bundle, batch, runtimes, exact=True) if is_peer(each)}
            ours: dict[Tier, Executor] = {}
        else:
            lines = [each for each in tuned.lines(batch) if each["peer"] and each["tier"]]
            peers = {executor_of(each): tier(each["tier"]) for each in lines}
            ours = {each: found for each in TIERS if (found := tuned.fastest(batch, each))}
        bundle_of = beside(bundle)
        every = dict.fromkeys([*peers, *ours.values()])
        return cls(peers, ours, {each: opened(bundle_of(each), each) for each in every})

    def contenders(self, tensors: Tensors) -> dict[str, Contender]:
        return {each.title: partial(made.runner.run, **tensors) for each, made in self.generators.items()}

    def best(self, tier: Tier, times: Mapping[str, np.ndarray]) -> str:
        """The fastest peer whose images are of a tier; the plain loop is one of the exact tier."""
        within = TIERS[: TIERS.index(tier) + 1]
        names = [PLAIN, *(each.title for each, its in self.peers.items() if its in within)]
        return min(names, key=lambda name: float(np.median(times[name])))


def _of_tier(num_steps: int, batch: int, tier: Tier, field: Field, times: Mapping[str, np.ndarray]) -> dict[str, Any]:
    ours, best = field.ours[tier].title, field.best(tier, times)
    found = _line(num_steps, batch, best, times, ours)
    return found | {"tier": tier.name, "ours": ours, "ours_ms": found.pop("fused_ms")}


def _line(
    num_steps: int, batch: int, against: str, times: Mapping[str, np.ndarray], ours: str = FUSED
) -> dict[str, Any]:
    return {
        "num_steps": num_steps,
        "batch": batch,
        "against": against,
        "fused_ms": float(np.median(times[ours])),
        "other_ms": float(np.median(times[against])),
        "ratio": asdict(percentile(times[against] / times[ours], 50)),
    }


def plain_torch(name: str) -> Callable[[Tensors], np.ndarray]:
    """The checkpoint as anybody would sample it with PyTorch: DDIM as a Python loop around the network."""
    import torch

    from zoo.images import to_images

    checkpoint = registry.checkpoint(name)
    module, spec = registry.load_module(checkpoint), checkpoint.spec
    names = [*(each.name for each in spec.noise), *(each.name for each in spec.network_inputs)]

    @torch.inference_mode()
    def sample(tensors: Tensors) -> np.ndarray:
        x, *asked = (torch.from_numpy(tensors[name][:, 0]) for name in names)
        for c_in, c_skip, c_out, c_noise, a, b, *_ in tensors["table"][0].tolist():
            output = module(c_in * x, torch.full((len(x),), c_noise), *asked)
            x = a * x + b * (c_skip * x + c_out * output)
        images: np.ndarray = to_images(x).numpy()
        return images

    return sample


class DiffusersPipeline:
    """`DDIMPipeline` around a `UNet2DModel` of the size of the zoo's U-Net, untrained: only its speed matters.

    It works on 16x16x4, as the zoo's U-Net does behind its patches, and is unconditional, which favours it.
    """

    def __init__(self) -> None:
        import torch
        from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

        self.torch = torch
        self.network = UNet2DModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(32, 56, 112),
            norm_num_groups=8,
            attention_head_dim=28,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "UpBlock2D"),
        ).eval()
        self.pipeline = DDIMPipeline(self.network, DDIMScheduler())
        self.pipeline.set_progress_bar_config(disable=True)

    def __call__(self, batch: int, num_steps: int) -> np.ndarray:
        result = self.pipeline(batch_size=batch, num_inference_steps=num_steps, output_type="np")
        return np.asarray(result.images)

    def size(self) -> dict[str, float]:
        example = (self.torch.zeros(1, 4, 16, 16), self.torch.zeros(1))
        return _size(self.network, example)


def _size(network: Any, example: tuple[Any, ...]) -> dict[str, float]:
    """Millions of parameters, and of floating-point operations for one image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(*example)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters_m": round(parameters / 1e6, 3), "mflop": round(counter.get_total_flops() / 1e6, 1)}


def sizes(name: str) -> dict[str, dict[str, float]]:
    """Both networks, so that a reader can see that they are of the same size."""
    import torch

    checkpoint = registry.checkpoint(name)
    example = (torch.zeros(1, *checkpoint.spec.latent_shape), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    return {name: _size(registry.load_module(checkpoint), example), "diffusers": DiffusersPipeline().size()}


def triton_overhead(generator: Generator, client: Runner, num_steps: int, rounds: int) -> dict[str, Any]:
    """What one request costs more through Triton than in this process, at p50, in milliseconds."""
    request = workload.tensors(generator.spec, Setting(num_steps), [0])
    contenders: dict[str, Contender] = {
        "in_process": lambda: generator.run(**request),
        "triton": lambda: client.run(**request),
    }
    times = interleaved(contenders, rounds)
    medians = {f"{name}_ms": float(np.median(values)) for name, values in times.items()}
    added = percentile(times["triton"] - times["in_process"], 50)
    return {"num_steps": num_steps, **medians, "added_ms": asdict(added)}


def markdown(found: Record) -> str:
    """The table of the README."""
    name, machine = found["identity"]["checkpoint"], found["identity"]["machine"]
    size = "; ".join(
        f"{key}: {v['parameters_m']:.2f} M parameters, {v['mflop']:.0f} MFLOP" for key, v in found["sizes"].items()
    )
    rows = [
        f"| {line['num_steps']} | {line['batch']} | {line['against']} | {line['fused_ms']:.2f} | {line['other_ms']:.2f}"
        " | **{value:.2f}** ({low:.2f} to {high:.2f}) |".format(**line["ratio"])
        for line in found["lines"]
    ]
    rounds = found["identity"]["protocol"]["rounds"]
    text = [
        f"`{name}`, fused ONNX Loop on ONNX Runtime, against the same work elsewhere ({size}); {machine['cpu']}, "
        f"{machine['cores']} cores, median of {rounds} rounds in which they take turns.",
        "",
        "| steps | batch | against | fused, ms | other, ms | ratio |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    if found.get("tiers"):
        text += ["", *_tiers(found["tiers"])]
    if found["triton"]:
        added = found["triton"]["added_ms"]
        text += [
            "",
            f"Triton adds {Estimate(**added)} ms at p50 to a request of "
            f"{found['triton']['in_process_ms']:.2f} ms in process ({found['triton']['num_steps']} steps, batch 1).",
        ]
    return "\n".join(text)


def _tiers(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The second table: what `genzoo tune` found against the best peer that is as exact."""
    rows = [
        f"| {line['tier']} | {line['num_steps']} | {line['batch']} | {line['ours']} | {line['ours_ms']:.2f} "
        f"| {line['against']} | {line['other_ms']:.2f} | **{line['ratio']['value']:.2f}** "
        f"({line['ratio']['low']:.2f} to {line['ratio']['high']:.2f}) |"
        for line in lines
    ]
    return [
        "What was tuned for this host, against the best of what others run the checkpoint with at the same loss:",
        "",
        "| tier | steps | batch | tuned | ms | best peer | ms | ratio |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]
