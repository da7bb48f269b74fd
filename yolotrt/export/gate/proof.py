"""What was found out about the precisions of a model: the record that manifest and report are made of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from yolotrt.model_spec import Precision

Measure = Literal["mAP50-95", "parity"]
"""`parity`, where there are no labels: the share of boxes that FP32 and the version agree on."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How good one version of a model is.

    Attributes:
        value: of the measure that the gate goes by, 0..1.
        details: what else was measured, by name: `map50`, `map75`, ... as `yolotrt val --json` names it.
        per_class: the measure by class name; None where no such object was in the pictures.
    """

    value: float
    details: Mapping[str, float | None] = field(default_factory=dict)
    per_class: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long one inference takes, without what is before and after it.

    Attributes:
        p50_ms, p90_ms: milliseconds per batch.
        runs: inferences measured.
        batch: pictures in each.
        runtime: what ran it, with version and device.
    """

    p50_ms: float
    p90_ms: float
    runs: int
    batch: int
    runtime: str


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of the model that was tried.

    Attributes:
        name: for people: `FP16`, `INT8`, `INT8, 7 convolutions in FP16`.
        precision: the lowest one in it.
        score: how good it is.
        relative: its score over that of FP32.
        inside: whether `relative` is inside the budget.
        shares: of the convolutions' multiplications, by precision; they sum up to 1.
        given_back: names of the convolutions that the search returned to FP16.
        latency: None where it was not measured.
        latency_note: why not; empty where it was.
        chosen: it is the one in the bundle.
    """

    name: str
    precision: Precision
    score: Score
    relative: float
    inside: bool
    shares: Mapping[Precision, float]
    given_back: tuple[str, ...] = ()
    latency: Latency | None = None
    latency_note: str = ""
    chosen: bool = False


@dataclass(frozen=True, kw_only=True)
class LayerLoss:
    """What quantizing one convolution alone costs.

    Attributes:
        name: of its node.
        loss: of the agreement with FP32, 0..1; small negative numbers are noise.
        share: of the multiplications of all convolutions that are its own, 0..1.
        quantized: whether it is, in the chosen version.
    """

    name: str
    loss: float
    share: float
    quantized: bool


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord:
    """The pictures that the ranges come from.

    Attributes:
        source: where they are from, as a user would say it.
        pictures: how many.
        digest: SHA-256 over them as the model got them.
        methods: how many ranges each rule gave: `entropy`, `minmax`, `mse`, `percentile`.
    """

    source: str
    pictures: int
    digest: str
    methods: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """All of it. Produced by the gate, consumed by the manifest (`checks["accuracy"]`) and the report.

    Attributes:
        measure: what the scores are.
        data: the pictures they were measured on, as a user would say it.
        pictures: how many.
        runtime: what ran the versions for the scores.
        max_drop: the budget: how much of FP32's score may be lost, relative.
        met: whether the chosen version is inside it.
        versions: all that were tried, FP32 first.
        layers: by falling loss; empty where it was not looked into.
        layers_kind: the precision that `layers` is about.
        calibration: None where nothing was quantized.
        notes: what a reader should know, one sentence each.
    """

    measure: Measure
    data: str
    pictures: int
    runtime: str
    max_drop: float
    met: bool
    versions: tuple[Version, ...]
    layers: tuple[LayerLoss, ...] = ()
    layers_kind: Precision | None = None
    calibration: CalibrationRecord | None = None
    notes: tuple[str, ...] = ()

    @property
    def chosen(self) -> Version:
        """The version in the bundle."""
        return next(v for v in self.versions if v.chosen)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with lists for tuples: what a manifest reads back is equal to it."""
        found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return found
