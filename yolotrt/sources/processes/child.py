"""The process that decodes: reads its sources, a thread each, and hands over what it finds."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import pickle
import queue
import selectors
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from yolotrt.cuda.device import Device, waits_asleep
from yolotrt.cuda.early import started_early
from yolotrt.cuda.gpu import gpu
from yolotrt.cuda.machine import Machine
from yolotrt.errors import CudaError, SourceError, YolotrtError
from yolotrt.sources.base import Source, SourceInfo, StreamState, Watcher
from yolotrt.sources.decoders import DecodeRequest, Decoders, PictureDecoder
from yolotrt.sources.device_images import Budget, Colours, PooledImage
from yolotrt.sources.nvdec import Nvdec, NvdecError, load_api
from yolotrt.sources.nvdec_stream import NvdecStream
from yolotrt.sources.processes.messages import (
    BEAT_S,
    Ack,
    Alive,
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
    Problem,
    Refused,
    SetUp,
    Shot,
    Shots,
    Stop,
    portable,
)
from yolotrt.sources.processes.slots import Lent, LentSlots
from yolotrt.types import Frame

_MOST = 8  # frames in a message of a file; those of a camera do not wait for each other
_LONGEST_S = 0.02  # that the first of them waits
_QUIET_S = 0.5  # that what is no frame waits: a camera of whose pictures few are wanted is not silent
_SPINNING = 4  # threads that may each keep a core busy while they wait for the GPU


def main(control: int) -> None:
    """Work until the other side of a connection says anything more, or is closed.

    Args:
        control: its file descriptor.
    """
    told = Connection(control)
    set_up: SetUp = told.recv()
    flags = mmap.mmap(set_up.flags, 0)
    lines = [_Reader(Connection(at), flags) for at in set_up.lines]
    threading.Thread(target=_listen_and_end, args=(told, lines), name="yolotrt-listen", daemon=True).start()
    try:
        nvdec: Nvdec | str = _nvdec(set_up.device, len(lines))
    except (NvdecError, YolotrtError) as e:
        nvdec = str(e)
    gc.freeze()  # none of it becomes garbage, and a look at it takes as long as several pictures
    for line in lines:
        threading.Thread(target=line.work, args=(nvdec,), name="yolotrt-reader", daemon=True).start()
    with contextlib.suppress(OSError):  # the other side is gone
        while True:
            told.send(Alive())
            time.sleep(BEAT_S)
    threading.Event().wait()  # the thread that listens ends the process


def _nvdec(device: int, sources: int) -> Nvdec:
    if sources > _SPINNING:
        waits_asleep(device)
    with started_early(device):
        api = load_api()
        return Nvdec(api=api, machine=gpu(Device.open(device)), limit=0, budget=Budget(0))


def _listen_and_end(told: Connection, lines: Sequence[_Reader]) -> None:
    code = 1  # of an error that nobody foresaw: the other side is better off without a process that does not listen
    try:
        _listen(told, lines)
        code = 0
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)  # whatever the readers wait for; nothing here is worth keeping


def _listen(told: Connection, lines: Sequence[_Reader]) -> None:
    """Pass on what the other side says, until it wants no more of any source."""
    with selectors.DefaultSelector() as selector:
        selector.register(told, selectors.EVENT_READ)
        for line in lines:
            selector.register(line.connection, selectors.EVENT_READ, line)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    return
                try:
                    key.data.hear()
                except (EOFError, OSError):
                    selector.unregister(key.fileobj)
                    key.data.stop()


class _RefusedError(Exception):
    """The other process can read this source as well as this one."""


def _made(recipe: bytes) -> Source:
    """The source that a recipe makes. Raises _RefusedError for one of a module that this process has not."""
    try:
        make = pickle.loads(recipe)  # noqa: S301 - from the process that started this one
    except Exception as e:
        raise _RefusedError(f"it cannot be made in another process: {e}") from e
    found: Source = make()
    return found


@dataclass(frozen=True)
class _LentDecoding:
    """`GpuDecoding` into the other process's memory."""

    nvdec: Nvdec
    pool: LentSlots

    def open(self, request: DecodeRequest, *, forced: bool) -> PictureDecoder:
        return NvdecStream(self.nvdec, request, forced=forced, pool=self.pool)

    def held(self) -> AbstractContextManager[None]:
        return self.nvdec.machine.held()


class _Reader(Watcher):
    """One source."""

    def __init__(self, connection: Connection, flags: mmap.mmap) -> None:
        self.connection, self._flags = connection, flags
        self._begun: queue.SimpleQueue[Begin | None] = queue.SimpleQueue()
        self._grants: queue.SimpleQueue[Grant] = queue.SimpleQueue()
        self._room = threading.Semaphore(0)
        self._stopped = threading.Event()
        self._source: Source | None = None
        self._machine: Machine | None = None
        self._pool: LentSlots | None = None
        self._out: list[Shot] = []
        self._out_since = self._sent_at = 0.0
        self._quiet_s = _QUIET_S
        self._skipped = self._corrupt = self._late = 0
        self._has_given = False
        self._info: SourceInfo | None = None
        self._colours: Colours | None = None

    def hear(self) -> None:
        """Take one message of the other side, in the thread that listens. Raises EOFError, OSError at its end."""
        order = self.connection.recv()
        if isinstance(order, Ack):
            self._room.release(order.frames)
        elif isinstance(order, Grant):
            self._grants.put(order)
        elif isinstance(order, Begin):
            self._begun.put(order)
        else:
            assert isinstance(order, Stop)
            self.stop()

    def stop(self) -> None:
        """Read no more, whatever it waits for; from any thread."""
        self._stopped.set()
        self._room.release()
        self._grants.put(Grant())
        self._begun.put(None)
        if self._source is not None:
            self._source.stop()

    def work(self, nvdec: Nvdec | str) -> None:
        """Read the source, from what `Begin` says to its end."""
        begin = self._begun.get()
        last: Message
        try:
            if begin is not None and isinstance(nvdec, Nvdec):
                self._read(begin, nvdec)
            last = Refused(nvdec) if isinstance(nvdec, str) else End(None)
        except _RefusedError as e:
            last = Refused(str(e))
        except CudaError as e:
            last = End(portable(e)) if self._has_given else Refused(str(e))
        except Exception as e:  # noqa: BLE001 - raised on the other side, if it still listens
            last = End(portable(e))
        with contextlib.suppress(OSError):
            self._tell(last)

    def _read(self, begin: Begin, nvdec: Nvdec) -> None:
        self._selection, self._machine = begin.selection, nvdec.machine
        self._room.release(begin.window)
        pool = LentSlots(nvdec.machine, self._flags, limit=begin.limit, grow=self._grown, let_go=self._let_go)
        self._pool = pool
        with nvdec.machine.held(), contextlib.ExitStack() as opened:
            opened.callback(pool.forget)
            source = opened.enter_context(_made(begin.recipe))
            source.watcher, source.on_problem = self, self._problem
            source.decoders = Decoders(nvdec=_LentDecoding(nvdec, pool), forced=begin.forced)
            self._source = source
            if source.stall_s is not None:
                self._quiet_s = min(_QUIET_S, source.stall_s / 4)
            for frame in () if self._stopped.is_set() else source:
                self._hand_over(source, frame)
                if self._stopped.is_set():
                    return
            self._flush()

    def _hand_over(self, source: Source, frame: Frame) -> None:
        if source.info is not self._info:
            self._info = source.info
            self._tell(Known(source.info))
        if not self._room.acquire(blocking=False):
            if frame.received_s is not None:
                self.late()  # a newer one comes before this one could be used
                return
            self._flush()
            self._room.acquire()
        shot = self._shot(frame)
        now = time.monotonic()
        if not self._out:
            self._out_since = now
        self._out.append(shot)
        self._has_given = True
        if source.info.live or len(self._out) >= _MOST or now - self._out_since > _LONGEST_S:
            self._flush()

    def _shot(self, frame: Frame) -> Shot:
        slot, pixels = -1, None
        picture = frame.picture
        if isinstance(picture, PooledImage):
            assert self._machine is not None
            surface = picture.surface(self._machine)
            assert surface is not None
            assert isinstance(surface.owner, Lent)
            if picture.colours != self._colours:
                self._flush()
                self._colours = picture.colours
                self._tell(Look(picture.colours))
            slot = surface.owner.hand_over()
        else:
            pixels = np.ascontiguousarray(frame.pixels)
        return Shot(
            slot=slot,
            size=frame.size,
            pixels=pixels,
            source_id=frame.source_id,
            number=frame.index,
            timestamp_s=frame.timestamp_s,
            decode_s=frame.decode_s,
            received_s=frame.received_s,
        )

    def _flush(self) -> None:
        """Send what there is."""
        if self._out and self._pool is not None:
            self._pool.settle()
        if self._out or self._skipped or self._corrupt or self._late:
            self._tell(Shots(self._out, self._skipped, self._corrupt, self._late))
            self._out, self._skipped, self._corrupt, self._late = [], 0, 0, 0
            self._sent_at = time.monotonic()

    def _tell(self, message: Message) -> None:
        self.connection.send(message)

    def _grown(self, asked: Grow) -> Grant:
        self._flush()
        self._tell(asked)
        return self._grants.get()

    def _let_go(self) -> None:
        self._flush()
        self._tell(LetGo())

    def _problem(self, error: SourceError) -> None:
        self._flush()
        found = portable(error)
        assert isinstance(found, SourceError)
        self._tell(Problem(found))

    def state(self, state: StreamState, error: str = "") -> None:
        self._flush()
        self._tell(Changed(state, error))

    def decoder(self, name: str, why: str) -> None:
        if name != "nvdec" and not self._has_given:
            raise _RefusedError(why)
        self._flush()
        self._tell(Decodes(name, why))

    def corrupt(self) -> None:
        self._corrupt += 1
        self._flush_now_and_then()

    def late(self) -> None:
        self._late += 1
        self._flush_now_and_then()

    def wants(self, index: int, timestamp_s: float) -> bool:
        if self._selection.takes(index, timestamp_s):
            return True
        self._skipped += 1
        self._flush_now_and_then()
        return False

    def _flush_now_and_then(self) -> None:
        is_many = self._skipped + self._corrupt + self._late >= _MOST
        if is_many or time.monotonic() - self._sent_at >= self._quiet_s:
            self._flush()
