"""Pictures and videos: a few made in memory and read back."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from fractions import Fraction

from yolotrt.diagnosis.report import Check, install_command, one_line, version_of

SECTION = "Pictures and video"
_GPU = 'pip install "yolotrt[gpu]"'
_VIDEO = 'pip install "yolotrt[video]"'
_FRAMES = 5
_SIDE = 64


def check_pictures() -> Iterator[Check]:
    try:
        import cv2
        import numpy as np

        grey = np.full((_SIDE, _SIDE, 3), 114, np.uint8)
        for suffix in (".jpg", ".png"):
            _, data = cv2.imencode(suffix, grey)
            read = cv2.imdecode(data, cv2.IMREAD_COLOR)
            if read is None or read.shape != grey.shape:
                raise ValueError(f"{suffix} does not come back as it was written")
    except Exception as e:  # noqa: BLE001 - a broken native package raises anything
        missing = isinstance(e, ModuleNotFoundError)
        again = "pip install --force-reinstall opencv-python-headless"
        yield Check(
            section=SECTION,
            name="pictures",
            status="missing" if missing else "broken",
            detail=one_line(e),
            remedy=install_command(e) if isinstance(e, ModuleNotFoundError) else again,
            needed=True,
        )
        return
    detail = f"JPEG and PNG written and read by OpenCV {cv2.__version__}"
    yield Check(section=SECTION, name="pictures", status="ok", detail=detail, needed=True)


def check_videos() -> Iterator[Check]:
    """H.264, which detect reads and writes, and HEVC, which it reads."""
    try:
        import av
    except ModuleNotFoundError:
        yield Check(section=SECTION, name="videos", status="missing", detail="PyAV is not installed", remedy=_VIDEO)
        return
    except Exception as e:  # noqa: BLE001 - a broken native package raises anything
        yield Check(section=SECTION, name="videos", status="broken", detail=one_line(e), remedy=_VIDEO)
        return
    yield _codec("H.264", "libx264", av.__version__)
    yield _codec("HEVC", "libx265", av.__version__)


def _codec(name: str, encoder: str, version: str) -> Check:
    try:
        read = _round_trip(encoder)
    except ModuleNotFoundError as e:  # what PyAV itself needs
        return Check(section=SECTION, name=name, status="missing", detail=one_line(e), remedy=install_command(e))
    except Exception as e:  # noqa: BLE001 - PyAV's errors share no base class with Python's own
        again = "pip install --force-reinstall av"
        return Check(section=SECTION, name=name, status="broken", detail=one_line(e), remedy=again)
    detail = f"{read} frames written and read by PyAV {version}"
    return Check(section=SECTION, name=name, status="ok", detail=detail)


def check_nvdec() -> Iterator[Check]:
    """What GPUs decode, for models that run as CUDA graphs."""
    version = version_of("PyNvVideoCodec")
    if sys.platform == "darwin":
        yield Check(section=SECTION, name="NVDEC", status="absent", detail="no NVIDIA GPUs on macOS")
    elif version is None:
        detail = "PyNvVideoCodec is not installed; GPUs decode with it, and the CPU does without"
        yield Check(section=SECTION, name="NVDEC", status="missing", detail=detail, remedy=_GPU)
    else:
        yield _nvdec(f"PyNvVideoCodec {version}")


def _nvdec(package: str) -> Check:
    from yolotrt.diagnosis.machine import usable_gpus

    if not usable_gpus()[0]:
        return Check(section=SECTION, name="NVDEC", status="absent", detail=f"{package}; needs a GPU to decode")
    try:
        from yolotrt.cuda.device import Device
        from yolotrt.cuda.gpu import gpu
        from yolotrt.sources.device_images import Budget
        from yolotrt.sources.nvdec import CODECS, Nvdec, load_api

        nvdec = Nvdec(api=load_api(), machine=gpu(Device.open(0)), limit=1, budget=Budget(0))
        refused = {codec: nvdec.refusal(codec, (1080, 1920)) for codec in CODECS}
    except Exception as e:  # noqa: BLE001 - a broken native package raises anything
        again = "pip install --force-reinstall PyNvVideoCodec"
        return Check(section=SECTION, name="NVDEC", status="broken", detail=one_line(e), remedy=again)
    decoded = [codec for codec, why in refused.items() if not why]
    if not decoded:
        why = next(iter(refused.values()))
        return Check(section=SECTION, name="NVDEC", status="absent", detail=f"{package}: {why}")
    return Check(section=SECTION, name="NVDEC", status="ok", detail=f"{package} decodes {', '.join(decoded)}")


def _round_trip(encoder: str) -> int:
    """Write a few frames and read them back; how many came."""
    import av
    import numpy as np
    from av.video.stream import VideoStream

    memory = io.BytesIO()
    options = {"preset": "ultrafast", "threads": "1"}
    if encoder == "libx265":
        options = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"}
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=Fraction(25), options=options)
        assert isinstance(stream, VideoStream)
        stream.width = stream.height = _SIDE
        stream.pix_fmt = "yuv420p"
        for i in range(_FRAMES):
            pixels = np.full((_SIDE, _SIDE, 3), i * 40, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        container.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory, "r") as written:
        count = len(list(written.decode(video=0)))
    if count != _FRAMES:
        raise ValueError(f"{count} of {_FRAMES} frames came back")
    return count
