"""How good one version of a model is: by labels where there are any, else by what FP32 finds.

`Agreement` is the quick one of the three: a few pictures, and a number that every small error moves. It ranks layers;
the others decide.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from yolotrt.decode.nms_cpu import pairwise_iou
from yolotrt.detections import Detections
from yolotrt.errors import DatasetError, EvaluationError
from yolotrt.evaluation.dataset import align
from yolotrt.evaluation.labels import Dataset
from yolotrt.evaluation.parity import Parity, VerifyOptions, verify
from yolotrt.evaluation.validate import VAL_OPTIONS, validate
from yolotrt.export.gate.proof import Measure, Score
from yolotrt.export.gate.running import running
from yolotrt.model_spec import ModelSpec, Precision
from yolotrt.options import DetectOptions

if TYPE_CHECKING:
    import onnx

OnPicture = Callable[[], None]

PARITY = VerifyOptions(min_iou=0.75)
"""What counts as the same box where there are no labels. INT8 moves edges by more than the 0.9 that `yolotrt verify`
asks of FP16; at 0.75 it is still the same object, framed well."""

AGREEMENT_PICTURES = 12

_NAMED = 8  # of the pictures that are left out


class Yardstick(abc.ABC):
    """Gives a version its score.

    Attributes:
        measure: what the score is.
        data: the pictures, as a user would say it.
        pictures: how many.
        paths: their files. The first version that is run shows which of them cannot be used; the others remain.
        runtime: what ran the last version.
        notes: what a reader should know of them, complete once a version was run.
    """

    measure: Measure

    def __init__(self, spec: ModelSpec, data: str, paths: Sequence[Path]) -> None:
        self.data, self.paths, self.runtime = data, list(paths), ""
        self.notes: tuple[str, ...] = ()
        self._spec = spec

    @property
    def pictures(self) -> int:
        return len(self.paths)

    def _leave_out(self, unusable: Sequence[Path]) -> None:
        """Go on without these pictures, and say so."""
        if not unusable:
            return
        without = set(unusable)
        self.paths = [p for p in self.paths if p not in without]
        names = [p.name for p in unusable[:_NAMED]]  # without their folder: bundles are handed on
        if len(unusable) > _NAMED:
            names.append(f"and {len(unusable) - _NAMED} more")
        note = f"{len(unusable)} validation pictures cannot be used and are left out: {', '.join(names)}"
        self.notes = (*self.notes, note)

    @abc.abstractmethod
    def score(self, model: onnx.ModelProto, precision: Precision, *, on_picture: OnPicture | None = None) -> Score:
        """Run a version over all pictures. Raises BackendError where it cannot be run."""


class ByLabels(Yardstick):
    """Mean average precision on a labelled data set.

    Raises:
        DatasetError: classes that are not the model's, or no label in the whole set.
    """

    measure = "mAP50-95"

    def __init__(self, spec: ModelSpec, dataset: Dataset) -> None:
        split = f", split {dataset.split}" if dataset.split else ""
        # Without its folder: bundles are handed on.
        super().__init__(spec, f"{Path(dataset.name).name}{split}", [s.path for s in dataset.samples])
        self._dataset = align(dataset, spec.names)
        self.notes = self._dataset.notes
        if not self._dataset.boxes:
            raise DatasetError(
                f"{dataset.name}: no labels, so accuracy cannot be measured",
                remedy="Give labelled pictures, or leave --data out and give --calib: then boxes are compared.",
            )

    def score(self, model: onnx.ModelProto, precision: Precision, *, on_picture: OnPicture | None = None) -> Score:
        with running(model, self._spec, VAL_OPTIONS, precision=precision) as detector:
            self.runtime = str(detector.info)
            found = validate(detector, self._dataset, on_result=on_picture)
        self._leave_out(found.left_out)
        record = found.to_dict()
        keys = ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large")
        return Score(
            value=float(found.metrics.map50_95 or 0.0),
            details={key: record[key] for key in keys},
            per_class={c["name"]: c["map50_95"] for c in record["per_class"] if c["boxes"]},
        )

    def _leave_out(self, unusable: Sequence[Path]) -> None:
        super()._leave_out(unusable)
        kept = set(self.paths)
        samples = tuple(s for s in self._dataset.samples if s.path in kept)
        self._dataset = dataclasses.replace(self._dataset, samples=samples)


class ByParity(Yardstick):
    """The share of boxes that FP32 and the version agree on: same class, IoU of `PARITY.min_iou`, either way."""

    measure = "parity"

    def __init__(self, spec: ModelSpec, reference: onnx.ModelProto, data: str, paths: Sequence[Path]) -> None:
        super().__init__(spec, data, paths)
        self._reference = reference

    def score(self, model: onnx.ModelProto, precision: Precision, *, on_picture: OnPicture | None = None) -> Score:
        if precision == "fp32":
            return Score(value=1.0)
        found = self.compare(model, precision, on_picture=on_picture)
        total = found.total
        return Score(
            value=total.match,
            details={"boxes": total.reference, "missed": total.missed, "added": total.added},
            per_class={c.name: c.match for c in found.classes.values()},
        )

    def compare(self, model: onnx.ModelProto, precision: Precision, *, on_picture: OnPicture | None = None) -> Parity:
        """All boxes of both."""
        with (
            running(self._reference, self._spec, PARITY.detect, precision="fp32") as reference,
            running(model, self._spec, PARITY.detect, precision=precision) as candidate,
        ):
            self.runtime = str(candidate.info)
            found = verify(reference, candidate, self.paths, PARITY, on_result=on_picture)
        self._leave_out(found.left_out)
        return found


class Agreement:
    """How far a version's boxes are from those of FP32, on a few pictures.

    Every box of either side gives its IoU with the best counterpart of its class, less the difference in confidence;
    the mean over all is the agreement, 0..1.

    Raises:
        EvaluationError: FP32 finds nothing in them.
    """

    _OPTIONS = DetectOptions(conf=0.05)
    _FROM = 0.15  # boxes above this are looked for among those above 0.05

    def __init__(self, spec: ModelSpec, reference: onnx.ModelProto, paths: Sequence[Path]) -> None:
        step = max(len(paths) / AGREEMENT_PICTURES, 1.0)
        self._paths = [paths[int(i * step)] for i in range(min(len(paths), AGREEMENT_PICTURES))]
        self._spec = spec
        self._expected = self._detect(reference, "fp32")
        if not any(len(d) for d in self._expected):
            raise EvaluationError(
                f"FP32 finds nothing in {len(self._paths)} pictures, so layers cannot be ranked",
                remedy="Give pictures like those the model will see.",
            )

    def __call__(self, model: onnx.ModelProto, precision: Precision) -> float:
        found = self._detect(model, precision)
        values = [_agreement(a, b, self._FROM) for pair in zip(self._expected, found, strict=True)
                  for a, b in (pair, pair[::-1])]  # fmt: skip
        return float(np.concatenate(values).mean())

    def _detect(self, model: onnx.ModelProto, precision: Precision) -> list[Detections]:
        with running(model, self._spec, self._OPTIONS, precision=precision) as detector:
            return detector(self._paths)


def _agreement(mine: Detections, theirs: Detections, above: float) -> npt.NDArray[np.float64]:
    """Of each box of `mine` above a confidence, `[n]`."""
    strong = mine[mine.confidence > above]
    if not len(strong) or not len(theirs):
        return np.zeros(len(strong))
    same = strong.class_id[:, None] == theirs.class_id[None]
    nearness = pairwise_iou(strong.xyxy, theirs.xyxy) - np.abs(strong.confidence[:, None] - theirs.confidence[None])
    best: npt.NDArray[np.float64] = np.where(same, nearness, 0.0).max(axis=1).clip(0.0, 1.0)
    return best
