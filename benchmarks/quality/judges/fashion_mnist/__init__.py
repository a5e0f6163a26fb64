"""The judges of clothes: one net was taught the classes, one what is wrong with a picture, one neither."""

from __future__ import annotations

from benchmarks.quality.judges import Judges, Net

JUDGES = Judges(
    "fashion_mnist",
    (
        Net("classifier", (32, 32, 1), tells="class_id", sees="what a picture shows"),
        Net("critic", (32, 32, 1), sees="how it is made: blur, noise, torn edges"),
        Net("contrastive", (32, 32, 1), sees="what makes one picture another", depths=4),
    ),
)
