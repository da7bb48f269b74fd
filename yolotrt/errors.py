"""Every error that yolotrt raises on purpose. Each says what is wrong, what it got, what it expected, and the remedy.

The command line prints `str(error)` as one line and exits with `exit_code`: 2 for a wrong call, 1 for a failure.
"""

from __future__ import annotations

from typing import Any, ClassVar


class YolotrtError(Exception):
    """Base of all errors of yolotrt.

    Args:
        what: the fact, without a full stop: "the picture cannot be decoded".
        got: what was found, if it helps: a value, a shape, a version.
        expected: what would have been right.
        remedy: what the reader can do now: a command where there is one.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, got: object = None, expected: object = None, remedy: str | None = None) -> None:
        self.what, self.got, self.expected, self.remedy = what, got, expected, remedy
        parts = [what]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        text = ", ".join(parts)
        super().__init__(_one_line(f"{text}. {remedy}" if remedy else text))


class UsageError(YolotrtError):
    """The call itself is wrong: an option, an argument, a combination of them."""

    exit_code = 2


class ConfigError(UsageError):
    """A YAML file with keys or values that no option has."""


class UnsupportedOptionError(UsageError):
    """An option that this flavour, version or format does not have."""


class MissingExtraError(YolotrtError):
    """A dependency is not installed. Names the extra that brings it; an empty one means the package itself."""

    def __init__(self, package: str, extra: str, *, needed_for: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(
            f"{needed_for} needs the package {package}, which is not installed",
            remedy=f'Install it with: pip install "yolotrt[{extra}]"'
            if extra
            else f"Install it with: pip install {package}",
        )


class ModelError(YolotrtError):
    """A model file that is missing, damaged, or not a YOLO that yolotrt can run."""


class UntrustedModelError(ModelError):
    """Weights that only an unrestricted unpickling could load, without the caller's word that it may run their code."""


class PlanMismatchError(ModelError):
    """A plan built by another TensorRT (flavour or version) or for another GPU than the ones here."""


class ExportError(YolotrtError):
    """A stage of the export failed, or its check did not hold."""


class AccuracyError(ExportError):
    """A precision that loses more accuracy than it may. The best version found is kept under another name.

    Attributes:
        result: the `yolotrt.export.pipeline.ExportResult` of what is kept.
    """

    result: Any = None


class BackendError(YolotrtError):
    """A back-end that cannot be loaded, or failed while it ran."""


class FallbackRefusedError(BackendError):
    """`strict` was asked for and only a slower or another back-end than the best one could have been taken."""


class NonFiniteOutputError(BackendError):
    """The model's outputs hold NaN or infinity, so boxes decoded from them would mean nothing."""


class CudaError(BackendError):
    """A CUDA call failed, or there is no usable GPU or driver."""


class SourceError(YolotrtError):
    """A picture, video or folder that cannot be opened or read."""


class DatasetError(YolotrtError):
    """A data set that cannot be read, or whose labels cannot be right."""


class EvaluationError(YolotrtError):
    """A measurement or comparison that has nothing to go by."""


class SinkError(YolotrtError):
    """An output that cannot be written: folder not writable, disk full."""


def _one_line(text: str) -> str:
    return " ".join(text.split())
