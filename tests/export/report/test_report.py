"""The page and the data: whole, safe, the same every time, and what they say."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from tests.export.report.proofs import (
    AUTO,
    FP16,
    FP32,
    INT8,
    LABELLED,
    MEASURED,
    NOT_MET,
    PLAIN,
    PROOFS,
    UNLABELLED,
    Page,
    latency,
    report,
)
from tests.support.specs import make_spec
from yolotrt.errors import SinkError
from yolotrt.export.bundle import BundlePaths, latest_bundle
from yolotrt.export.gate.proof import CalibrationRecord, LayerLoss, Proof, Score
from yolotrt.export.report import make_report, write_report
from yolotrt.export.report.style import BAD, COLOURS, DARK, LIGHT

SECTIONS = [
    "Accuracy of each precision", "Accuracy and latency", "Accuracy of each class", "Sensitivity of the layers",
    "Arithmetic in each precision", "Calibration", "Pictures whose boxes changed", "How it was measured",
    "Limits and notes",
]  # fmt: skip
EVIL = '<script>alert("1")</script> "><img src=x onerror=alert(2)> &amp; \x00\x1b\udcff'
SHOWN = '<script>alert("1")</script> "><img src=x onerror=alert(2)> &amp; \ufffd\ufffd\ufffd'
CLIPPED = 102_000
"""Bytes of a mail beyond which Gmail shows no more; pictures aside, a report should be whole there."""


@pytest.mark.parametrize("proof", PROOFS.values(), ids=PROOFS.keys())
def test_a_page_is_whole_and_stands_alone(proof: Proof) -> None:
    html = report(proof).html
    page, unlabelled = Page(html), proof.measure == "parity"
    assert html.startswith("<!doctype html>\n")
    assert page.of("html") == [{"lang": "en"}]
    assert page.headings == [h.replace("Accuracy", "Agreement") if unlabelled else h for h in SECTIONS]
    assert len(page.of("h1")) == len(page.of("title")) == len(page.of("main")) == 1
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "base", "form", "a"}
    assert not re.search(r"https?:|//|@import|url\(|javascript:|var\(", html)
    assert all(not key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert all(a.get("scope") in ("col", "row") for a in page.of("th"))
    assert all(a.get("role") == "presentation" or a.get("aria-label") for a in page.of("table"))
    assert len(html.encode()) < CLIPPED
    assert report(proof).html == html


def test_sheets_are_short_enough_for_mail_programs() -> None:
    assert max(len(LIGHT), len(DARK)) < 8192  # Gmail drops longer ones


def test_text_of_others_stays_text() -> None:
    evil = dataclasses.replace(FP32, name=EVIL, latency_note=EVIL, score=Score(value=1, per_class={EVIL: 0.5}))
    proof = Proof(
        measure="mAP50-95",
        data=EVIL,
        pictures=1,
        runtime=EVIL,
        max_drop=0.01,
        met=True,
        versions=(
            dataclasses.replace(evil, latency=latency(3.0, runtime=EVIL)),
            dataclasses.replace(evil, precision="int8", latency=latency(1.0, runtime=EVIL), chosen=True),
        ),
        layers=(LayerLoss(name=EVIL, loss=0.1, share=1.0, quantized=True),),
        layers_kind="int8",
        calibration=CalibrationRecord(source=EVIL, pictures=1, digest=EVIL, methods={EVIL: 1}),
        notes=(EVIL,),
    )
    spec = make_spec(names=(EVIL,))
    html = make_report(proof, name=EVIL, source=EVIL, spec=spec, created=EVIL, yolotrt_version=EVIL).html
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not page.of("img")
    assert page.text.count(SHOWN) > 15
    assert all("alert" not in value for _, attributes in page.tags for value in attributes.values())
    assert html.encode()  # no half of a character is left


def test_what_a_reader_finds_in_it() -> None:
    text = Page(report(LABELLED).html).text
    for fact in (
        "INT8 keeps 99.75 % of the FP32 accuracy; 90 % of the arithmetic is INT8; inside the budget of 0.5 %.",
        "Made from street.pt; mAP50-95 on 1,240 pictures, street.yaml, split val.",
        "FP16 mAP50-95: 0.7999 of FP32: 99.99 %",
        "outside the budget",
        "Latency was not measured: no GPU here that could run TensorRT-RTX plans. So nothing is said about speed",
        "None of 4 classes lost more than 0.5 % of the score.",
        "/40/Conv given back",
        "2 were given back to FP16.",
        "64 pictures of street.yaml, split train",
        "31 mse, 14 entropy",
        "ab" * 32,
        "openvino 2026.4.1 on cpu, int8",
        "Two pictures could not be read.",
        "2026-11-23 06:58 UTC, yolotrt 0.1.0",
        "detect, anchor free head, 3 classes, 64 x 64 pixels",
    ):
        assert fact in text


def test_a_broken_budget_is_red_with_and_without_a_sheet() -> None:
    page = Page(report(NOT_MET).html)
    (verdict,) = [a for a in page.of("p") if "verdict" in a.get("class", "")]
    assert verdict["class"] == "verdict bad"
    assert f"color:{BAD}" in verdict["style"]
    assert "NOT inside the budget of 0.5 %" in page.text
    assert "\N{BLACK DOWN-POINTING TRIANGLE} \N{MINUS SIGN}1.02" in page.text  # the car: 0.82, then 0.8098
    assert "3 of 4 classes lost more" in page.text
    assert "verdict bad" not in report(LABELLED).html


def test_without_labels() -> None:
    text = Page(report(UNLABELLED).html).text
    assert "INT8 agrees with FP32 on 99.64 % of the boxes" in text
    assert "Without labels only the difference to FP32 is known" in text
    assert "Share of boxes in common" in text
    assert "car 1.0000 0.9900 \N{BLACK DOWN-POINTING TRIANGLE} \N{MINUS SIGN}1.00" in text
    assert "boxes of FP32 1,173" in text
    bare = dataclasses.replace(
        UNLABELLED, versions=tuple(dataclasses.replace(v, score=Score(value=1)) for v in UNLABELLED.versions)
    )
    assert "There are no labels." in Page(report(bare).html).text


def test_layers_of_a_precision_that_was_not_chosen() -> None:
    text = Page(report(AUTO).html).text
    assert "The version in this bundle is FP16, so that none of it was lost there." in text
    assert "given back" not in text


def test_nothing_but_fp32() -> None:
    text = Page(report(PLAIN).html).text
    assert "FP32: all of the accuracy is kept, since nothing was changed." in text
    assert "Latency was not measured. So nothing" in text
    assert "It was not recorded." in text
    assert "Nothing was quantized" in text
    assert "in this bundle" in text


def test_a_long_list_of_classes_is_folded() -> None:
    many = {f"class {i}": 0.5 + i / 1000 for i in range(80)}
    versions = tuple(dataclasses.replace(v, score=dataclasses.replace(v.score, per_class=many)) for v in (FP32, INT8))
    proof = dataclasses.replace(LABELLED, versions=(versions[0], dataclasses.replace(versions[1], chosen=True)))
    page = Page(report(proof).html)
    assert "60 more" in page.text
    assert all(name in page.text for name in many)


def test_a_front_is_drawn_from_what_was_measured_alike() -> None:
    page = Page(report(MEASURED).html)
    assert len(page.of("svg")) == 1
    assert len(page.of("circle")) == 1
    assert len(page.of("polygon")) == 3
    assert "INT8: 98.75 % at 1.10 ms" in page.text
    first, *rest = MEASURED.versions
    # As runtimes name themselves: the precision is theirs, and no other condition.
    named = [dataclasses.replace(v, latency=latency(2.0, runtime=f"openvino 1 on cpu, {v.precision}")) for v in rest]
    page = Page(report(dataclasses.replace(MEASURED, versions=(first, *named))).html)
    assert (len(page.of("circle")), len(page.of("polygon"))) == (0, 3)
    assert "other conditions and not drawn: FP32" in page.text
    alone = dataclasses.replace(MEASURED, versions=(first, FP16, dataclasses.replace(INT8, chosen=True)))
    page = Page(report(alone).html)
    assert not page.of("svg")
    assert "Only the latency of FP32 was measured" in page.text
    assert "The latency of FP16 was not measured: no GPU here" in page.text
    apart = dataclasses.replace(alone, versions=(first, dataclasses.replace(named[0], chosen=True)))
    assert "under different conditions, so they are not drawn together" in Page(report(apart).html).text


@pytest.mark.parametrize("same", [True, False])
def test_points_of_a_front_stay_inside_the_drawing(*, same: bool) -> None:
    versions = [
        dataclasses.replace(v, relative=1.0 if same else v.relative, latency=latency(0.001 if same else 250.0 * i))
        for i, v in enumerate(MEASURED.versions, 1)
    ]
    page = Page(report(dataclasses.replace(MEASURED, versions=tuple(versions), max_drop=0.0 if same else 0.005)).html)
    spots = [tuple(map(float, point.split(","))) for a in page.of("polygon") for point in a["points"].split()]
    spots += [(float(a["x"]), float(a["y"])) for a in page.of("text")]
    spots += [(float(a[f"x{end}"]), float(a[f"y{end}"])) for a in page.of("line") for end in "12"]
    assert all(0 <= x <= 330 and 0 <= y <= 230 for x, y in spots)
    numbers = [(a["x"], a["y"]) for a in page.of("text") if "font-weight" in a]
    assert len(set(numbers)) == len(versions)


def test_the_data_is_json(tmp_path: Path) -> None:
    layers = (LayerLoss(name="/0/Conv", loss=0.25, share=0.5, quantized=True),)
    made = report(dataclasses.replace(LABELLED, layers=layers))
    page, data = write_report(made, tmp_path, "street-int8")
    assert (page.name, data.name) == ("street-int8-report.html", "street-int8-report.json")
    assert page.read_text(encoding="utf-8") == made.html
    assert json.loads(data.read_text()) == made.data
    assert made.data["format"] == "yolotrt-report"
    assert made.data["met"] is True
    assert made.data["verdict"].startswith("INT8 keeps 99.75 % of")
    assert made.data["proof"]["layers"] == [{"name": "/0/Conv", "loss": 0.25, "share": 0.5, "quantized": True}]
    assert made.data["spec"] == json.loads(json.dumps(make_spec().to_dict()))
    assert page == BundlePaths(folder=tmp_path, name="street-int8").report
    assert latest_bundle(tmp_path) is None  # it is not taken for a manifest


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match=r"cannot write .*file.street-int8-report\.html"):
        write_report(report(PLAIN), tmp_path / "file", "street-int8")


def test_contrast() -> None:
    for colour in COLOURS.values():
        assert contrast(colour, "#ffffff") >= 3
        assert contrast(colour, "#14181d") >= 3
    assert contrast(BAD, "#ffffff") >= 4.5
    # Text colours of either sheet on its page, on a highlighted row and on a red verdict.
    for sheet, grounds in ((LIGHT, ("#ffffff", "#eef4fa")), (DARK, ("#14181d", "#1d2833"))):
        assert all(ground in sheet for ground in grounds)
        inks = re.findall(r"(?<![\w-])color: (#\w{6})", sheet)
        assert len(inks) >= 4
        assert min(contrast(ink, ground) for ink in inks for ground in grounds) >= 4.5
    assert contrast(BAD, "#fdefee") >= 4.5
    assert contrast("#ff9c94", "#33201f") >= 4.5


def contrast(one: str, other: str) -> float:
    """As the Web Content Accessibility Guidelines define it."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
