"""Which decoder a run takes for its videos, and why."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from yolotrt.cuda.machine import Machine
from yolotrt.errors import CudaError, MissingExtraError, UsageError
from yolotrt.sources.decoders import DecoderChoice, DecodeRequest, Decoders, PictureDecoder, check_choice
from yolotrt.sources.device_images import Budget
from yolotrt.sources.nvdec import PACKAGE, Nvdec, NvdecError, load_api
from yolotrt.sources.nvdec_stream import NvdecStream

_SHARE = 4  # one part in so many of the GPU's memory may hold pictures


@dataclass(frozen=True)
class OnNvdec:
    """`GpuDecoding` by NVDEC."""

    nvdec: Nvdec

    def open(self, request: DecodeRequest, *, forced: bool) -> PictureDecoder:
        return NvdecStream(self.nvdec, request, forced=forced)

    def held(self) -> AbstractContextManager[None]:
        return self.nvdec.machine.held()


def choose(
    choice: DecoderChoice, machine: Machine | None, *, reason: str, limit: int, processes: int | None = None
) -> Decoders:
    """What decodes the videos of a run.

    Args:
        choice: `auto` takes NVDEC where it can decode into the memory of the model's GPU, `nvdec` refuses all else.
        machine: the GPU that runs the model and takes its pictures where they are; None without one.
        reason: why there is no machine; empty where nobody would look for one.
        limit: pictures of one stream that may be in the GPU's memory at a time.
        processes: as in `Decoders`.

    Raises:
        UsageError: an unknown choice, or `nvdec` where there is none.
        MissingExtraError: `nvdec` where PyNvVideoCodec is not installed.
    """
    check_choice(choice)
    if choice == "pyav":
        return Decoders()
    if machine is None:
        if choice == "nvdec":
            raise UsageError(
                "NVDEC cannot decode for this model",
                got=reason or "a model that runs on the CPU",
                expected="a TensorRT plan with --graphs on an NVIDIA GPU",
                remedy="Use --decoder auto.",
            )
        return Decoders(why=reason)
    try:
        api = load_api()
        budget = Budget(machine.handle.memory_size // _SHARE)
    except (NvdecError, CudaError) as e:
        if choice == "nvdec":
            raise UsageError(f"NVDEC cannot decode here: {e}", remedy="Use --decoder auto.") from e
        return Decoders(why=str(e))
    except MissingExtraError:
        if choice == "nvdec":
            raise
        return Decoders(why=f'{PACKAGE} is not installed: pip install "yolotrt[gpu]"')
    return Decoders(
        nvdec=OnNvdec(Nvdec(api=api, machine=machine, limit=limit, budget=budget)),
        forced=choice == "nvdec",
        processes=processes,
    )
