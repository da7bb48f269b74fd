"""From a loaded PyTorch model to an ONNX graph with the metadata that Ultralytics and yolotrt read."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yolotrt.errors import ExportError
from yolotrt.export.ultralytics_quiet import quiet_ultralytics
from yolotrt.export.weights import LoadedWeights
from yolotrt.model_spec import BatchRange

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""Default operator set. The newest that runs whole on a GPU everywhere: ONNX Runtime's CUDA provider has no kernel for
Resize-19 and ReduceMax-20, and OpenVINO, TensorRT 10 and 11 and TensorRT-RTX read 18. RT-DETR needs at least 16."""

MAX_IR_VERSION = 10  # newer files are refused by ONNX Runtime before 1.23
MAX_DETECTIONS = 300


def trace(weights: LoadedWeights, *, imgsz: tuple[int, int], batch: BatchRange, opset: int = OPSET) -> onnx.ModelProto:
    """Trace the model: input `images` float32 `[N, 3, H, W]` (RGB in 0..1), output `output0`.

    Args:
        weights: the loaded model; it is not changed.
        imgsz: input (height, width) in pixels, multiples of the stride.
        batch: a static range fixes N; otherwise N is a dynamic dimension.
        opset: ONNX operator set.

    Raises:
        ExportError: PyTorch cannot express the model in this operator set.
    """
    import onnx
    import torch

    with quiet_ultralytics():
        net = prepared(weights, imgsz)
        # A trace with one picture would bake the batch size in wherever a dimension of 1 is dropped or broadcast.
        count = batch.opt if batch.is_static else max(batch.opt, 2)
        try:
            example = torch.zeros(count, 3, *imgsz)
            with torch.no_grad():
                shape = tuple(net(example).shape)
        except (RuntimeError, MemoryError) as e:
            raise ExportError(
                f"PyTorch cannot run the model on {count} x 3 x {imgsz[0]} x {imgsz[1]} ({_first_line(e)})",
                remedy="Use a smaller --imgsz or --batch.",
            ) from e
        buffer = io.BytesIO()
        dynamic = None if batch.is_static else {"images": {0: "batch"}, "output0": {0: "batch"}}
        try:
            with warnings.catch_warnings(), torch.no_grad(), _no_graph_dump():
                # The tracer is announced as legacy, and warns of every shape that it turns into a constant: on purpose.
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    net,
                    (example,),
                    buffer,
                    opset_version=opset,
                    input_names=["images"],
                    output_names=["output0"],
                    dynamic_axes=dynamic,
                    dynamo=False,
                )
        except (RuntimeError, ValueError, TypeError, torch.onnx.errors.OnnxExporterError) as e:
            raise ExportError(
                f"PyTorch could not trace the model to ONNX ({_first_line(e)})",
                remedy="Choose another operator set (opset).",
            ) from e
    model = onnx.load_from_string(buffer.getvalue())
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    # With a dynamic batch, shape inference loses the other dimensions as well.
    for dim, value in list(zip(model.graph.output[0].type.tensor_type.shape.dim, shape, strict=True))[1:]:
        dim.Clear()
        dim.dim_value = value
    return model


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


@contextlib.contextmanager
def _no_graph_dump() -> Iterator[None]:
    """Keep PyTorch from writing its whole graph to standard output where it cannot export it."""
    import torch

    native: Any = torch._C  # noqa: SLF001 (nothing public turns it off: the exporter turns it on by itself)
    log = getattr(native, "_jit_onnx_log", None)
    if log is None:
        yield
        return
    native._jit_onnx_log = lambda *_: None  # noqa: SLF001
    try:
        yield
    finally:
        native._jit_onnx_log = log  # noqa: SLF001


def prepared(weights: LoadedWeights, imgsz: tuple[int, int]) -> Any:
    """A fused copy of the network whose head gives one decoded tensor: what Ultralytics' own exporter sets."""
    from ultralytics.nn.modules import C2f

    net = copy.deepcopy(weights.net).fuse(verbose=False)
    anchors = sum((imgsz[0] // int(s)) * (imgsz[1] // int(s)) for s in weights.net.stride)
    for module in net.modules():
        if hasattr(module, "export"):
            module.export, module.format, module.dynamic = True, "onnx", False
        if hasattr(module, "max_det"):
            # Small inputs have fewer candidates than that; TensorRT refuses a TopK beyond them.
            module.max_det = min(MAX_DETECTIONS, getattr(module, "num_queries", anchors))
        if isinstance(module, C2f):
            module.forward = module.forward_split
    return net


def ultralytics_metadata(
    weights: LoadedWeights, *, imgsz: tuple[int, int], batch: BatchRange, names: Sequence[str]
) -> dict[str, str]:
    """The entries of `metadata_props` by which Ultralytics' own runtime loads the file. No date: same input, same
    bytes."""
    from ultralytics import __version__

    values: Mapping[str, Any] = {
        "description": f"Ultralytics {weights.head} model, exported by yolotrt",
        "author": "Ultralytics",
        "version": __version__,
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
        "stride": weights.stride,
        "task": "detect",
        "head": weights.head,
        "batch": batch.max,
        "imgsz": list(imgsz),
        "names": dict(enumerate(names)),
        "args": {"batch": batch.max, "dynamic": not batch.is_static, "nms": False if weights.end_to_end else None},
        "channels": 3,
        "end2end": weights.end_to_end,
    }
    return {key: str(value) for key, value in values.items()}
