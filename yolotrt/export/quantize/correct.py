"""Bias correction: rounding shifts the mean of what a convolution gives, and its bias can take that back.

After Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), in its
empirical form: the shift of each output channel is measured on calibration pictures, padding and all.

Each convolution is corrected for its own shift, with exact inputs: the shifts that it inherits were then removed where
they arose. Cross-layer equalization, of the same paper, needs activations that are linear in scale; SiLU is not.

It is off unless asked for, since it did not pay where it was measured (docs/benchmarks/precision.md). The mean is that
of all positions, nearly all of them background, and what suits those need not suit objects; and where weights are
rounded adaptively, their shift is nearly gone already.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from yolotrt.export.quantize.calibrate import Range
from yolotrt.export.quantize.formats import Format
from yolotrt.export.quantize.insert import QuantizedWeights
from yolotrt.export.quantize.local_errors import mean_errors
from yolotrt.export.quantize.place import Placement
from yolotrt.types import Batch

if TYPE_CHECKING:
    import onnx


def correct_biases(
    model: onnx.ModelProto,
    placement: Placement,
    chosen: list[Range],
    weights: Mapping[str, QuantizedWeights],
    batches: Iterable[Batch],
    number_format: Format,
) -> dict[str, QuantizedWeights]:
    """The weights with corrected biases. A convolution without a bias keeps none.

    Args:
        model: float32.
        placement: of this model.
        chosen: the ranges of its groups.
        weights: by key of the convolution.
        batches: some pictures.
        number_format: of data and weights.
    """
    wanted = [c for c in placement.convolutions if weights[c.key].bias is not None]
    scales = {c.key: chosen[c.root_group].scale for c in wanted}
    errors = mean_errors(model, wanted, scales, weights, batches, number_format)
    corrected = dict(weights)
    for key, error in errors.items():
        bias = weights[key].bias
        assert bias is not None
        corrected[key] = dataclasses.replace(weights[key], bias=bias - error)
    return corrected
