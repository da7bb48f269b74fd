"""What a profile found, as data. `view` shows it, `Profile.to_dict` is what `--json` prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolotrt.backends.base import BackendInfo
from yolotrt.plain import plain


@dataclass(frozen=True, kw_only=True)
class RuntimeLayer:
    """One layer as a runtime executed it. Produced by its module, consumed by `profile`.

    Attributes:
        name: as the runtime has it.
        kind: operator or layer type, as the runtime has it.
        detail: the kernel, where the runtime tells it.
        nodes: names by which the runtime itself says what was fused into it, of whatever kind; empty where it does not.
        seconds: of each inference.
        start_s: in the inference that `Recording.shown` names, from its start; None where the runtime has no clock.
    """

    name: str
    kind: str
    seconds: Sequence[float]
    detail: str = ""
    nodes: Sequence[str] = ()
    start_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Some inferences with the runtime's profiler on.

    Attributes:
        layers: in the order in which they ran.
        whole: seconds of each inference, by the same runtime.
        shown: index of the inference that a trace shows.
        means_of: where the one inference is the mean of so many; 0 where each was recorded.
    """

    layers: Sequence[RuntimeLayer]
    whole: Sequence[float]
    shown: int
    means_of: int = 0


@dataclass(frozen=True, kw_only=True)
class LayerTime:
    """The time of one layer.

    Attributes:
        name, kind, detail: as of `RuntimeLayer`.
        ms: median over the inferences, or their mean: see `Profile.means`.
        share: of the sum of all layers, 0..1.
        nodes: names of the ONNX nodes that it computes; empty for a layer that the runtime made for itself.
        operators: of those nodes, each once.
        gflops: 10^9 operations per second; None where the operations are not known.
        start_ms, shown_ms: start and length in the inference that a trace shows; no start where the runtime has no
            clock.
    """

    name: str
    kind: str
    detail: str
    ms: float
    share: float
    nodes: Sequence[str]
    operators: Sequence[str]
    gflops: float | None
    start_ms: float | None
    shown_ms: float


@dataclass(frozen=True, kw_only=True)
class OperatorTime:
    """The time of all layers of one kind: the operators that they compute, or what the runtime calls it."""

    kind: str
    layers: int
    ms: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where the time goes.

    Attributes:
        model: as it was asked for.
        info: what ran it.
        threads: that were asked for; 0 stands for one per physical core.
        batch: pictures of one inference.
        inferences: that were recorded.
        means: times of the whole and of layers are means, since the runtime tells nothing else; else medians.
        whole_ms: of an inference with the profiler on.
        plain_ms: median of one without it.
        layers_ms: of the sum of all layers.
        layers: in the order in which they ran.
        operators: largest first.
        unmapped: names of layers whose ONNX nodes are not known.
        own: names of layers that the runtime made for itself, such as changes of the memory layout.
        missing: names of ONNX nodes that no layer was found for; constants are not counted.
        graph_nodes: nodes of the ONNX graph that hang on the picture; None where there is no ONNX file.
    """

    model: Path
    info: BackendInfo
    threads: int
    batch: int
    inferences: int
    means: bool
    whole_ms: float
    plain_ms: float
    layers_ms: float
    layers: Sequence[LayerTime]
    operators: Sequence[OperatorTime]
    unmapped: Sequence[str]
    own: Sequence[str]
    missing: Sequence[str]
    graph_nodes: int | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
