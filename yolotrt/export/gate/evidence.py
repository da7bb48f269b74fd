"""The pictures that a precision is proven with: those that ranges come from, and those that accuracy is measured on."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from yolotrt import files
from yolotrt.errors import SourceError
from yolotrt.evaluation.dataset import open_dataset
from yolotrt.evaluation.labels import Dataset
from yolotrt.export.gate.yardstick import ByLabels, ByParity, Yardstick
from yolotrt.export.goal import Goal
from yolotrt.export.graph import Graph
from yolotrt.export.quantize.pictures import CalibrationPictures, find_calibration
from yolotrt.export.samples import evenly
from yolotrt.options import ExportOptions

BUDGETS = {"fp16": 0.001, "fp8": 0.002, "int8": 0.005, "auto": 0.005}
"""Where none is named: what each precision is worth having for. FP8 that loses more is no better than INT8."""

_MOST_COMPARED = 200
_ENOUGH_OTHERS = 32


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Produced before the export begins, so that bad pictures cost no time.

    Attributes:
        pictures: for the calibration; None where nothing is quantized.
        dataset: labelled pictures; None compares boxes with those of FP32.
        max_drop: the budget.
        scratch: a folder for the frames of a video that are compared; it outlives the report, which shows some.
    """

    pictures: CalibrationPictures | None
    dataset: Dataset | None
    max_drop: float
    scratch: Path

    def digest(self) -> dict[str, Any]:
        """What the export's files depend on, JSON-ready."""
        return {
            "calibration": self.pictures.digest if self.pictures else None,
            "validation": _digest(self.dataset) if self.dataset else None,
            "max_drop": self.max_drop,
        }

    def yardstick(self, graph: Graph) -> Yardstick:
        """The measure of accuracy. Raises DatasetError as `ByLabels` does."""
        if self.dataset is not None:
            return ByLabels(graph.spec, self.dataset)
        assert self.pictures is not None
        paths, note = _compared(self.pictures, self.scratch)
        yardstick = ByParity(graph.spec, graph.model, self.pictures.source, paths)
        yardstick.notes = (note, *yardstick.notes)
        return yardstick


@contextlib.contextmanager
def gather(options: ExportOptions, goal: Goal) -> Iterator[Evidence]:
    """Find the pictures that the options name, for the length of the block.

    Raises:
        UsageError, DatasetError, SourceError: pictures or labels that are missing, too few, or wrong.
    """
    # The option images of an export means other pictures.
    remedy = "Put the file beside its pictures."
    dataset = open_dataset(options.data, remedy=remedy) if options.data is not None else None
    pictures = None
    if goal.kinds:
        pictures = find_calibration(
            calib=options.calib, data=options.data, count=options.calib_pictures, allow_few=options.calib_few
        )
    with tempfile.TemporaryDirectory(prefix="yolotrt-") as scratch:
        yield Evidence(
            pictures=pictures,
            dataset=dataset,
            max_drop=BUDGETS[goal.precision] if options.max_drop is None else options.max_drop,
            scratch=Path(scratch),
        )


def _digest(dataset: Dataset) -> list[Any]:
    """Names, and of each picture its content and its boxes."""
    return [
        dataset.names,
        [[_content(s.path), s.boxes.class_id.tolist(), s.boxes.xyxy.tolist(), s.boxes.crowd.tolist()]
         for s in dataset.samples],
    ]  # fmt: skip


def _content(picture: Path) -> str | None:
    # What cannot be read is left out of the measurement, which says so.
    try:
        return files.sha256_of(picture)
    except OSError:
        return None


def _compared(pictures: CalibrationPictures, folder: Path) -> tuple[list[Path], str]:
    """Pictures to compare boxes on, and a sentence on them: others than the calibration's, if there are enough."""
    what = "There are no labels: the score is the share of boxes that FP32 and the version agree on"
    if len(pictures.others) >= _ENOUGH_OTHERS:
        others = pictures.others
        chosen = [others[i] for i in evenly(len(others), _MOST_COMPARED)]
        return chosen, f"{what}, in pictures that were not calibrated on."
    # A video has no picture files, and one way for all is shorter than two. PNG keeps every value.
    wanted = set(evenly(pictures.count, _MOST_COMPARED))
    written = []
    for index, image in enumerate(pictures.images()):
        if index in wanted:
            path = folder / f"{index:06}.png"
            if not cv2.imwrite(str(path), image):
                raise SourceError(f"{folder}: the pictures to compare cannot be written there")
            written.append(path)
    return written, f"{what}, in the pictures of the calibration, which flatters it."
