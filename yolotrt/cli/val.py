"""`yolotrt val`: how good a model is on a labelled data set."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from yolotrt.cli.filled_in import Command

if TYPE_CHECKING:
    from yolotrt.backends import BackendInfo
    from yolotrt.evaluation.validate import Validation

_ALL_COLUMNS = 78  # characters; a narrower terminal gets the table without the sizes of boxes


@click.command("val", cls=Command)
@click.option("--model", required=True, metavar="MODEL", help="Plan, ONNX file, bundle or weights.")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="data.yaml as Ultralytics writes it, the folder with it, or COCO annotations (.json).",
)
@click.option(
    "--images", type=click.Path(path_type=Path), metavar="DIR", help="Pictures of COCO annotations.  [default: nearby]"
)
@click.option("--split", metavar="train|val|test", help="Which part of a data.yaml.  [default: val]")
@click.option("--conf", type=float, default=0.001, show_default=True, help="Drop boxes of at most this confidence.")
@click.option(
    "--iou", type=float, default=0.7, show_default=True, help="Overlap above which the weaker box is dropped."
)
@click.option("--max-det", type=int, default=300, show_default=True, help="At most this many boxes per picture.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--backend", default="auto", show_default=True, help="auto, tensorrt, openvino or onnxruntime.")
@click.option("--strict", is_flag=True, help="Fail rather than fall back to a slower back-end.")
@click.option("--trust", is_flag=True, help="Allow weights to run code of their own when loaded.")
@click.option(
    "--plots",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write curves, the confusion matrix and the pictures with the most mistakes there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Measure a model on a labelled data set: COCO's mean average precision.

    Boxes are decoded as Ultralytics' val does it, one per class above --conf. Ends with 0 if all went well, 1 if
    pictures had to be left out or something failed, 2 if the call is wrong.
    """
    from yolotrt.evaluation.validate import VAL_OPTIONS, validate

    chosen = {key: given[key] for key in ("conf", "iou", "max_det")}
    options = dataclasses.replace(VAL_OPTIONS, **chosen)  # what is out of range is said before anything is loaded
    from yolotrt.cli.eval_report import progress
    from yolotrt.evaluation.dataset import open_dataset

    if given["plots"] is not None:
        from yolotrt.evaluation.plots import prepare

        prepare(given["plots"])
    dataset = open_dataset(given["data"], images=given["images"], split=given["split"])
    if given["plots"] is not None:
        from yolotrt.evaluation.side_by_side import refuse_own_folder

        refuse_own_folder(given["plots"], "--plots", [sample.path for sample in dataset.samples])
    from yolotrt.detector import Detector

    with (
        Detector(
            given["model"],
            backend=cast("Any", given["backend"]),  # checked there
            device=given["device"],
            options=options,
            strict=given["strict"],
            trust=given["trust"],
        ) as detector,
        progress(dataset.name, total=len(dataset.samples)) as (on_result, on_problem),
    ):
        click.echo(f"Model: {given['model']}, in {detector.info}", err=True)
        info = detector.info
        found = validate(detector, dataset, on_result=on_result, on_problem=on_problem)
    plots: list[Path] = []
    if given["plots"] is not None:
        from yolotrt.evaluation.plots import write_plots

        plots = write_plots(found, given["plots"])
    if given["as_json"]:
        click.echo(json.dumps(_record(found, info, given, split=dataset.split, plots=plots), indent=2))
    else:
        _show(found, plots)
    if found.problems:
        ctx.exit(1)


def _record(
    found: Validation, info: BackendInfo, given: dict[str, Any], *, split: str, plots: list[Path]
) -> dict[str, Any]:
    return {
        "model": given["model"],
        "backend": dataclasses.asdict(info),
        "data": str(given["data"]),
        "split": split,
        "conf": given["conf"],
        "iou": given["iou"],
        "max_det": given["max_det"],
        **found.to_dict(),
        "plots": [str(path) for path in plots],
    }


def _show(found: Validation, plots: list[Path]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from yolotrt.cli.eval_report import percent

    record, console = found.to_dict(), Console()
    wide = console.width >= _ALL_COLUMNS
    keys = ("map50_95", "map50", "map75", *(("map_small", "map_medium", "map_large") if wide else ()))
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("class")
    for heading in ("pictures", "boxes", "mAP50-95", "mAP50", "mAP75", *(("small", "medium", "large") if wide else ())):
        table.add_column(heading, justify="right", no_wrap=True)
    whole = (f"{found.images:,}", f"{found.boxes:,}", *(percent(record[key]) for key in keys))
    table.add_row("all", *whole, style="bold", end_section=True)
    for row in record["per_class"]:
        if row["boxes"]:
            counts = (f"{row['images']:,}", f"{row['boxes']:,}")
            table.add_row(escape(row["name"]), *counts, *(percent(row[key]) for key in keys))
    console.print(table)

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    theirs, best = record["ultralytics"], record["best_f1"]
    line(f"As Ultralytics counts it: mAP50-95 {percent(theirs['map50_95'])}, mAP50 {percent(theirs['map50'])}")
    line(
        f"Best F1: {percent(best['f1'])} at confidence {best['confidence']:.2f} "
        f"(precision {percent(best['precision'])}, recall {percent(best['recall'])})"
    )
    for note in found.notes:
        line(f"Note: {note}")
    if plots:
        line(f"Written: {len(plots)} files in {plots[0].parent}")
    if found.problems:
        line(f"Left out: {len(found.problems):,} pictures (see the warnings)")
