"""What an export is to make here: which precision, and a plan by which TensorRT, if any."""

from __future__ import annotations

from dataclasses import dataclass

from yolotrt.backends.flavours import Flavour, for_target
from yolotrt.errors import BackendError, MissingExtraError, UnsupportedOptionError, UsageError
from yolotrt.export.quantize.formats import Kind
from yolotrt.export.source import Source
from yolotrt.model_spec import ModelSpec, Precision
from yolotrt.options import ExportOptions, PlanOptions, PrecisionChoice

_TRIED: tuple[Kind, ...] = ("fp8", "int8")


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Produced by `choose_goal`, consumed by the pipeline.

    Attributes:
        precision: of the arithmetic in the graph; `auto` where it is chosen by what comes out.
        kinds: the precisions to quantize to: one, or all that `auto` tries.
        untried: why `auto` does not try the others, a sentence each.
        flavour: the TensorRT that builds the plan; None for no plan.
        note: why there is no plan, and how to get one; empty where one is built.
    """

    precision: PrecisionChoice
    kinds: tuple[Kind, ...] = ()
    untried: tuple[str, ...] = ()
    flavour: Flavour | None = None
    note: str = ""


def choose_goal(options: ExportOptions, source: Source, given: ModelSpec | None) -> Goal:
    """Decide before anything is made.

    Args:
        options: of the export.
        source: the weights.
        given: the description of an ONNX source; None for weights.

    Raises:
        MissingExtraError: the TensorRT of `--target` is not installed.
        UsageError: options that contradict each other or the source.
        UnsupportedOptionError: a plan option that this TensorRT lacks.
    """
    flavour, note = _flavour(options)
    if flavour is not None:
        from yolotrt.export.plan import check_options

        check_options(options.plan, flavour)
    elif options.plan != PlanOptions() and options.target != "auto":
        raise UsageError(
            "options of the plan were given, but none is built",
            got=f"--target {options.target}",
            remedy="Leave them out, or use --target tensorrt or tensorrt-rtx.",
        )
    if given is not None and given.head == "raw":
        raise UsageError(
            f"{source.path}: its head is raw, which cannot be exported again",
            remedy="Give the weights or the ONNX file that it came from.",
        )
    precision: PrecisionChoice = options.precision or ("fp16" if flavour else "fp32")
    if given is not None and given.precision != "fp32":
        precision = _as_it_is(options, source, given.precision)
    if options.fp16_input and precision == "fp32":
        raise UsageError("option fp16_input is for graphs in FP16", got="precision fp32", expected="--fp16")
    kinds = _kinds(precision, given, flavour)
    _check_data(options, precision, kinds)
    untried: tuple[str, ...] = ()
    if precision == "auto" and flavour is not None:
        untried = tuple(
            f"{kind.upper()} was not tried, so it is not measured: {flavour.lacks_precision(kind)}."
            for kind in _TRIED
            if kind not in kinds
        )
    return Goal(precision=precision, kinds=kinds, untried=untried, flavour=flavour, note=note)


def _as_it_is(options: ExportOptions, source: Source, given: Precision) -> Precision:
    """The precision of a graph that has a low one already. Raises UsageError where something else is asked for."""
    what = f"quantized to {given.upper()}" if given in ("int8", "fp8") else given.upper()
    remedy = "Give the FP32 ONNX file or the weights it came from"
    if options.precision not in (None, given):
        raise UsageError(
            f"{source.path}: its graph is {what} already and cannot be made {options.precision.upper()}",
            remedy=f"{remedy}, or leave the precision out.",
        )
    if options.data is not None or options.calib is not None:
        raise UsageError(
            f"{source.path}: its graph is {what} already, and without FP32 there is nothing to compare it with",
            remedy=f"{remedy}, or measure this one with: yolotrt val",
        )
    return given


def _kinds(precision: PrecisionChoice, given: ModelSpec | None, flavour: Flavour | None) -> tuple[Kind, ...]:
    """What is to be quantized. Raises UnsupportedOptionError where no plan can be built of it."""
    if given is not None and given.precision != "fp32":
        return ()
    if precision == "auto":
        return tuple(kind for kind in _TRIED if not (flavour and flavour.lacks_precision(kind)))
    if precision not in ("fp8", "int8"):
        return ()
    if flavour is not None and (problem := flavour.lacks_precision(precision)):
        raise UnsupportedOptionError(problem, remedy="Install a later one, or use --target onnx.")
    return (precision,)


def _check_data(options: ExportOptions, precision: PrecisionChoice, kinds: tuple[Kind, ...]) -> None:
    """Raise UsageError for pictures that are missing, or that nothing would be done with."""
    if (kinds or precision == "auto") and options.data is None and options.calib is None:
        raise UsageError(
            f"precision {precision} needs pictures to calibrate on and to measure the accuracy with",
            expected="--data data.yaml, or --calib with a folder of pictures",
        )
    if not kinds and precision != "auto":
        for name in ("calib", *(("data",) if precision != "fp16" else ())):
            if getattr(options, name) is not None:
                raise UsageError(
                    f"option {name} has no use with precision {precision}", expected="--int8, --fp8 or --precision auto"
                )
        if options.max_drop is not None and options.data is None:
            raise UsageError(
                "option max_drop is a limit for an accuracy that is not measured",
                expected="--data with labelled pictures",
            )


def _flavour(options: ExportOptions) -> tuple[Flavour | None, str]:
    if options.target in ("tensorrt", "tensorrt-rtx"):
        return for_target(options.target), ""
    if options.target != "auto":
        return None, f"not asked for (--target {options.target})"
    try:
        flavour = for_target("auto")
    except MissingExtraError:
        return None, 'no TensorRT here; for a plan: pip install "yolotrt[rtx]" and export again'
    except BackendError as e:
        return None, f"no plan: {e}"
    if not flavour.can.builds_without_gpu:
        from yolotrt.cuda.device import device_count

        if not device_count():
            return None, f"{flavour.title} needs a GPU to build; export again on the machine that will run it"
    return flavour, ""
