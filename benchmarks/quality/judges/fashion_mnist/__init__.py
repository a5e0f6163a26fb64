"""The judges of clothes: one net that was taught the classes, one that was taught what is wrong with a picture."""

from __future__ import annotations

from benchmarks.quality.judges import Judges, Net

JUDGES = Judges(
    "fashion_mnist",
    (
        Net("classifier", (32, 32, 1), tells="class_id", sees="what a picture shows"),
        Net("critic", (32, 32, 1), sees="how it is made: blur, noise, torn edges"),
    ),
)
