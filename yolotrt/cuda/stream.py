"""Streams: queues of GPU work."""

from __future__ import annotations

from yolotrt.cuda.driver import translated


class Stream:
    """A queue of its own on the current GPU, which does not wait for the default stream.

    Make and close it inside `Device.active`.
    """

    def __init__(self, index: int) -> None:
        """Args:
        index: the GPU, which must be the current one.
        """
        from cuda.core import Device, StreamOptions

        with translated("a CUDA stream cannot be made"):
            device = Device(index)
            device.set_current()  # cuda.core wants to be told in every thread, whatever is current
            self.core = device.create_stream(options=StreamOptions(nonblocking=True))
            self.handle = int(self.core.handle)

    def synchronize(self) -> None:
        """Wait until everything in it is done. Raises CudaError for what failed meanwhile."""
        with translated("work on the GPU failed"):
            self.core.sync()

    def close(self) -> None:
        with translated("a CUDA stream cannot be closed"):
            self.core.close()
