"""What an export is to make here: which precision, and a plan by which TensorRT, if any."""

from __future__ import annotations

from dataclasses import dataclass

from yolotrt.backends.flavours import Flavour, for_target
from yolotrt.errors import BackendError, MissingExtraError, UsageError
from yolotrt.export.source import Source
from yolotrt.model_spec import ModelSpec, Precision
from yolotrt.options import ExportOptions, PlanOptions


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Produced by `choose_goal`, consumed by the pipeline.

    Attributes:
        precision: of the arithmetic in the graph.
        flavour: the TensorRT that builds the plan; None for no plan.
        note: why there is no plan, and how to get one; empty where one is built.
    """

    precision: Precision
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
    precision: Precision = options.precision or ("fp16" if flavour else "fp32")
    if given is not None and given.precision == "fp16":
        if options.precision == "fp32":
            raise UsageError(
                f"{source.path}: its graph is FP16 already and cannot be made FP32 again",
                remedy="Give the FP32 ONNX file or the weights it came from, or leave --precision out.",
            )
        precision = "fp16"
    return Goal(precision=precision, flavour=flavour, note=note)


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
