"""`quantize`: a float32 detection graph becomes an INT8 or FP8 one, with FP16 around and the box decode in FP32."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Literal

from yolotrt.errors import ExportError
from yolotrt.export.fp16_rewrite import normalise, rewrite
from yolotrt.export.precision import choose_fp16
from yolotrt.export.quantize.adaptive import adaptive
from yolotrt.export.quantize.calibrate import Range, by_method, choose, group_histograms
from yolotrt.export.quantize.correct import correct_biases
from yolotrt.export.quantize.formats import FORMATS, Format, Kind
from yolotrt.export.quantize.histogram import Histogram
from yolotrt.export.quantize.insert import QuantizedWeights, insert, raise_opset
from yolotrt.export.quantize.moments import second_moments
from yolotrt.export.quantize.observe import Batches, CalibrationDigest, observe
from yolotrt.export.quantize.place import GraphView, Placement, convolution_macs, place
from yolotrt.export.quantize.ranges import Method
from yolotrt.export.quantize.weights import nearest
from yolotrt.export.samples import MAX_PICTURES
from yolotrt.types import Batch

if TYPE_CHECKING:
    import onnx

Keep = Callable[["onnx.NodeProto"], bool]

_COMPARED = 24
"""Pictures on which ranges are tried against each other: each holds hundreds of positions of every tensor."""

_CORRECTED = 32
"""Pictures from which the shift of each channel is taken, and what adaptive rounding knows of the data."""


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """How the numbers are chosen.

    Attributes:
        method: one rule for all ranges; None tries several ranges on each tensor.
        adaptive: round weights for the least error of what a convolution gives; else each to its nearest value.
        correct_bias: take back the shift of the mean that rounding causes (see `correct` for what it is worth).
        fp16: what is not quantized computes in FP16; else in FP32.
    """

    method: Method | None = None
    adaptive: bool = True
    correct_bias: bool = False
    fp16: bool = True


@dataclass(frozen=True, kw_only=True)
class QuantizeResult:
    """A quantized graph, and what was decided for it.

    Attributes:
        model: with Q/DQ pairs; float32 inputs and outputs.
        kind: the number format.
        share: of the convolutions' multiplications that are quantized, 0..1.
        scales: of each tensor that has a pair, by its name in the source graph.
        methods: the rule that gave each of those scales (see `calibrate.Range`).
        quantized: the convolutions, by name.
        kept: reason why a convolution is not quantized, by name: `head`, `expectation`, `weights`,
            `attention`, `input`, `narrow`, `asked` (see `place`).
        pictures: used for the calibration.
        calibration_digest: SHA-256 over them, as the model got them.
    """

    model: onnx.ModelProto = field(repr=False)
    kind: Kind
    share: float
    scales: Mapping[str, float] = field(repr=False)
    methods: Mapping[str, Method | Literal["part"]] = field(repr=False)
    quantized: tuple[str, ...] = field(repr=False)
    kept: Mapping[str, str]
    pictures: int
    calibration_digest: str


def quantize(
    model: onnx.ModelProto,
    batches: Batches,
    *,
    kind: Kind,
    keep: Keep | None = None,
    options: QuantizeOptions | None = None,
) -> QuantizeResult:
    """Quantize a graph.

    Args:
        model: a float32 detection graph, simplified.
        batches: gives the calibration pictures, preprocessed as at run time; called once per pass over them.
        kind: `int8` or `fp8`.
        keep: convolutions to leave in FP16 beyond those that always are (see `place`).
        options: how ranges are chosen.

    Raises:
        ExportError: the graph is quantized already, is not float32, has no convolution to quantize, or a value in it
            is not finite; there are no pictures.
    """
    return Calibration.measure(model, batches).quantize(kind=kind, keep=keep, options=options)


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """What one pass over the calibration pictures found: enough for any number of quantized versions of the graph.

    A search that tries many versions makes one of these. What depends on the version (trying ranges in front of
    convolutions, bias correction) reads some of the pictures again.

    Attributes:
        model: the float32 graph, normalised, in an operator set that has all formats.
        macs: multiply-accumulates of each convolution, by its output.
        histograms: of every tensor that was quantized so far.
        batches: gives the pictures.
        pictures, digest: how many, and SHA-256 over them.
        fp16: nodes that may compute in FP16, by their first output.
        ranges: those chosen so far, by what they were chosen for.
        adapted: weights that were rounded adaptively so far, by what they were rounded for.
    """

    model: onnx.ModelProto = field(repr=False)
    macs: Mapping[str, int] = field(repr=False)
    histograms: dict[str, Histogram] = field(repr=False)
    batches: Batches = field(repr=False)
    pictures: int
    digest: str
    fp16: frozenset[str] = field(repr=False)
    ranges: MutableMapping[str, list[Range]] = field(default_factory=dict, repr=False)
    adapted: MutableMapping[str, QuantizedWeights] = field(default_factory=dict, repr=False)

    @classmethod
    def measure(cls, model: onnx.ModelProto, batches: Batches) -> Calibration:
        """Run the graph on all pictures. Raises ExportError as `quantize` does."""
        _check(model)
        normal = normalise(raise_opset(model))
        digest = CalibrationDigest()
        histograms = observe(normal, _all_tensors(normal), batches(), digest=digest)
        shape = next(iter(batches())).images.shape
        return cls(
            model=normal,
            macs=convolution_macs(normal, shape),
            histograms=histograms,
            batches=batches,
            pictures=digest.pictures,
            digest=str(digest),
            fp16=frozenset(choose_fp16(normal, islice(batches(), MAX_PICTURES)).fp16),
        )

    def quantize(
        self,
        *,
        kind: Kind,
        keep: Keep | None = None,
        options: QuantizeOptions | None = None,
        like: QuantizeResult | None = None,
    ) -> QuantizeResult:
        """One version of the graph.

        Args:
            kind, keep, options: as of `quantize`.
            like: an earlier result of the same kind that quantized all that this one does: its scales are taken.

        Raises:
            ExportError: nothing would be quantized.
        """
        options = options or QuantizeOptions()
        number_format = FORMATS[kind]
        placement = place(self.model, kind=kind, keep=keep)
        if not placement.convolutions:
            raise ExportError("the graph has no convolution to quantize", got=dict(placement.kept))
        chosen = _same(placement, like) or self._ranges(placement, number_format, options.method)
        weights = self._weights(placement, chosen, number_format, adapt=options.adaptive)
        if options.correct_bias:
            some = self._some(_CORRECTED)
            weights = correct_biases(self.model, placement, chosen, weights, some, number_format)
        scales = {t: chosen[i].scale for i, group in enumerate(placement.groups) for t in group}
        model = insert(self.model, placement, number_format=number_format, scales=scales, weights=weights)
        finished = self._lowered(model) if options.fp16 else model
        view = GraphView(self.model)
        quantized_macs = sum(self.macs[c.key] for c in placement.convolutions)
        return QuantizeResult(
            model=finished,
            kind=kind,
            share=quantized_macs / sum(self.macs.values()),
            scales=scales,
            methods={t: chosen[i].method for i, group in enumerate(placement.groups) for t in group},
            quantized=tuple(view.name(c.key) for c in placement.convolutions),
            kept={view.name(key): reason for key, reason in placement.kept.items()},
            pictures=self.pictures,
            calibration_digest=self.digest,
        )

    def _some(self, count: int) -> Iterator[Batch]:
        """About `count` of the pictures, spread evenly over them."""
        step = max(self.pictures // count, 1)
        seen = 0
        for batch in self.batches():
            if seen % step < len(batch.images):
                yield batch
            seen += len(batch.images)

    def _ranges(self, placement: Placement, number_format: Format, method: Method | None) -> list[Range]:
        key = _key(placement, number_format, method)
        if key not in self.ranges:
            self.ranges[key] = self._chosen(placement, number_format, method)
        return self.ranges[key]

    def _chosen(self, placement: Placement, number_format: Format, method: Method | None) -> list[Range]:
        # Which input of an Add is the residual can depend on what is kept, so that a tensor more may be asked for.
        missing = [t for t in placement.tensors if t not in self.histograms]
        if missing:
            self.histograms.update(observe(self.model, missing, self.batches(), digest=CalibrationDigest()))
        histograms = group_histograms(placement, self.histograms)
        if method is not None:
            return by_method(histograms, method, number_format)
        return choose(self.model, placement, histograms, self._some(_COMPARED), number_format)

    def _weights(
        self, placement: Placement, chosen: list[Range], number_format: Format, *, adapt: bool
    ) -> dict[str, QuantizedWeights]:
        view = GraphView(self.model)
        given = {c.key: (view.constant(c.weight), view.constant(c.bias) if c.bias else None)
                 for c in placement.convolutions}  # fmt: skip
        if not adapt:
            return {key: nearest(*both, number_format) for key, both in given.items()}
        scales = {c.key: chosen[c.root_group].scale for c in placement.convolutions}
        names = {key: _weights_key(number_format, key, scale) for key, scale in scales.items()}
        missing = [c for c in placement.convolutions if names[c.key] not in self.adapted]
        some = partial(self._some, _CORRECTED)
        for c, moments in second_moments(self.model, missing, scales, some, number_format):
            self.adapted[names[c.key]] = adaptive(*given[c.key], moments, number_format)
        return {key: self.adapted[name] for key, name in names.items()}

    def _lowered(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """FP16 for what is not quantized. A pair computes in the type of what it stands between."""
        normal = normalise(model)
        view, fp16 = GraphView(normal), set(self.fp16)
        for node in normal.graph.node:
            key = node.output[0]
            if node.op_type == "QuantizeLinear":
                source = view.producer.get(node.input[0])
                if source is not None and source.output[0] in fp16:
                    fp16.add(key)
            elif node.op_type == "DequantizeLinear" and any(r in fp16 for r, _ in view.readers[key]):
                fp16.add(key)
        return rewrite(normal, fp16)


def _key(placement: Placement, number_format: Format, method: Method | None) -> str:
    convolutions = [c.key for c in placement.convolutions]
    given = repr((number_format.kind, method, placement.groups, convolutions))
    return hashlib.sha256(given.encode()).hexdigest()[:32]


def _weights_key(number_format: Format, convolution: str, scale: float) -> str:
    return hashlib.sha256(repr((number_format.kind, convolution, scale)).encode()).hexdigest()[:32]


def _same(placement: Placement, like: QuantizeResult | None) -> list[Range] | None:
    """The ranges of an earlier result, if it has all that are needed."""
    if like is None or not all(t in like.scales for t in placement.tensors):
        return None
    largest = FORMATS[like.kind].largest
    return [
        Range(threshold=like.scales[g[0]] * largest, scale=like.scales[g[0]], method=like.methods[g[0]])
        for g in placement.groups
    ]


def _all_tensors(model: onnx.ModelProto) -> list[str]:
    """Of the placement that quantizes all it may; nearly always, that of any other is a part of it."""
    placement = place(model)
    if not placement.convolutions:
        raise ExportError("the graph has no convolution to quantize", got=dict(placement.kept))
    return placement.tensors


def _check(model: onnx.ModelProto) -> None:
    from onnx import TensorProto

    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv") for node in model.graph.node):
        raise ExportError("the graph is quantized already", remedy="Give the FP32 graph.")
    if any(i.data_type == TensorProto.FLOAT16 for i in model.graph.initializer):
        raise ExportError("the graph is not FP32", got="FP16 weights", remedy="Give the FP32 graph.")
