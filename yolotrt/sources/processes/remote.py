"""This side of a source that another process reads: the frames, as the source itself would give them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

from yolotrt.errors import CudaError, SourceError
from yolotrt.sources.base import Source, StreamState, Watcher
from yolotrt.sources.device_images import Colours, Downloads, PooledImage
from yolotrt.sources.live import LiveSource
from yolotrt.sources.processes.messages import (
    Ack,
    Begin,
    Changed,
    Decodes,
    End,
    Grant,
    Grow,
    Known,
    LetGo,
    Look,
    Message,
    Order,
    Problem,
    Refused,
    Shot,
    Shots,
    Stop,
)
from yolotrt.sources.processes.slots import Slots
from yolotrt.types import DeviceImage, Frame, ImageU8

_logger = logging.getLogger(__name__)

_PATIENCE_S = 0.5  # with a process that is to stop


class Line:
    """The connection of one source.

    Args:
        connection: to the process.
        begin: what it is told first.
        slots: memory that it decodes into.
        downloads: bring pictures to the host.
        fate: says how the process has ended, once it has.

    Attributes:
        is_remote: the frames come from the process; False once this one reads the source by itself.
    """

    def __init__(
        self, connection: Connection, begin: Begin, slots: Slots, downloads: Downloads, fate: Callable[[], str]
    ) -> None:
        self._connection, self._begin, self._slots = connection, begin, slots
        self._downloads, self._fate = downloads, fate
        self._colours: Colours | None = None
        self._lock = threading.Lock()
        self._stopped = self._is_over = False
        self.is_remote = True

    def frames(self, source: Source) -> Iterator[Frame]:
        """The frames of a source. What befalls it is told to its own watcher, and kept in its own `info`.

        A process that cannot read it, or is gone, leaves a camera to this one, and a file that has not given a frame.

        Raises:
            SourceError: as the source; or the process has ended in the middle of a file.
            CudaError: the GPU is lost, to this process or to the other one.
            RuntimeError: an error of the other process that nobody foresaw, with its traceback.
        """
        last: _Last | None = None
        before, source.on_stop = source.on_stop, self.stop
        try:
            self._send(self._begin)
            for frame in self._received(source):
                last = _Last(frame.index, frame.timestamp_s, frame.received_s)  # and not its picture
                yield frame
                del frame
        except _RefusedError as e:
            _logger.debug("%s is read by this process: %s", source.info.name, e)
        except _GoneError:
            if self._stopped:
                return
            why = f"{source.info.name}: the process that decodes it has ended ({self._fate()})"
            self._slots.let_go()
            if last is not None and not source.info.live:
                raise SourceError(why, remedy="Try again with --decode-processes 0.") from None
            source.watcher.state(StreamState.CONNECTING if last is None else StreamState.RECONNECTING, why)
        except BaseException:  # whoever asked has enough
            self._give_up()
            raise
        else:
            return
        finally:
            source.on_stop = before
            self._hang_up()
        self.is_remote = False
        if not self._stopped:
            yield from _continued(source, last)

    def stop(self) -> None:
        """No more frames are wanted; from any thread."""
        self._stopped = True
        self._tell_to_stop()

    def close(self) -> None:
        """Free its memory as far as nobody holds a picture, once the process has ended."""
        self._slots.let_go()

    def abandon(self) -> None:
        """Wait for the process no more, from any thread: it cannot be ended. The memory that it may write to stays."""
        self._stopped = True
        with (
            contextlib.suppress(OSError),  # its reader has closed it
            self._lock,
            socket.socket(fileno=os.dup(self._connection.fileno())) as line,
        ):
            line.shutdown(socket.SHUT_RDWR)

    def _tell_to_stop(self) -> None:
        with contextlib.suppress(_GoneError):  # it has ended by itself
            self._send(Stop())

    def _give_up(self) -> None:
        """Free the memory as soon as the process writes to it no more; where that takes long, at its end."""
        if self._is_over:
            return
        self._tell_to_stop()
        until = time.monotonic() + _PATIENCE_S
        with contextlib.suppress(_GoneError, OSError):
            while self._connection.poll(max(until - time.monotonic(), 0.0)):
                if isinstance(self._next(), LetGo):
                    self._slots.let_go()
                    return

    def _hang_up(self) -> None:
        """Let the process stop, even where it is about to send something."""
        self._tell_to_stop()
        with self._lock:
            self._connection.close()

    def _send(self, order: Order) -> None:
        try:
            with self._lock:
                self._connection.send(order)
        except OSError as e:
            raise _GoneError from e

    def _next(self) -> Message:
        try:
            message: Message = self._connection.recv()
        except (EOFError, OSError) as e:
            raise _GoneError from e
        return message

    def _received(self, source: Source) -> Iterator[Frame]:
        taken = 0
        while True:
            message = self._next()
            if isinstance(message, Shots):
                for shot in message.shots:
                    yield self._frame(shot)
                _count(message, source.watcher)
                taken += len(message.shots)
                if taken >= self._begin.window // 4:
                    self._send(Ack(taken))
                    taken = 0
            elif isinstance(message, End):
                self._is_over = True
                if message.error is not None:
                    raise message.error
                return
            elif isinstance(message, Refused):
                raise _RefusedError(message.why)
            else:
                self._take(message, source)

    def _take(self, message: Message, source: Source) -> None:
        """What is no frame."""
        if isinstance(message, Grow):
            self._send(self._granted(message))
        elif isinstance(message, LetGo):
            self._slots.let_go()
        elif isinstance(message, Look):
            self._colours = message.colours
        elif isinstance(message, Known):
            source.info = message.info
        elif isinstance(message, Changed):
            source.watcher.state(message.state, message.error)
        elif isinstance(message, Decodes):
            source.watcher.decoder(message.name, message.why)
        else:
            assert isinstance(message, Problem)
            source.on_problem(message.error)

    def _granted(self, asked: Grow) -> Grant:
        try:
            with self._slots.machine.active():
                return self._slots.grow(asked)
        except CudaError as e:
            if self._colours is None:
                raise _RefusedError(str(e)) from e  # no picture has come, so nothing is lost
            return Grant()

    def _frame(self, shot: Shot) -> Frame:
        picture: ImageU8 | DeviceImage
        if shot.pixels is not None:
            picture = shot.pixels
        else:
            assert self._colours is not None
            lease = self._slots.lease(shot.slot)
            picture = PooledImage(lease, shot.size, self._colours, self._slots.machine, self._downloads)
        return Frame(
            picture=picture,
            source_id=shot.source_id,
            index=shot.number,
            timestamp_s=shot.timestamp_s,
            decode_s=shot.decode_s,
            received_s=shot.received_s,
        )


class _RefusedError(Exception):
    """The process leaves the source to this one."""


class _GoneError(Exception):
    """The process has ended, or the connection was closed here."""


class _Last(NamedTuple):
    """What is known of the last frame."""

    number: int
    timestamp_s: float
    received_s: float | None


def _continued(source: Source, last: _Last | None) -> Iterator[Frame]:
    """The frames of a source, numbered and timed as if they followed its last one."""
    if last is None or last.received_s is None:
        yield from source
        return
    if isinstance(source, LiveSource):
        source.was_live = True  # a camera that refuses the password while it starts anew is asked again
    for frame in source:
        since = 0.0 if frame.received_s is None else frame.received_s - frame.timestamp_s - last.received_s
        yield dataclasses.replace(
            frame,
            index=frame.index + last.number + 1,
            timestamp_s=frame.timestamp_s + last.timestamp_s + max(since, 0.0),
        )


def _count(message: Shots, watcher: Watcher) -> None:
    """What else happened while the frames came."""
    if message.skipped:
        watcher.skipped(message.skipped)
    for _ in range(message.corrupt):
        watcher.corrupt()
    for _ in range(message.late):
        watcher.late()
