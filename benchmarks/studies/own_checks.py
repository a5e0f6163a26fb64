"""What has to be seen of each system before it counts as working, beside quality and time: its own check.

A check is answered by a study's cell, by a metric of the system's row, or by what training measured on unseen pictures,
whichever says what the system is for; `genzoo tree` writes them all into docs/systems.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Studied:
    """The cell of a study's table in that column, of the row that has these values in others."""

    study: str
    row: Mapping[str, Any]
    column: str


@dataclass(frozen=True)
class Measured:
    """A metric of the system's own row, in the features of a net or by the judge of its data set."""

    kind: str
    net: str | None = None


@dataclass(frozen=True)
class Unseen:
    """What training measured on unseen pictures; a number without an interval."""

    key: str


@dataclass(frozen=True)
class Check:
    words: str
    source: Studied | Measured | Unseen


def _translated(generator: str, shown: str, measured: str, words: str) -> Check:
    return Check(words, Studied("translations", {"generator": generator, "shown": shown, "measured": measured}, "it"))


RECALL = Check("how much of the data it shows: recall, critic", Measured("recall", "critic"))
NEAR = Check("distance to real pictures, critic", Measured("fd", "critic"))
ACCURACY = Check("pictures told as the class that was asked for", Measured("accuracy"))
DARK = "a scene by night"
MASKS, CHANGE = "a scene and masks of its critters", "a face and a change"

# By the title of a system.
CHECKS: Mapping[str, Check] = {
    "DCGAN under R3GAN's objective": RECALL,
    "Projection GAN with R1": ACCURACY,
    "Progressive GAN": RECALL,
    "R3GAN's objective": RECALL,
    "StyleGAN": Check(
        "attributes that a judge is sure of at psi 0.5",
        Studied("truncation", {"pictures": "stylegan psi=0.5"}, "sure of an attribute"),
    ),
    "GAN-CLS": Check(
        "attributes as the caption says",
        Studied("spoken", {"pictures": "gan-cls, the right caption"}, "attributes right"),
    ),
    "GigaGAN": Check(
        "attributes as the caption says",
        Studied("spoken", {"pictures": "gigagan, the right caption"}, "attributes right"),
    ),
    "Autoencoder": Check(
        "outlines told from clothes by the error of reconstruction, area under the curve",
        Studied("anomaly", {"score": "error of ae"}, "outlines"),
    ),
    "Denoising autoencoder": Check(
        "outlines told from clothes by the error of reconstruction, area under the curve",
        Studied("anomaly", {"score": "error of dae"}, "outlines"),
    ),
    "Conditional VAE": Check("importance-weighted bound, nats", Unseen("iw32_bound_nats")),
    "VQ-VAE and PixelCNN": Check("bits a code by the prior", Studied("codes", {"codes": "PixelCNN"}, "bits per code")),
    "VAE with an adversarial loss": Check("reconstruction, dB", Unseen("reconstruction_psnr_db")),
    "MaskGIT": NEAR,
    "Glow": Check("bits a dimension", Studied("inversion", {"generator": "glow"}, "bits per dim")),
    "Transformer autoregressive flow": Check(
        "bits a dimension", Studied("inversion", {"generator": "tarflow"}, "bits per dim")
    ),
    "Learned inverse of a flow": Check(
        "times as fast as the inverse that it learnt",
        Studied("inversion", {"generator": "biflow"}, "speed-up at batch 1"),
    ),
    "Latent autoregressive flow": Check("nats a latent, its noise included", Unseen("nats_per_latent")),
    "DDPM": NEAR,
    "DDIM": Check("order of convergence", Studied("convergence", {"sampler": "ddim"}, "order")),
    "Heun's method": Check("order of convergence", Studied("convergence", {"sampler": "heun"}, "order")),
    "DPM-Solver++": Check("order of convergence", Studied("convergence", {"sampler": "dpmpp_2m"}, "order")),
    "Classifier guidance": ACCURACY,
    "Classifier-free guidance": ACCURACY,
    "Latent diffusion": Check("reconstruction of its first stage, dB", Unseen("reconstruction_psnr_db")),
    "Flow matching": Check("bending of its paths", Studied("straightness", {"generator": "fm"}, "bending")),
    "Rectified flow": Check("bending of its paths", Studied("straightness", {"generator": "fm-rect"}, "bending")),
    "Denoising diffusion GAN": RECALL,
    "Progressive distillation": RECALL,
    "Progressive distillation, small": RECALL,
    "Consistency distillation": NEAR,
    "Consistency training": NEAR,
    "Easy consistency tuning": NEAR,
    "Latent consistency model": NEAR,
    "Distribution matching distillation": RECALL,
    "Score identity distillation": RECALL,
    "Adversarial score identity distillation": RECALL,
    "Inductive moment matching": NEAR,
    "Mean flow": NEAR,
    "Improved mean flow": Check(
        "pictures told as the class that was asked for, at guidance 3 in one call",
        Studied("guidance", {"generator": "fm-imf", "scale": 3.0}, "accuracy_500_classifier"),
    ),
    "Drifting model": RECALL,
    "Text-to-image with a contrastive text encoder": Check(
        "attributes of unseen combinations right, the worst of twelve designs",
        Studied("designs", {"style": "planets"}, "right"),
    ),
    "Latent diffusion in colour": Check("reconstruction of its first stage, dB", Unseen("reconstruction_psnr_db")),
    "Super-resolution": Check(
        "grey levels from the picture that was made large, once made small again",
        Studied("enlarging", {"picture": "t2i-upscale, the prompt"}, "grey levels from the small one"),
    ),
    "LoRA": Check(
        "pixels unlike the base's at the scale 0",
        Studied("adapters", {"generator": "t2i-ink ink=0"}, "pixels unlike the base's"),
    ),
    "LCM-LoRA": Check(
        "attributes right in one call", Studied("adapters", {"generator": "t2i-lcm", "steps": 1}, "attributes right")
    ),
    "Inpainting": Check(
        "kept pixels that changed",
        Studied("repainting", {"generator": "t2i-inpaint", "prompt": "all"}, "kept pixels that changed"),
    ),
    "Textual inversion": Check(
        "who the person is, by the word alone", Studied("subject", {"generator": "t2i-word"}, "who it is")
    ),
    "DreamBooth": Check(
        "who the person is, by the word alone", Studied("subject", {"generator": "t2i-subject"}, "who it is")
    ),
    "Imagic": Check(
        "what is asked is there at 0.9", Studied("editing", {"generator": "t2i-edit edit=0.9"}, "what is asked")
    ),
    "Layout to image": Check(
        "of a box in its figure's colour",
        Studied("layouts", {"pictures": "t2i-layout layout=1"}, "of a box in its colour"),
    ),
    "ControlNet": Check(
        "lines agree with the drawing, by a prompt of the design alone",
        Studied("control", {"generator": "t2i-control control=1", "prompt": "the design"}, "lines agree"),
    ),
    "Face0": Check(
        "who it is, in another design",
        Studied("faces", {"generator": "t2i-face likeness=1"}, "who it is, another design"),
    ),
    "IP-Adapter": Check(
        "as the picture where the prompt says nothing",
        Studied("reference", {"generator": "t2i-reference likeness=1"}, "as the picture elsewhere"),
    ),
    "Pix2Pix": _translated(
        "pix2pix", "a drawing in pencil", "grey levels from its picture", "grey levels from the true pair"
    ),
    "CycleGAN": _translated(
        "cyclegan", DARK, "grey levels from it by day", "grey levels from the pair that it never saw"
    ),
    "BicycleGAN": _translated(
        "bicyclegan",
        "a drawing in ink",
        "grey levels of the nearest of 16",
        "grey levels of the nearest of 16 from the true one",
    ),
    "StarGAN": _translated("stargan", CHANGE, "grey levels from the truth", "grey levels from the counterfactual"),
    "InstaGAN": _translated("instagan", MASKS, "grey levels outside the masks", "grey levels outside the masks"),
    "SPADE": _translated("spade", "a map", "mean IoU of its colours", "mean IoU of the map read back"),
    "LostGAN": _translated("lostgan", "boxes", "labels told", "labels told inside the boxes"),
}
