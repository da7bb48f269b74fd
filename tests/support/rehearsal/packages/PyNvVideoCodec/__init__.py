"""A stand-in for PyNvVideoCodec over FFmpeg: `tests.support.host_nvdec` under the name that yolotrt imports.

With the driver of `tests/support/cuda_host` below it, memory of the GPU is the host's, so its frames can be read there.
"""

# ruff: noqa: N816, N999 (the names are PyNvVideoCodec's own)

from collections import deque

from tests.support.host_nvdec import HostNvdec

__version__ = "2.2.4"

_module = HostNvdec()
_module.sessions = deque(maxlen=0)  # a run that takes long would keep them all
CreateDecoder, GetDecoderCaps = _module.CreateDecoder, _module.GetDecoderCaps
CreateDemuxer = _module.CreateDemuxer
cudaVideoCodec, Pixel_Format = _module.cudaVideoCodec, _module.Pixel_Format
DisplayDecodeLatencyType, VideoPacketFlag = _module.DisplayDecodeLatencyType, _module.VideoPacketFlag
PacketData = _module.PacketData
