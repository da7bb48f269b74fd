"""The stages of an export that prove its precision. `yolotrt.export.pipeline` holds their place among the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yolotrt.errors import EvaluationError
from yolotrt.evaluation.parity import Parity, verify
from yolotrt.export.gate.evidence import Evidence
from yolotrt.export.gate.latency import Where
from yolotrt.export.gate.proof import Proof
from yolotrt.export.gate.prove import Proven, Task, prove
from yolotrt.export.gate.running import running
from yolotrt.export.gate.yardstick import PARITY
from yolotrt.export.goal import Goal
from yolotrt.export.graph import Graph
from yolotrt.export.origin import checked
from yolotrt.export.samples import evenly
from yolotrt.export.stages import StageLog
from yolotrt.options import ExportOptions

_SHOWN_FROM = 64
"""Pictures among which those are looked for whose boxes the precision has changed most."""


@dataclass(frozen=True, kw_only=True)
class ProvenGraph:
    """A graph whose precision is proven. Produced here, consumed by the pipeline and the report.

    Attributes:
        graph: in its precision.
        proof: of it.
        parity: its boxes beside those of FP32; None where neither finds any.
    """

    graph: Graph
    proof: Proof
    parity: Parity | None = field(repr=False)


def prove_precision(
    graph: Graph, fp16: Graph, goal: Goal, options: ExportOptions, evidence: Evidence, log: StageLog
) -> ProvenGraph:
    """Make the precision that is asked for and prove it; see `yolotrt.export.gate.prove.prove`.

    Args:
        graph: in FP32.
        fp16: the same in FP16.
        goal, options: of the export.
        evidence: the pictures.
        log: gets the stages.
    """
    task = Task(
        model=graph.model,
        fp16=fp16.model,
        spec=graph.spec,
        kinds=goal.kinds,
        choose=goal.precision == "auto",
        max_drop=evidence.max_drop,
        where=Where(target=options.target, flavour=goal.flavour, plan=options.plan),
        notes=goal.untried,
    )
    yardstick = evidence.yardstick(graph)
    proven = prove(task, evidence.pictures, yardstick, log)
    parity = _compare(graph, proven, yardstick.paths, log)
    checked(proven.model)
    if proven.precision == "fp32":
        made = graph
    elif proven.precision == "fp16":
        made = fp16
    else:
        made = graph.with_model(proven.model, proven.precision, {})
    made.checks["accuracy"] = proven.proof.to_dict()
    return ProvenGraph(graph=made, proof=proven.proof, parity=parity)


def _compare(graph: Graph, proven: Proven, paths: Sequence[Path], log: StageLog) -> Parity | None:
    chosen = [paths[i] for i in evenly(len(paths), _SHOWN_FROM)]
    with log.stage("boxes") as stage:
        with (
            running(graph.model, graph.spec, PARITY.detect, precision="fp32") as reference,
            running(proven.model, graph.spec, PARITY.detect, precision=proven.precision) as candidate,
        ):
            try:
                parity = verify(reference, candidate, chosen, PARITY)
            except EvaluationError as e:
                stage.result = str(e)
                return None
        total = parity.total
        stage.result = (
            f"{total.reference - total.missed} of {total.reference} boxes as in FP32 (IoU {PARITY.min_iou} or more), "
            f"{total.added} added on {parity.images} pictures"
        )
        stage.details = {"reference": total.reference, "missed": total.missed, "added": total.added}
    return parity
