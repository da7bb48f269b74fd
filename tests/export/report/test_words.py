"""Numbers and findings as text."""

from __future__ import annotations

import dataclasses

import pytest

from tests.export.report.proofs import AUTO, FP16, FP32, INT8, LABELLED, MIXED, NOT_MET, PLAIN, UNLABELLED, latency
from yolotrt.backends import BackendInfo
from yolotrt.export.gate.proof import Proof
from yolotrt.export.report import words

REFUSED = dataclasses.replace(LABELLED, versions=(dataclasses.replace(FP32, chosen=True), INT8))


@pytest.mark.parametrize(
    ("proof", "said"),
    [
        (
            LABELLED,
            "INT8 keeps 99.75 % of the FP32 accuracy; 90 % of the arithmetic is INT8; inside the budget of 0.5 %.",
        ),
        (
            NOT_MET,
            "INT8 keeps 98.75 % of the FP32 accuracy; 99 % of the arithmetic is INT8; NOT inside the budget of 0.5 %.",
        ),
        (AUTO, "FP16 keeps 99.99 % of the FP32 accuracy; 100 % of the arithmetic is FP16; inside the budget of 0.5 %."),
        (
            dataclasses.replace(UNLABELLED, max_drop=0.05),
            "INT8 agrees with FP32 on 99.64 % of the boxes; 99 % of the arithmetic is INT8; inside the budget of 5 %.",
        ),
        (PLAIN, "FP32: all of the accuracy is kept, since nothing was changed."),
        (REFUSED, "No other precision stays inside the budget of 0.5 %: the model is left in FP32."),
    ],
)
def test_verdicts(proof: Proof, said: str) -> None:
    assert words.verdict(proof).replace("\xa0", " ") == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.995, "99.50"), (0.99886, "99.89"), (0.99499, "99.4990"), (0.9949, "99.49"), (1, "100.00"), (1.0003, "100.03")],
)
def test_what_is_kept_never_looks_as_if_it_were_inside(value: float, said: str) -> None:
    assert words.kept(value, 0.005) == f"{said}\xa0%"


@pytest.mark.parametrize(
    ("value", "said"),
    [(1, "100"), (0.9999, "over 99.9"), (0.9897, "99"), (0.0, "0"), (0.0004, "under 0.1"), (0.081, "8.1")],
)
def test_shares(value: float, said: str) -> None:
    assert words.share(value) == f"{said}\xa0%"


def test_signs() -> None:
    assert [words.signed(v) for v in (0.0064, -0.0064, 0.00001, -0.00001)] == [
        "+0.64",
        "\N{MINUS SIGN}0.64",
        "0.00",
        "0.00",
    ]


def test_scores_and_latencies() -> None:
    assert [words.score(v) for v in (None, 0.82743, 1173)] == [words.DASH, "0.8274", "1,173"]
    assert [words.milliseconds(v) for v in (0.4312, 3.2, 41.26, 88.0, 99.97, 1234.5)] == [
        f"{v}\xa0ms" for v in ("0.431", "3.20", "41.3", "88.0", "100", "1,234")
    ]


@pytest.mark.parametrize(
    "precision", ["fp16", "int8 in 57 of 64 convolutions, else fp32", "fp16 weights, fp32 arithmetic"]
)
def test_conditions_are_all_but_the_precision(precision: str) -> None:
    for device, note in (("cpu", ""), ("cuda:0 (NVIDIA H200)", "no TensorRT 11 here")):
        info = BackendInfo(
            backend="tensorrt", flavour="tensorrt_rtx", version="1.7", device=device, precision=precision, note=note
        )
        said = words.conditions(latency(1.0, runtime=str(info), batch=4))
        assert said == f"tensorrt/tensorrt_rtx 1.7 on {device}, 4 pictures at a time"


def test_why_latencies_were_not_measured() -> None:
    known, unknown = dataclasses.replace(FP32, latency=latency(1.0)), dataclasses.replace(FP16, latency_note="")
    other = dataclasses.replace(INT8, latency_note="the plan cannot be built.")
    assert words.unmeasured([FP32, MIXED]) == "Latency was not measured: no GPU here that could run TensorRT-RTX plans."
    assert words.unmeasured([known, other]) == "The latency of INT8 was not measured: the plan cannot be built."
    assert words.unmeasured([known, unknown]) == ""


def test_times() -> None:
    assert words.time("2026-11-23T07:58:01.512+01:00") == "2026-11-23 06:58 UTC"
    for text in ("2026-11-23T07:58:01", "yesterday"):
        assert words.time(text) == text
