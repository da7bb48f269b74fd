"""An inspection as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from yolotrt.inspection.report import Inspection, Layer, PrecisionShare
from yolotrt.model_spec import ModelSpec, TensorSpec

_MAX_NAMES = 12
_MAX_VALUE = 200
_IN_SPEC = {"names", "task", "stride", "imgsz", "batch"}


def show(found: Inspection, console: Console, *, layers: bool = False) -> None:
    """Print an inspection; `layers` adds a row per layer."""
    console.print(_facts(found))
    if found.inputs or found.outputs:
        console.print(_tensors(found))
    if found.precisions:
        console.print(_precisions(found.precisions, found.precision_source))
    if layers:
        console.print(_layers(found.layers) if found.layers else _no_layers(found))
    if found.runners:
        console.print(_runners(found))


def _facts(found: Inspection) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(found):
        table.add_row(name, escape(value))
    return table


def _rows(found: Inspection) -> Iterable[tuple[str, str]]:
    yield "File", f"{found.asked} ({found.kind})"
    for file in found.files:
        changed = ", changed since the manifest was written" if file.changed else ""
        yield (
            file.role.upper() if file.role == "onnx" else file.role.capitalize(),
            (f"{file.path.name}, {_size(file.bytes)}, sha256 {file.sha256[:16]}{changed}"),
        )
    if found.plan is not None:
        yield "Built with", f"{found.plan.flavour} {found.plan.version}".strip()
        yield "Built for", ", ".join(found.plan.compute_capabilities) or "GPUs that the plan does not name"
        if found.plan.options:
            yield "Options", ", ".join(f"{k}={v}" for k, v in found.plan.options.items())
    if found.source is not None:
        yield "Source", f"{found.source.file}, sha256 {found.source.sha256[:16]}"
    if found.opset:
        yield "Opset", ", ".join(f"{domain} {version}" for domain, version in found.opset.items())
    if found.spec is not None:
        yield from _spec_rows(found.spec)
    elif found.spec_problem:
        yield "Model", found.spec_problem
    for key, value in found.metadata.items():
        shown = not key.startswith("onnxsim.")  # the simplifier's log: kilobytes of it
        if shown and (key not in _IN_SPEC or found.spec is None):
            text = str(value)
            yield key, text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE] + " ..."


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def _spec_rows(spec: ModelSpec) -> Iterable[tuple[str, str]]:
    yield "Task", f"{spec.task}, head {spec.head}"
    if spec.raw is not None:
        strides = ", ".join(str(level.stride) for level in spec.raw.levels)
        yield "Raw head", f"levels of stride {strides}, {spec.raw.reg_max} numbers per side of a box"
    names = ", ".join(spec.names[:_MAX_NAMES]) + (", ..." if len(spec.names) > _MAX_NAMES else "")
    yield "Classes", f"{len(spec.names)}: {names}" if spec.names else "not named"
    size = "height and width may vary, " if spec.is_dynamic_size else ""
    yield "Input size", f"{size}{spec.imgsz[0]}x{spec.imgsz[1]} (height x width), stride {spec.stride}"
    batch = spec.batch
    yield "Batch", str(batch.min) if batch.is_static else f"{batch.min} to {batch.max}, tuned for {batch.opt}"
    box = spec.letterbox
    yield (
        "Letterbox",
        (
            f"{box.resize}, padding {box.pad_value} {'on both sides' if box.center else 'right and below'}"
            f"{'' if box.scale_up else ', never enlarged'}"
        ),
    )
    yield "Precision", spec.precision


def _tensors(found: Inspection) -> Table:
    table = Table(title="Inputs and outputs", title_justify="left")
    for name in ("", "name", "dtype", "shape"):
        table.add_column(name)
    for kind, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            table.add_row(kind, escape(tensor.name), tensor.dtype, _shape(tensor))
    return table


def _shape(tensor: TensorSpec) -> str:
    return " x ".join("?" if d is None else str(d) for d in tensor.shape)


def _precisions(shares: Sequence[PrecisionShare], source: str) -> Table:
    what = {
        "graph": "convolutions and matrix products",
        "engine inspector": "layers of the plan",
        "manifest": "as the manifest says",
    }
    table = Table(title=f"Precision ({what.get(source, source)})", title_justify="left")
    table.add_column("precision")
    for name in ("layers", "operations", "convolutions", "weights"):
        table.add_column(name, justify="right")
    for share in shares:
        weights = _percent(share.parameter_share)
        if share.parameters:
            weights = f"{share.parameters:,} ({weights})"
        operations = [_percent(s) for s in (share.flop_share, share.convolution_share)]
        table.add_row(share.precision, str(share.layers or "all"), *operations, weights)
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f} %"


def _layers(layers: Sequence[Layer]) -> Table:
    table = Table(title="Layers", title_justify="left")
    for name in ("layer", "kind", "precision", "output"):
        table.add_column(name, overflow="fold")
    for name in ("weights", "MFLOP"):
        table.add_column(name, justify="right")
    for layer in layers:
        table.add_row(
            escape(layer.name),
            layer.kind,
            layer.precision,
            escape(layer.output),
            "-" if layer.parameters is None else f"{layer.parameters:,}",
            "-" if layer.flops is None else f"{layer.flops / 1e6:,.1f}",
        )
    return table


def _no_layers(found: Inspection) -> str:
    if found.plan is not None:
        return "Layers: a plan tells them only where its TensorRT loads it, on the GPU that it is for."
    return "Layers: none with weights."


def _runners(found: Inspection) -> Table:
    table = Table(title="What runs it here", title_justify="left")
    table.add_column("back-end", no_wrap=True)
    table.add_column("runs", no_wrap=True)
    table.add_column("detail", overflow="fold")
    for runner in found.runners:
        runs = "[green]yes[/]" if runner.runs else "[red]no[/]"
        remedy = f"\n[cyan]-> {escape(runner.remedy)}[/]" if runner.remedy else ""
        table.add_row(runner.backend, runs, escape(runner.detail) + remedy)
    return table
