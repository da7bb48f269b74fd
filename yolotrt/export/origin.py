"""Where the graph comes from: PyTorch weights, or an ONNX file. Either gives an ONNX graph and its own outputs."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.errors import ExportError, UsageError
from yolotrt.export.source import Source
from yolotrt.model_spec import BatchRange
from yolotrt.model_spec_infer import METADATA_KEY, load_onnx, read_onnx_spec
from yolotrt.options import ExportOptions

if TYPE_CHECKING:
    import onnx

    from yolotrt.export.run_onnx import OnnxRunner


class Origin(abc.ABC):
    """A loaded source, with the input shape and the names of this export.

    Attributes:
        title: who computes its own outputs, for messages.
        summary: what it is, for messages.
        imgsz: input (height, width) in pixels.
        batch: batch sizes.
        names: class names; None leaves those of the file, which has none of its own.
    """

    title: str
    summary: str
    imgsz: tuple[int, int]
    batch: BatchRange
    names: tuple[str, ...] | None

    @abc.abstractmethod
    def to_onnx(self) -> onnx.ModelProto:
        """The ONNX graph, not simplified, with the metadata that Ultralytics reads."""

    @abc.abstractmethod
    def run(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The first output of the source itself for `[N, 3, H, W]`."""


def load_origin(source: Source, options: ExportOptions) -> Origin:
    """Load the source. Raises ModelError for a bad one, UsageError for options that it does not take."""
    return TorchOrigin(source.path, options) if source.kind == "pt" else OnnxOrigin(source.path, options)


class TorchOrigin(Origin):
    """Ultralytics weights."""

    title = "PyTorch"

    def __init__(self, path: Path, options: ExportOptions) -> None:
        from yolotrt.export.torch_to_onnx import OPSET
        from yolotrt.export.weights import load_weights

        weights = load_weights(path, trust=options.trust)
        self._weights, self._opset = weights, options.opset or OPSET
        self.imgsz = check_imgsz(options.imgsz or _round_up(weights.imgsz, weights.stride), weights.stride)
        self.batch = options.batch
        self.names = check_names(options.names, weights.names)
        self.summary = (
            f"{weights.head} head, {len(self.names)} classes, {weights.parameters / 1e6:.1f} M parameters"
            f"{'' if weights.restricted else ', loaded without restrictions'}"
        )

    def to_onnx(self) -> onnx.ModelProto:
        import onnx

        from yolotrt.export.torch_to_onnx import trace, ultralytics_metadata

        model = trace(self._weights, imgsz=self.imgsz, batch=self.batch, opset=self._opset)
        metadata = ultralytics_metadata(
            self._weights, imgsz=self.imgsz, batch=self.batch, names=self.names or self._weights.names
        )
        onnx.helper.set_model_props(model, metadata)
        return model

    def run(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._weights.run(np.asarray(images, np.float32))


class OnnxOrigin(Origin):
    """An ONNX file of a YOLO."""

    title = "the file as it was given"

    def __init__(self, path: Path, options: ExportOptions) -> None:
        from yolotrt.export.onnx_source import fix_shape

        if options.opset is not None:
            raise UsageError("option opset applies to .pt weights only", remedy="Leave it out.")
        model = load_onnx(path)
        # What an earlier export wrote of the shapes may no longer hold, so it is worked out again.
        kept = [p for p in model.metadata_props if p.key != METADATA_KEY]
        given = read_onnx_spec(model, where=str(path))
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
        check_imgsz(options.imgsz or given.imgsz, given.stride)
        self._model, self.imgsz, self.batch = fix_shape(model, given, options)
        own = given.names
        self.names = check_names(options.names, own) if own else options.names
        self.summary = f"{given.head.replace('_', '-')} head, {len(self.names or ())} classes"
        self._runner: OnnxRunner | None = None

    def to_onnx(self) -> onnx.ModelProto:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        metadata = {p.key: p.value for p in model.metadata_props}
        metadata |= {"imgsz": str(list(self.imgsz)), "batch": str(self.batch.max)}
        if self.names:
            metadata["names"] = str(dict(enumerate(self.names)))
        onnx.helper.set_model_props(model, metadata)
        return model

    def run(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        from yolotrt.export.run_onnx import OnnxRunner

        if self._runner is None:
            self._runner = OnnxRunner(self._model, what="the ONNX file")
        return self._runner(images)[0]


def check_imgsz(imgsz: tuple[int, int], stride: int) -> tuple[int, int]:
    """Raise UsageError for sides that are no multiples of the stride, naming the nearest ones."""
    near = tuple(max(round(side / stride), 1) * stride for side in imgsz)
    if near != tuple(imgsz):
        raise UsageError(
            f"imgsz must be a multiple of the model's stride {stride}",
            got=_size(imgsz),
            remedy=f"The nearest is {_size(near)}.",
        )
    return imgsz


def check_names(asked: tuple[str, ...] | None, own: tuple[str, ...]) -> tuple[str, ...]:
    """The names of this export. Raises UsageError where they are not as many as the model has classes."""
    if asked is not None and len(asked) != len(own):
        raise UsageError("names do not fit the model", got=f"{len(asked)} names", expected=f"{len(own)} classes")
    return own if asked is None else asked


def _round_up(imgsz: tuple[int, int], stride: int) -> tuple[int, int]:
    # Weights remember the size they were asked to train at; Ultralytics had rounded it up in the same way.
    return -(-imgsz[0] // stride) * stride, -(-imgsz[1] // stride) * stride


def _size(imgsz: tuple[int, ...]) -> str:
    return str(imgsz[0]) if len(set(imgsz)) == 1 else "x".join(map(str, imgsz))


def checked(model: onnx.ModelProto) -> None:
    """Run ONNX's own checker, with shape inference. Raises ExportError where the graph is not valid."""
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as e:
        raise ExportError(f"the ONNX graph is not valid ({str(e).strip().splitlines()[0][:300]})") from e
