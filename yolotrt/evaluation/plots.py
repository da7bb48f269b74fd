"""A validation as pictures: precision over recall, F1 over confidence, confusion matrix, the worst pictures."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolotrt import files
from yolotrt.detections import Detections
from yolotrt.errors import MissingExtraError
from yolotrt.evaluation.curves import GRID, smooth
from yolotrt.evaluation.labels import Labels
from yolotrt.evaluation.side_by_side import Half, make_folder, write_side_by_side
from yolotrt.evaluation.validate import Validation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_LINES = 20  # more classes than this are drawn in grey, without a legend
_MAX_CELLS = 30  # a larger confusion matrix has no room for its numbers
_COLOUR = "#1B4DFF"


def prepare(folder: Path) -> None:
    """Make the folder, and say what is missing, before anything is measured.

    Raises:
        MissingExtraError: matplotlib is not installed (extra `eval`).
        SinkError: the folder cannot be made.
    """
    try:
        import matplotlib as mpl  # noqa: F401
    except ImportError as e:
        raise MissingExtraError("matplotlib", "eval", needed_for="--plots") from e
    make_folder(folder)


def write_plots(found: Validation, folder: Path) -> list[Path]:
    """Write all plots into `folder` and return their paths.

    Raises:
        SinkError: one cannot be written.
    """
    drawings: dict[str, Callable[[Validation, Axes], None]] = {
        "pr_curve.png": _precision_recall,
        "f1_curve.png": _f1,
        "confusion_matrix.png": _confusion,
    }
    paths = [_write(folder / name, drawing, found) for name, drawing in drawings.items()]
    for rank, (sample, mistakes) in enumerate(found.worst, 1):
        labels = _as_detections(sample.labels(mistakes.found.size), mistakes.found)
        path = write_side_by_side(
            folder,
            rank,
            sample.path,
            Half(title=f"labels: {int((~mistakes.met).sum())} not found", boxes=labels, agreed=mistakes.met,
                 confidence=False),
            Half(title=f"model: {int((~mistakes.right).sum())} wrong", boxes=mistakes.found, agreed=mistakes.right),
        )  # fmt: skip
        if path is not None:
            paths.append(path)
    return paths


def _as_detections(labels: Labels, like: Detections) -> Detections:
    return Detections(
        xyxy=labels.xyxy.astype(np.float32),
        confidence=np.ones(len(labels), np.float32),
        class_id=labels.class_id,
        names=like.names,
        size=like.size,
    )


def _write(target: Path, drawing: Callable[[Validation, Axes], None], found: Validation) -> Path:
    from matplotlib.figure import Figure

    size = 7.0
    if drawing is _confusion:
        size = max(7.0, 0.45 * min(len(found.names), 60))
    figure: Figure = Figure(figsize=(size * 1.25, size), layout="constrained")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font does not have become boxes
        drawing(found, figure.add_subplot())
        data = io.BytesIO()
        figure.savefig(data, dpi=150, format="png")
    files.write_bytes(target, data.getvalue())
    return target


def _precision_recall(found: Validation, axes: Axes) -> None:
    curves = found.curves
    labels = [f"{found.names[c]} {ap:.3f}" for c, ap in zip(curves.class_ids, curves.ap[:, 0], strict=True)]
    mean = f"all classes: {curves.map50:.3f} mAP50"
    _lines(axes, curves.precision_at_recall, labels, mean, lambda curve: curve)
    axes.set(xlabel="recall", ylabel="precision", title="Precision and recall at IoU 0.5")


def _f1(found: Validation, axes: Axes) -> None:
    curves = found.curves
    labels = [found.names[c] for c in curves.class_ids]
    best = found.to_dict()["best_f1"]
    mean = f"all classes: {best['f1']:.3f} at {best['confidence']:.3f}"
    _lines(axes, curves.f1, labels, mean, smooth)
    axes.axvline(best["confidence"], color=_COLOUR, linewidth=0.8, linestyle=":")
    axes.set(xlabel="confidence", ylabel="F1", title="F1 over confidence at IoU 0.5")


def _lines(axes: Axes, curves: Any, labels: list[str], mean: str, shape: Callable[[Any], Any]) -> None:
    from matplotlib import colormaps

    few = len(labels) <= _MAX_LINES
    # Only this palette has a colour for each.
    axes.set_prop_cycle(color=colormaps["tab20"](range(20)) if few else ["0.8"])
    for curve, label in zip(curves, labels, strict=True):
        axes.plot(GRID, curve, linewidth=1, label=_plain(label) if few else None)
    if len(curves):
        axes.plot(GRID, shape(curves.mean(axis=0)), linewidth=2.5, color=_COLOUR, label=mean)
    axes.set(xlim=(0, 1), ylim=(0, 1.01))
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize="small")


def _confusion(found: Validation, axes: Axes) -> None:
    """Each column as shares of what is there, so that rare classes can be read too."""
    counts = found.confusion
    shares = counts / np.maximum(counts.sum(axis=0, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_plain(n) for n in (*found.names, "background")]
    if len(names) <= 2 * _MAX_CELLS:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    if len(names) <= _MAX_CELLS:
        for row, column in np.argwhere(counts > 0):
            ink = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=ink, fontsize="small")
    axes.set(xlabel="labelled", ylabel="found", title="Boxes above confidence 0.25 at IoU 0.45")
    axes.figure.colorbar(image, ax=axes, shrink=0.7, label="share of the column")


def _plain(name: str) -> str:
    """Without what matplotlib would take for a formula, or, in front, for a label to be left out."""
    return name.replace("$", r"\$").replace("_", " ", 1) if name.startswith("_") else name.replace("$", r"\$")
