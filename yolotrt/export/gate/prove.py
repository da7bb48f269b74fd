"""`prove`: the precision that was asked for, or the fastest one inside the accuracy budget, with the proof of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from yolotrt.errors import EvaluationError, ExportError
from yolotrt.export.gate.latency import Where, measure_latencies
from yolotrt.export.gate.proof import CalibrationRecord, Latency, Proof, Version
from yolotrt.export.gate.versions import Candidate, Judge, layer_losses, mixed, rank_layers
from yolotrt.export.gate.yardstick import Agreement, Yardstick
from yolotrt.export.quantize import Calibration, Kind, QuantizeResult
from yolotrt.export.quantize.cache import measured
from yolotrt.export.quantize.pictures import CalibrationPictures
from yolotrt.export.quantize.sensitivity import Sensitivity
from yolotrt.export.stages import StageLog
from yolotrt.model_spec import ModelSpec, Precision
from yolotrt.sources.images import read_image

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be proven.

    Attributes:
        model: the FP32 graph.
        fp16: the same in FP16.
        spec: of the FP32 graph.
        kinds: the quantized precisions to try; none proves FP16.
        choose: take the fastest of FP16 and all of `kinds` that is inside the budget; else the one kind there is.
        max_drop: the budget: how much of FP32's score may be lost, relative.
        where: what the latencies are measured on.
        notes: what a reader of the proof should know already.
    """

    model: onnx.ModelProto = field(repr=False)
    fp16: onnx.ModelProto = field(repr=False)
    spec: ModelSpec
    kinds: Sequence[Kind]
    choose: bool
    max_drop: float
    where: Where
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Proven:
    """What came out: the graph of the chosen version, its precision, and the proof."""

    model: onnx.ModelProto = field(repr=False)
    precision: Precision
    proof: Proof


def prove(task: Task, pictures: CalibrationPictures | None, yardstick: Yardstick, log: StageLog) -> Proven:
    """Make the versions, score them, search where they fall short, time them and choose.

    Args:
        task: what is to be proven.
        pictures: for the calibration; None where nothing is to be quantized.
        yardstick: gives the scores.
        log: gets the stages accuracy, calibration, of each kind its own, its layers and its search, and latency.

    Raises:
        ExportError: the graph cannot be quantized.
        DatasetError, EvaluationError: nothing to measure with.
    """
    return _Run(task, pictures, yardstick, log).run()


class _Run:
    """The versions of one task."""

    def __init__(self, task: Task, pictures: CalibrationPictures | None, yardstick: Yardstick, log: StageLog) -> None:
        self._task, self._pictures, self._yardstick, self._log = task, pictures, yardstick, log
        self._notes = [*task.notes, *(pictures.notes if pictures else ())]
        self._ranked: dict[Precision, list[Sensitivity]] = {}
        self._candidates: list[Candidate] = []

    def run(self) -> Proven:
        judge = self._score_floats()
        if self._pictures is not None:
            calibration = self._calibrate(self._pictures)
            for kind in self._task.kinds:
                self._try(kind, calibration, judge)
        times = self._latencies()
        chosen = self._choose(judge, times)
        return Proven(model=chosen.model, precision=chosen.precision, proof=self._proof(judge, chosen, times))

    def _score_floats(self) -> Judge:
        with self._log.stage("accuracy") as stage:
            judge = Judge(self._yardstick, self._task.model, max_drop=self._task.max_drop, say=stage.say)
            fp16 = judge.candidate("FP16", "fp16", self._task.fp16)
            self._candidates = [judge.reference, fp16]
            whole = judge.reference.score.value
            stage.result = (
                f"{self._yardstick.measure} {whole:.4f} in FP32, {fp16.score.value:.4f} in FP16 "
                f"on {self._yardstick.pictures} pictures"
            )
            stage.details = {"fp32": whole, "fp16": fp16.score.value, "pictures": self._yardstick.pictures}
        if not whole:
            raise EvaluationError(
                "FP32 itself finds nothing that is right, so no loss of accuracy can be measured",
                got=f"{self._yardstick.measure} 0 on {self._yardstick.data}",
                remedy="Check that the data set is the model's own: names, labels, pictures.",
            )
        return judge

    def _calibrate(self, pictures: CalibrationPictures) -> Calibration:
        with self._log.stage("calibration") as stage:
            calibration, reused = measured(self._task.model, pictures, self._task.spec, on_progress=stage.say)
            stage.result = f"{calibration.pictures} pictures, {pictures.source}" + ", reused" * reused
            stage.details = {"pictures": calibration.pictures, "digest": calibration.digest, "reused": reused}
        return calibration

    def _try(self, kind: Kind, calibration: Calibration, judge: Judge) -> None:
        """Add the versions of a kind; where there is a choice, one that cannot be made is only noted."""
        try:
            self._candidates += self._quantize(kind, calibration, judge)
        except ExportError as e:
            if not self._task.choose:
                raise
            self._log.skipped(kind, str(e))
            self._notes.append(f"{kind.upper()} was not tried: {e}")

    def _quantize(self, kind: Kind, calibration: Calibration, judge: Judge) -> list[Candidate]:
        """The version with all of it in low precision, and, if that is outside the budget, the best mixed one."""
        with self._log.stage(kind) as stage:
            judge.say = stage.say
            stage.say("choosing ranges")
            whole = judge.quantized(calibration.quantize(kind=kind))
            stage.result = self._told(whole, judge)
            stage.details = {"score": whole.score.value, "share": whole.shares[kind]}
        with self._log.stage(f"{kind} layers") as stage:
            agreement = Agreement(self._task.spec, self._task.model, self._yardstick.paths)
            assert whole.quantized is not None
            ranked = self._ranked[kind] = rank_layers(calibration, whole.quantized, agreement, say=stage.say)
            worst = max(ranked, key=lambda s: s.loss)
            stage.result = f"{len(ranked)} convolutions, each quantized alone; most is lost in {worst.name}"
        if judge.inside(whole):
            return [whole]
        with self._log.stage(f"{kind} search") as stage:
            judge.say = stage.say
            found = mixed(calibration, judge, whole, ranked)
            stage.result = "nothing better" if found is None else self._told(found, judge)
        return [whole] if found is None else [whole, found]

    def _told(self, candidate: Candidate, judge: Judge) -> str:
        verdict = "" if judge.inside(candidate) else f", outside the budget of {self._task.max_drop:.2%}"
        return (
            f"{candidate.name}: {self._yardstick.measure} {candidate.score.value:.4f}, "
            f"{judge.relative(candidate):.2%} of FP32{verdict}; "
            f"{candidate.shares[candidate.precision]:.1%} of the arithmetic"
        )

    def _latencies(self) -> dict[str, Latency | str]:
        with self._log.stage("latency") as stage:
            found = measure_latencies(
                {c.name: (c.model, c.precision) for c in self._candidates},
                self._task.spec,
                self._task.where,
                read_image(self._yardstick.paths[0]),
            )
            times = [f"{name} {t.p50_ms:.2f} ms" for name, t in found.items() if isinstance(t, Latency)]
            stage.result = ", ".join(times) or f"not measured: {next(iter(found.values()))}"
            stage.details = {n: t if isinstance(t, str) else dataclasses.asdict(t) for n, t in found.items()}
        return found

    def _choose(self, judge: Judge, times: dict[str, Latency | str]) -> Candidate:
        inside = [c for c in self._candidates[1:] if judge.inside(c)]
        quantized = [c for c in self._candidates if c.quantized is not None]
        if not self._task.choose:
            if not quantized:
                return self._candidates[1]
            # The last one is the mixed one. Where that is not inside either, the better one is kept.
            return next((c for c in quantized if c in inside), max(quantized, key=lambda c: c.score.value))
        if not inside:
            return self._candidates[0]
        timed = [(t.p50_ms, c) for c in inside if isinstance(t := times[c.name], Latency)]
        if timed:
            return min(timed, key=lambda entry: entry[0])[1]
        chosen = next((c for c in inside if c.precision == "fp16"), self._candidates[0])
        self._notes.append(f"Speed could not be measured here, so the choice fell on {chosen.name}.")
        return chosen

    def _proof(self, judge: Judge, chosen: Candidate, times: dict[str, Latency | str]) -> Proof:
        kind = next((k for k in (chosen.precision, *self._task.kinds) if k in self._ranked), None)
        scaled = next((c.quantized for c in (chosen, *self._candidates) if c.quantized is not None), None)
        return Proof(
            measure=self._yardstick.measure,
            data=self._yardstick.data,
            pictures=self._yardstick.pictures,
            runtime=self._yardstick.runtime,
            max_drop=self._task.max_drop,
            met=judge.inside(chosen),
            versions=tuple(self._version(judge, c, times, chosen=c is chosen) for c in self._candidates),
            layers=layer_losses(self._ranked[kind], chosen) if kind else (),
            layers_kind=kind,
            calibration=self._calibration_record(scaled) if scaled else None,
            notes=(*self._notes, *self._yardstick.notes),
        )

    def _calibration_record(self, scaled: QuantizeResult) -> CalibrationRecord:
        assert self._pictures is not None
        return CalibrationRecord(
            source=self._pictures.source,
            pictures=scaled.pictures,
            digest=scaled.calibration_digest,
            methods=dict(sorted(Counter(scaled.methods.values()).items())),
        )

    def _version(self, judge: Judge, candidate: Candidate, times: dict[str, Latency | str], *, chosen: bool) -> Version:
        time = times[candidate.name]
        return dataclasses.replace(
            judge.version(candidate),
            latency=time if isinstance(time, Latency) else None,
            latency_note="" if isinstance(time, Latency) else time,
            chosen=chosen,
        )
