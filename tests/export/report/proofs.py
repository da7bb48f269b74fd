"""Proofs as the gate makes them, and a reader of pages."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from typing import Any

from tests.support.specs import make_spec
from yolotrt.evaluation.parity import Parity
from yolotrt.export.gate.proof import CalibrationRecord, Latency, LayerLoss, Proof, Score, Version
from yolotrt.export.report import Report, make_report

CLASSES = {"car": 0.82, "dog": 0.76, "cup": 0.02, "bird": None}
NO_GPU = "no GPU here that could run TensorRT-RTX plans"


def latency(milliseconds: float, **changes: Any) -> Latency:
    given = Latency(
        p50_ms=milliseconds,
        p90_ms=milliseconds * 1.1,
        runs=1200,
        batch=1,
        runtime="tensorrt 10.13 on cuda:0 (NVIDIA T4)",
    )
    return dataclasses.replace(given, **changes)


def score(value: float) -> Score:
    return Score(
        value=value,
        details={"map50_95": value, "map50": 0.9652, "map_large": None},
        per_class={name: None if v is None else v * value / 0.8 for name, v in CLASSES.items()},
    )


FP32 = Version(name="FP32", precision="fp32", score=score(0.8), relative=1.0, inside=True, shares={"fp32": 1.0},
               latency_note=NO_GPU)  # fmt: skip
FP16 = Version(name="FP16", precision="fp16", score=score(0.7999), relative=0.7999 / 0.8, inside=True,
               shares={"fp16": 1.0}, latency_note=NO_GPU)  # fmt: skip
INT8 = Version(name="INT8", precision="int8", score=score(0.79), relative=0.79 / 0.8, inside=False,
               shares={"int8": 0.99, "fp16": 0.01}, latency_note=NO_GPU)  # fmt: skip
MIXED = Version(name="INT8, 2 convolutions in FP16", precision="int8", score=score(0.798), relative=0.798 / 0.8,
                inside=True, shares={"int8": 0.9, "fp16": 0.1}, given_back=("/0/Conv", "/40/Conv"), latency_note=NO_GPU,
                chosen=True)  # fmt: skip

LABELLED = Proof(
    measure="mAP50-95",
    data="street.yaml, split val",
    pictures=1240,
    runtime="openvino 2026.4.1 on cpu, int8",
    max_drop=0.005,
    met=True,
    versions=(FP32, FP16, INT8, MIXED),
    layers=tuple(
        LayerLoss(name=f"/{i}/Conv", loss=0.01 / (i + 1) - 0.0002, share=1 / 57, quantized=i not in (0, 40))
        for i in range(57)
    ),
    layers_kind="int8",
    calibration=CalibrationRecord(
        source="64 pictures of street.yaml, split train",
        pictures=64,
        digest="ab" * 32,
        methods={"mse": 31, "entropy": 14},
    ),
    notes=("Two pictures could not be read.",),
)
NOT_MET = dataclasses.replace(
    LABELLED,
    met=False,
    versions=(FP32, FP16, dataclasses.replace(INT8, chosen=True), dataclasses.replace(MIXED, chosen=False)),
)
MEASURED = dataclasses.replace(
    LABELLED,
    versions=tuple(
        dataclasses.replace(v, latency=latency(ms), latency_note="")
        for v, ms in zip(LABELLED.versions, (4.2, 1.9, 1.1, 1.2), strict=True)
    ),
)
UNLABELLED = dataclasses.replace(
    LABELLED,
    measure="parity",
    data="a folder of pictures",
    versions=(
        dataclasses.replace(FP32, score=Score(value=1.0)),
        dataclasses.replace(
            INT8, inside=True, relative=0.9964, chosen=True,
            score=Score(value=0.9964, details={"boxes": 1173, "missed": 4}, per_class={"car": 0.99, "dog": 1.0}),
        ),
    ),
)  # fmt: skip
AUTO = dataclasses.replace(
    LABELLED, versions=(FP32, dataclasses.replace(FP16, chosen=True), INT8, dataclasses.replace(MIXED, chosen=False))
)
PLAIN = dataclasses.replace(
    LABELLED,
    versions=(dataclasses.replace(FP32, chosen=True, score=Score(value=0.8), latency_note=""),),
    layers=(),
    layers_kind=None,
    calibration=None,
    notes=(),
)
PROOFS = {
    "labelled": LABELLED, "not met": NOT_MET, "measured": MEASURED, "unlabelled": UNLABELLED, "auto": AUTO,
    "plain": PLAIN,
}  # fmt: skip


def report(proof: Proof, parity: Parity | None = None, **changes: Any) -> Report:
    given = {"name": "street-int8", "source": "street.pt", "created": "2026-11-23T06:58:01.5+00:00"}
    return make_report(proof, spec=make_spec(), parity=parity, yolotrt_version="0.1.0", **{**given, **changes})


class Page(HTMLParser):
    """A page as a browser reads it; tags that are not balanced are an error.

    Attributes:
        tags: every element, as (tag, attributes).
        text: of the whole page, sheets left out; plain spaces throughout.
        headings: texts of the h2.
    """

    _VOID = frozenset({"meta", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.headings: list[str] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open
        self.text = " ".join("".join(self._text).split())  # a no-break space is one as well

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag in ("td", "th", "div"):
            self._text.append(" ")
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            return
        self._text.append(data)
        if self._open and self._open[-1] == "h2":
            self.headings.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        """Attributes of all elements of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]
