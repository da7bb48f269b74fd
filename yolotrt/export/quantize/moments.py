"""Second moments of what convolutions read: which errors of their weights show in what they give, and which cancel.

A convolution's output is its weights times the patches of its input. If its weights err by `e`, the squared error of
the output is `e H e`, with `H` the mean of patch times patch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolotrt.export.quantize.formats import Float32Array, Format
from yolotrt.export.quantize.observe import Fetcher
from yolotrt.export.quantize.place import Convolution, GraphView
from yolotrt.types import Batch

if TYPE_CHECKING:
    import onnx

POSITIONS = 256
"""Patches that are taken of each picture, at random; neighbours say much the same."""

LIMIT_BYTES = 512 << 20
"""Moments that are held at once. A larger model takes further passes over the pictures."""


def second_moments(
    model: onnx.ModelProto,
    convolutions: Sequence[Convolution],
    scales: Mapping[str, float],
    batches: Callable[[], Iterable[Batch]],
    number_format: Format,
) -> Iterator[tuple[Convolution, Float32Array]]:
    """Each convolution with the moments of its quantized data, `[groups, K, K]`, K = in / groups * kh * kw.

    Args:
        model: float32.
        convolutions: of it.
        scales: of the data, by key of the convolution.
        batches: some pictures; called once per pass.
        number_format: of the data.
    """
    windows = {c.key: _Windows(GraphView(model), c) for c in convolutions}
    for some in _packed(convolutions, {c.key: windows[c.key].moment_bytes for c in convolutions}):
        sums: dict[str, Float32Array] = {}
        dice = np.random.default_rng(0)
        fetched = Fetcher(model, [c.data for c in some])
        for batch in batches():
            for name, data in fetched(batch):
                for c in (c for c in some if c.data == name):
                    patches = number_format.apply(windows[c.key].sample(data, dice), scales[c.key])
                    found = np.matmul(patches.transpose(0, 2, 1), patches)
                    sums[c.key] = sums[c.key] + found if c.key in sums else found
        for c in some:
            yield c, sums.pop(c.key)


def _packed(convolutions: Sequence[Convolution], sizes: Mapping[str, int]) -> Iterator[list[Convolution]]:
    """Neighbours together, as many as fit."""
    totals = itertools.accumulate(sizes[c.key] for c in convolutions)
    numbered = zip(totals, convolutions, strict=True)
    for _, group in itertools.groupby(numbered, key=lambda pair: pair[0] // LIMIT_BYTES):
        yield [c for _, c in group]


class _Windows:
    """The patches that one convolution multiplies its weights with."""

    def __init__(self, view: GraphView, convolution: Convolution) -> None:
        from onnx import helper

        node = view.nodes[convolution.key]
        attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        _, depth, *self.kernel = view.constants[convolution.weight].dims
        self.groups = int(attributes.get("group", 1))
        self.strides = attributes.get("strides", [1, 1])
        self.dilations = attributes.get("dilations", [1, 1])
        self.pads = attributes.get("pads", [0, 0, 0, 0])
        self.moment_bytes = 4 * self.groups * (depth * self.kernel[0] * self.kernel[1]) ** 2

    def sample(self, data: npt.NDArray[Any], dice: np.random.Generator) -> Float32Array:
        """Some of the patches of `[N, C, H, W]`: `[groups, n, K]`."""
        top, left, bottom, right = self.pads
        padded = np.pad(data, ((0, 0), (0, 0), (top, bottom), (left, right)))
        spans = [d * (k - 1) for d, k in zip(self.dilations, self.kernel, strict=True)]
        rows, columns = (
            (size - span - 1) // step + 1
            for size, span, step in zip(padded.shape[2:], spans, self.strides, strict=True)
        )
        count = len(data) * rows * columns
        wanted = min(POSITIONS * len(data), count)
        picture, row, column = np.unravel_index(dice.choice(count, wanted, replace=False), (len(data), rows, columns))
        y = (row * self.strides[0])[:, None, None] + self.dilations[0] * np.arange(self.kernel[0])[:, None]
        x = (column * self.strides[1])[:, None, None] + self.dilations[1] * np.arange(self.kernel[1])
        taken = padded[picture[:, None, None], :, y, x]  # [n, kh, kw, C]
        split = taken.transpose(0, 3, 1, 2).reshape(wanted, self.groups, -1)
        return np.ascontiguousarray(split.transpose(1, 0, 2), np.float32)
