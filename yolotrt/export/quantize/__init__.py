"""Quantization to INT8 and FP8 as Q/DQ pairs in the ONNX graph. Read `place`, then `quantize`."""

from yolotrt.export.quantize.formats import Kind
from yolotrt.export.quantize.quantize import Calibration, QuantizeOptions, QuantizeResult, quantize

__all__ = ["Calibration", "Kind", "QuantizeOptions", "QuantizeResult", "quantize"]
