"""An ONNX file as the source of an export: its open dimensions are set to what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yolotrt.errors import UsageError
from yolotrt.model_spec import BatchRange, ModelSpec
from yolotrt.options import ExportOptions

if TYPE_CHECKING:
    import onnx


def fix_shape(
    model: onnx.ModelProto, spec: ModelSpec, options: ExportOptions
) -> tuple[onnx.ModelProto, tuple[int, int], BatchRange]:
    """A copy of `model` with the input shape of this export, and that shape: (model, (height, width), batch sizes).

    Raises UsageError where the file has fixed another one.
    """
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    batch, imgsz = _batch(spec, options), _imgsz(spec, options)
    tensor = next(v for v in fixed.graph.input if v.name == spec.input.name).type.tensor_type
    for dim, value in zip(tensor.shape.dim, (batch.min if batch.is_static else None, 3, *imgsz), strict=True):
        if value is not None:
            dim.Clear()
            dim.dim_value = value
    # The shapes behind the input follow from it.
    del fixed.graph.value_info[:]
    for output in fixed.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.Clear()
    return onnx.shape_inference.infer_shapes(fixed, data_prop=True), imgsz, batch


def _batch(spec: ModelSpec, options: ExportOptions) -> BatchRange:
    own = spec.input.shape[0]
    if own is None:
        return options.batch
    if options.batch not in (BatchRange(), BatchRange(min=own, opt=own, max=own)):
        raise UsageError(
            "this ONNX file has a fixed batch size",
            got=f"{options.batch.min},{options.batch.opt},{options.batch.max}",
            expected=own,
            remedy="Export the weights themselves, or an ONNX file with a dynamic batch.",
        )
    return BatchRange(min=own, opt=own, max=own)


def _imgsz(spec: ModelSpec, options: ExportOptions) -> tuple[int, int]:
    asked = options.imgsz or spec.imgsz
    own = spec.input.shape[2:]
    height, width = (fixed or side for fixed, side in zip(own, asked, strict=True))
    if (height, width) != asked:
        raise UsageError(
            "this ONNX file has a fixed input size",
            got=f"--imgsz {asked[0]}x{asked[1]}",
            expected=f"{height}x{width}",
            remedy="Export the weights themselves, or an ONNX file with dynamic height and width.",
        )
    return height, width
