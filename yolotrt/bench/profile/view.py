"""A profile as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from yolotrt.bench.profile.report import LayerTime, Profile
from yolotrt.bench.view import Grid, show_grid

_NAME = 34
_NAMED = 5


def show(found: Profile, console: Console, *, top: int) -> None:
    """Print a profile with its `top` slowest layers."""

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    for text in _facts(found):
        line(text)
    show_grid(_operators(found), console)
    show_grid(_layers(found, top), console)
    for text in _remarks(found):
        line(text)


def _facts(found: Profile) -> Iterator[str]:
    yield f"{found.model} in {found.info}, batch {found.batch}"
    middle = "mean" if found.means else "median"
    yield (
        f"{found.inferences} inferences, {middle} {found.whole_ms:.2f} ms with the profiler on "
        f"(median without: {found.plain_ms:.2f} ms); {len(found.layers)} layers take {found.layers_ms:.2f} ms"
    )


def _operators(found: Profile) -> Grid:
    rows = [(o.kind, str(o.layers), f"{o.ms:.3f}", f"{o.share:.1%}") for o in found.operators]
    return Grid(title="By operator", columns=("operator", "layers", "ms", "share"), rows=rows)


def _layers(found: Profile, top: int) -> Grid:
    slowest = sorted(found.layers, key=lambda layer: layer.ms, reverse=True)[:top]
    return Grid(
        title=f"Slowest {len(slowest)} of {len(found.layers)} layers",
        columns=("layer", "computes", "ms", "share", "GFLOP/s"),
        rows=[
            (
                _shortened(layer.name),
                _computes(layer),
                f"{layer.ms:.3f}",
                f"{layer.share:.1%}",
                f"{layer.gflops:,.0f}" if layer.gflops else "-",
            )
            for layer in slowest
        ],
    )


def _computes(layer: LayerTime) -> str:
    return " ".join(layer.operators[:2]) + (" .." if len(layer.operators) > 2 else "") or layer.kind


def _shortened(name: str) -> str:
    """The end of a long name: the front is the same for many."""
    return name if len(name) <= _NAME else ".." + name[2 - _NAME :]


def _remarks(found: Profile) -> Iterator[str]:
    if found.graph_nodes is None:
        yield "Names of layers are the plan's own: there is no ONNX file beside it."
        return
    mapped = found.graph_nodes - len(found.missing)
    yield f"{mapped} of {found.graph_nodes} ONNX nodes found in {len(found.layers) - len(found.own)} layers"
    if found.own:
        moved = sum(layer.ms for layer in found.layers if layer.name in set(found.own))
        yield f"{len(found.own)} layers are the runtime's own, which move data ({moved:.2f} ms)"
    if found.unmapped:
        yield f"Not traced to ONNX nodes: {_some(found.unmapped)}"
    if found.missing:
        yield f"Without a layer (removed, done in place, or fused in a way that is not told): {_some(found.missing)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
