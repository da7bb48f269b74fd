"""Colours and style sheets of the report.

All text has a contrast of 4.5:1 or more on its background, all bars of 3:1 in both modes. The colours of the precisions
are those of Okabe and Ito, which people see apart whatever their colour vision; a word stands beside each anyway.
"""

from __future__ import annotations

from yolotrt.model_spec import Precision

COLOURS: dict[Precision, str] = {"fp32": "#767c85", "fp16": "#0072b2", "fp8": "#009e73", "int8": "#d55e00"}
"""Of bars and points; the same in light and dark."""

BAD = "#b3261e"

# Without quotation marks, as they stand in attributes too. No var(): mail programs do not know it.
PAGE = (
    "font-family:system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif;font-size:16px;line-height:1.5;"
    "max-width:860px;margin:0 auto;padding:16px"
)
TABLE = "border-collapse:collapse;width:100%"
TEXT = "text-align:left;padding:6px 8px;vertical-align:top"
NUMBER = "text-align:right;padding:6px 8px;vertical-align:top;white-space:nowrap"

LIGHT = """
body { margin: 0; background: #ffffff; color: #1c2126; -webkit-text-size-adjust: 100%; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; line-height: 1.3; margin: 36px 0 8px; }
p { margin: 8px 0; }
ul, ol { margin: 8px 0; padding-left: 22px; }
td, th, li, p { overflow-wrap: anywhere; }
.nums { font-variant-numeric: tabular-nums; }
.data { font-size: 15px; font-variant-numeric: tabular-nums; }
.bars { font-size: 14px; font-variant-numeric: tabular-nums; }
.data th { font-weight: 600; }
.data thead th, .muted { color: #57606a; }
.data thead th { font-size: 13px; font-weight: 600; white-space: nowrap; }
.data > thead > tr > th, .data > tbody > tr > * { border-bottom: 1px solid #d8dee4; }
.data .chosen > * { background: #eef4fa; }
.muted, .small { font-size: 13px; }
.verdict { line-height: 1.4; margin: 16px 0; padding: 12px 16px; border-left: 6px solid #0072b2;
  background: #eef4fa; }
.verdict.bad { border-left-color: #b3261e; background: #fdefee; }
.bad { color: #b3261e; font-weight: 600; }
.tag { font-size: 13px; font-weight: 600; white-space: nowrap; }
.here { color: #00588a; }
.track { background: #e7ebef; }
.key { display: none; }
summary { cursor: pointer; padding: 8px 0; font-weight: 600; }
figure { margin: 8px 0; }
.plot { width: 100%; max-width: 460px; height: auto; display: block; }
.mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px; }
@media (max-width: 600px) {
  .data { font-size: 14px; }
  .verdict { font-size: 18px !important; }
  .side { width: 100% !important; margin-bottom: 8px; }
  .cards thead { display: none; }
  .cards, .cards > tbody, .cards > tbody > tr, .cards > tbody > tr > * { display: block; width: auto !important; }
  .cards > tbody > tr > * { text-align: left !important; white-space: normal !important; border: 0 !important;
    padding: 2px 8px !important; }
  .cards > tbody > tr > .short { display: inline-block; }
  .cards > tbody > tr { border-bottom: 1px solid #d8dee4; padding: 8px 0; }
  .cards > tbody > tr.chosen { background: #eef4fa; }
  .key { display: inline !important; color: #57606a; }
}
@media print {
  h2 { break-after: avoid; }
  tr, figure { break-inside: avoid; }
}
"""

DARK = """
@media (prefers-color-scheme: dark) {
  body { background: #14181d; color: #e6e9ed; }
  .data thead th, .muted { color: #a8b1bb; }
  .data > thead > tr > th, .data > tbody > tr > * { border-bottom-color: #38414b; }
  .data .chosen > *, .verdict { background: #1d2833; }
  .verdict { border-left-color: #4aa3dc; }
  .verdict.bad { border-left-color: #ff8a80; background: #33201f; }
  .bad { color: #ff9c94 !important; }
  .here { color: #7cc0ee; }
  .track { background: #2b333c; }
}
@media (prefers-color-scheme: dark) and (max-width: 600px) {
  .key { color: #a8b1bb; }
  .cards > tbody > tr { border-bottom-color: #38414b; }
  .cards > tbody > tr.chosen { background: #1d2833; }
}
"""
