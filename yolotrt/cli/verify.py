"""`yolotrt verify`: does one model find the boxes that another finds?"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from yolotrt.cli.filled_in import Command

if TYPE_CHECKING:
    from yolotrt.detector import Detector
    from yolotrt.evaluation.parity import Parity, PicturePairs, VerifyOptions


@click.command("verify", cls=Command)
@click.argument("reference")
@click.argument("candidate")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Pictures to compare on: a folder, a glob or a file.  [default: samples of yolotrt]",
)
@click.option("--min-match", type=float, default=0.99, show_default=True, help="Share of boxes that must match.")
@click.option("--min-iou", type=float, default=0.9, show_default=True, help="Overlap that a matching pair needs.")
@click.option("--conf", type=float, default=0.25, show_default=True, help="Boxes above this confidence are compared.")
@click.option(
    "--margin",
    type=float,
    default=0.1,
    show_default=True,
    help="Difference in confidence that a pair may have if one of its boxes is not above --conf.",
)
@click.option("--iou", type=float, default=0.7, show_default=True, help="Overlap that drops the weaker box.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--reference-backend", default="auto", show_default=True, help="auto, tensorrt, openvino or onnxruntime.")
@click.option("--candidate-backend", default="auto", show_default=True, help="The same for the candidate.")
@click.option("--strict", is_flag=True, help="Fail rather than fall back to a slower back-end.")
@click.option("--trust", is_flag=True, help="Allow weights to run code of their own when loaded.")
@click.option(
    "--worst",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the 8 pictures that differ most there: reference left, candidate right, boxes without a match marked.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.pass_context
def command(ctx: click.Context, /, reference: str, candidate: str, **given: Any) -> None:
    """Compare the boxes of CANDIDATE with those of REFERENCE, one to one.

    Both can be a plan, an ONNX file, a bundle or weights, in any precision. Two boxes match if they are of one class
    and overlap by --min-iou. Ends with 1 if a smaller share than --min-match of either model's boxes matches, if a
    picture cannot be read or something fails, and with 2 if the call is wrong.
    """
    from yolotrt.evaluation.parity import VerifyOptions, common_names, verify

    fields = [f.name for f in dataclasses.fields(VerifyOptions)]
    options = VerifyOptions(**{name: given[name] for name in fields})
    from yolotrt.cli.eval_report import progress
    from yolotrt.export.samples import find_pictures

    pictures = find_pictures(given["images"], limit=sys.maxsize)
    if given["worst"] is not None:
        from yolotrt.evaluation.side_by_side import make_folder, refuse_own_folder

        refuse_own_folder(given["worst"], "--worst", pictures)
        make_folder(given["worst"])
    with contextlib.ExitStack() as stack:
        detectors = [
            stack.enter_context(_open(path, given[f"{role}_backend"], options, given))
            for role, path in (("reference", reference), ("candidate", candidate))
        ]
        first, second = detectors
        common_names(first.names, second.names)
        click.echo(f"Reference: {reference}, in {first.info}", err=True)
        click.echo(f"Candidate: {candidate}, in {second.info}", err=True)
        with progress("reference", "candidate", total=len(pictures)) as (on_result, on_problem):
            found = verify(first, second, pictures, options, on_result=on_result, on_problem=on_problem)
        infos = [dataclasses.asdict(d.info) for d in detectors]
    written = _write_worst(found, given["worst"]) if given["worst"] is not None else []
    if given["as_json"]:
        record = {
            "reference": {"model": reference, "backend": infos[0]},
            "candidate": {"model": candidate, "backend": infos[1]},
            **dataclasses.asdict(options),
            **found.to_dict(),
            "written": [str(path) for path in written],
        }
        click.echo(json.dumps(record, indent=2))
    else:
        _show(found, written, samples=given["images"] is None)
    if not found.passed or found.problems:
        ctx.exit(1)


def _open(model: str, backend: str, options: VerifyOptions, given: dict[str, Any]) -> Detector:
    from yolotrt.detector import Detector

    return Detector(
        model,
        backend=cast("Any", backend),  # checked there
        device=given["device"],
        options=options.detect,
        strict=given["strict"],
        trust=given["trust"],
    )


def _write_worst(found: Parity, folder: Path) -> list[Path]:
    from yolotrt.evaluation.side_by_side import Half, write_side_by_side

    def halves(pairs: PicturePairs) -> tuple[Half, Half]:
        left, right = f"reference: {pairs.missed} without a match", f"candidate: {pairs.added} without a match"
        return (
            Half(title=left, boxes=pairs.reference, agreed=pairs.reference_matched),
            Half(title=right, boxes=pairs.candidate, agreed=pairs.candidate_matched),
        )

    paths = [write_side_by_side(folder, rank, w.picture, *halves(w)) for rank, w in enumerate(found.worst, 1)]
    return [path for path in paths if path is not None]


def _show(found: Parity, written: list[Path], *, samples: bool) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from yolotrt.cli.eval_report import percent

    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("class")
    for heading in ("reference", "candidate", "missed", "added", "match"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in (found.total, *found.classes.values()):
        counts = (f"{n:,}" for n in (row.reference, row.candidate, row.missed, row.added))
        whole = row.name == "all" and row == found.total
        table.add_row(
            escape(row.name), *counts, f"{percent(row.match)} %", style="bold" if whole else "", end_section=whole
        )
    console = Console()
    console.print(table)

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    record = found.to_dict()
    iou, delta, best = record["iou"], record["confidence_delta"], record["best_f1"]
    if len(found.iou):
        line(f"IoU of pairs: mean {iou['mean']:.4f}, 1st percentile {iou['p1']:.4f}, lowest {iou['min']:.4f}")
        line(
            f"Confidence, candidate minus reference: mean {delta['mean']:+.4f}, "
            f"1st to 99th percentile {delta['p1']:+.4f} to {delta['p99']:+.4f}"
        )
    line(
        f"Best threshold of the candidate: {best['candidate_confidence']:.3f} instead of "
        f"{best['reference_confidence']:.3f} (F1 {best['f1']:.4f}, without the shift "
        f"{best['f1_at_reference_confidence']:.4f})"
    )
    if found.moved or found.flickering:
        line(f"Moved boxes: {found.moved:,}. Matched across the threshold: {found.flickering:,}")
    if written:
        line(f"Written: {len(written)} files in {written[0].parent}")
    if found.problems:
        line(f"Left out: {len(found.problems):,} pictures (see the warnings)")
    if samples:
        line(f"Compared on {found.images} sample pictures only; --images takes your own.")
    verdict = "passed" if found.passed else "failed"
    line(f"{verdict}: {percent(found.total.match, 2)} % match, {percent(found.options.min_match, 2)} % asked for")
