"""What the fused graph is worth: against the same checkpoint in a plain PyTorch loop and against a diffusers pipeline
of a network of the same size, and what Triton adds to it, in one run.

Contenders take turns, so that a clock that changes or a neighbour that wakes up meets them all. A turn is a short burst
of calls, of which the first ones are not counted: a runtime's idle threads go on spinning for a while and would slow
whoever comes next. Each round gives a ratio; the median of the rounds is what is published, with its interval.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks import environment, records
from benchmarks.measure import sweep, workload
from benchmarks.records import Record
from benchmarks.statistics import Estimate, percentile
from export.bundle import Bundle
from export.runners import OnnxRuntimeRunner
from zoo import registry
from zoo.contract.errors import RequestError
from zoo.contract.feeds import Runner, Tensors, feeds
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.spec import GeneratorSpec

STEPS, BATCHES, OVERHEAD_STEPS = (1, 2, 4), (1, 16), 1
SETTLE, BURST = 3, 5  # calls of a turn: not counted, and counted by their median
Contender = Callable[[], Any]


def interleaved(contenders: Mapping[str, Contender], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds a call of each contender in each round, the order reversed every other round: (rounds,) each."""
    names = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            value = _burst(contenders[name])
            if turn >= 0:  # the first round is a warm-up
                times[name].append(value)
    return {name: np.array(values) for name, values in times.items()}


def _burst(contender: Contender) -> float:
    for _ in range(SETTLE):
        contender()
    times = []
    for _ in range(BURST):
        began = time.perf_counter()
        contender()
        times.append(1000.0 * (time.perf_counter() - began))
    return float(np.median(times))


def measure(bundle: Bundle, rounds: int, *, triton: bool) -> Record:
    """The whole comparison as one record. Raises GenzooError."""
    import torch

    _check(bundle.spec)
    found, overhead = lines(bundle, rounds), None
    if triton:
        with sweep.endpoints("triton", [bundle]) as connect:
            overhead = triton_overhead(sweep.in_process(bundle), connect(bundle), OVERHEAD_STEPS, rounds)
    identity = {
        "checkpoint": bundle.name,
        "artifact": bundle.digest,
        "protocol": {"rounds": rounds, "settle": SETTLE, "burst": BURST, "torch_threads": torch.get_num_threads()},
        "machine": environment.machine(),
    }
    content = {"lines": found, "triton": overhead, "sizes": sizes(bundle.name), "environment": environment.describe()}
    return records.make("ratio", identity, **content)


def _check(spec: GeneratorSpec) -> None:
    """Raises RequestError for what the other two cannot be compared with."""
    height, width, channels = spec.image_shape
    if spec.sampling is None or spec.sampling.steps or spec.latent_shape != (channels, height, width):
        raise RequestError(f"{spec.name} is no denoiser of pixels at any number of steps: name one, like ddpm or fm")


def lines(
    bundle: Bundle, rounds: int, steps: Sequence[int] = STEPS, batches: Sequence[int] = BATCHES
) -> list[dict[str, Any]]:
    """The fused graph against the other two, for each number of steps and batch size."""
    fused, pipeline = OnnxRuntimeRunner(bundle), DiffusersPipeline()
    plain = plain_torch(bundle.name)
    found = []
    for num_steps in steps:
        for batch in batches:
            tensors = feeds(bundle.spec, SampleRequest(tuple(range(batch)), setting=Setting(num_steps)))
            contenders: dict[str, Contender] = {
                "fused": lambda tensors=tensors: fused.run(**tensors),  # type: ignore[misc]
                "plain PyTorch loop": lambda tensors=tensors: plain(tensors),  # type: ignore[misc]
                "diffusers pipeline": lambda b=batch, n=num_steps: pipeline(b, n),  # type: ignore[misc]
            }
            times = interleaved(contenders, rounds)
            found += [_line(num_steps, batch, against, times) for against in list(contenders)[1:]]
    return found


def _line(num_steps: int, batch: int, against: str, times: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {
        "num_steps": num_steps,
        "batch": batch,
        "against": against,
        "fused_ms": float(np.median(times["fused"])),
        "other_ms": float(np.median(times[against])),
        "ratio": asdict(percentile(times[against] / times["fused"], 50)),
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
    if found["triton"]:
        added = found["triton"]["added_ms"]
        text += [
            "",
            f"Triton adds {Estimate(**added)} ms at p50 to a request of "
            f"{found['triton']['in_process_ms']:.2f} ms in process ({found['triton']['num_steps']} steps, batch 1).",
        ]
    return "\n".join(text)
