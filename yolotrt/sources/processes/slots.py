"""Memory of one process's GPU context that another one decodes into, a slot for each picture.

The process that reads the frames owns it, so that they outlive the one that decoded them. Which slots are in use
stands in memory that both see, a byte each: the decoding side sets it, and the other one clears it once nobody holds
the picture any more. Nobody waits for the other one there.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable

from yolotrt.cuda.machine import Machine, Memory, Queue
from yolotrt.errors import CudaError
from yolotrt.sources.afterwards import Afterwards
from yolotrt.sources.device_images import Budget, Held, aligned, next_slab
from yolotrt.sources.processes.messages import Grant, Grow

_WHOLE = 2**21  # below, several allocations share what a name stands for


class Slots:
    """The owner's side, of one source.

    Args:
        machine: the GPU.
        budget: of all sources together.
        flags: a byte for each slot of all sources.
        part: the numbers of those of this source.
    """

    def __init__(self, machine: Machine, budget: Budget, flags: mmap.mmap, part: range) -> None:
        self.machine = machine
        self._budget, self._flags, self._part = budget, flags, part
        self._slabs: list[_Slab] = []
        self._ended = Afterwards(self._end)  # guards all of these

    def grow(self, asked: Grow) -> Grant:
        """Memory for more pictures, as far as there is any. To be called inside of `Machine.active`.

        Raises CudaError where no other process can use it.
        """
        count = asked.places
        while count > 0:
            found = self._grown(asked.size, count)
            if found is not None:
                return found
            count //= 2
        return Grant()

    def lease(self, slot: int) -> Lease:
        """What was written to a slot, in use until nobody holds it."""
        with self._ended:
            slab = next(s for s in self._slabs if slot in s.part)
            slab.held += 1
        return Lease(self, slab, slot)

    def back(self, slab: _Slab, slot: int) -> None:
        """A lease ends."""
        self._ended.hand_in((slab, slot))

    def let_go(self) -> None:
        """The other side writes to none of them any more: what is not in use is freed, and the rest once it is not."""
        with self._ended:
            for slab in list(self._slabs):
                slab.over = True
                if not slab.held:
                    self._free(slab)

    def _grown(self, size: int, count: int) -> Grant | None:
        whole = -(-aligned(size) * count // _WHOLE) * _WHOLE
        with self._ended:
            part = self._gap(count)
            memory = None if part is None else self._budget.allocate(self.machine, whole)
            if part is None or memory is None:
                return None
            self._slabs.append(_Slab(memory, size, part))
            try:
                name = self.machine.exported(memory)
            except CudaError:
                self._free(self._slabs[-1])
                raise
        self._flags[part.start : part.stop] = bytes(count)
        return Grant(first=part.start, places=count, name=name, whole=whole)

    def _gap(self, count: int) -> range | None:
        """Numbers that no memory has."""
        start = self._part.start
        for slab in sorted(self._slabs, key=lambda s: s.part.start):
            if slab.part.start - start >= count:
                break
            start = slab.part.stop
        return range(start, start + count) if start + count <= self._part.stop else None

    def _end(self, lease: tuple[_Slab, int]) -> None:
        slab, slot = lease
        slab.held -= 1
        self._flags[slot] = 0
        if slab.over and not slab.held:
            self._free(slab)

    def _free(self, slab: _Slab) -> None:
        self._slabs.remove(slab)
        # A GPU that is lost frees nothing any more, and takes all it had with it.
        with contextlib.suppress(CudaError), self.machine.active():
            self._budget.free(slab.memory)


class _Slab:
    """Memory of several slots."""

    def __init__(self, memory: Memory, size: int, part: range) -> None:
        self.memory, self.size, self.part = memory, size, part
        self.held = 0
        self.over = False

    def address(self, slot: int) -> int:
        return self.memory.address + (slot - self.part.start) * aligned(self.size)


class Lease:
    """A slot that is in use."""

    def __init__(self, slots: Slots, slab: _Slab, slot: int) -> None:
        self._slots, self._slab, self._slot = slots, slab, slot
        self.address = slab.address(slot)

    def __del__(self) -> None:
        self._slots.back(self._slab, self._slot)


class LentSlots:
    """The decoding side: the `Pool` of one source.

    Args:
        machine: the GPU, in this process.
        flags: a byte for each slot of all sources.
        limit: slots at a time.
        grow: asks for more.
        let_go: tells that none of those so far is used any more.
    """

    def __init__(
        self,
        machine: Machine,
        flags: mmap.mmap,
        *,
        limit: int,
        grow: Callable[[Grow], Grant],
        let_go: Callable[[], None],
    ) -> None:
        self._machine, self._flags, self._limit = machine, flags, limit
        self._grow, self._let_go = grow, let_go
        self._slabs: list[_Slab] = []
        self._size = 0
        self._queues: list[Queue] = []  # that may still write
        self._failure: CudaError | None = None

    def take(self, size: tuple[int, int]) -> Held | None:
        wanted = size[0] * size[1] * 3 // 2
        if wanted != self._size:
            self.forget()
            self._size = wanted
        return self._idle() or self._more()

    def written(self, queue: Queue) -> None:
        # Not waited for: decoding goes on meanwhile, and several pictures are handed over at a time.
        if queue not in self._queues:
            self._queues.append(queue)

    def settle(self) -> None:
        """Wait until all that was taken is filled. To be called inside of `Machine.active`.

        Raises CudaError, and from then on always: nobody knows what is filled, and the queues may be closed.
        """
        if self._failure is not None:
            raise self._failure
        try:
            for queue in self._queues:
                queue.wait()
        except CudaError as e:
            self._failure = e
            raise
        finally:
            self._queues = []

    def close(self) -> None:
        """The source may connect again, and use them again."""

    def forget(self) -> None:
        """None of them is used any more. To be called inside of `Machine.active`."""
        if self._slabs:
            self.settle()
            for slab in self._slabs:
                slab.memory.close()
            self._slabs = []
            self._let_go()

    def _idle(self) -> Lent | None:
        for slab in self._slabs:
            slot = self._flags.find(b"\0", slab.part.start, slab.part.stop)
            if slot >= 0:
                return Lent(self._flags, slot, slab.address(slot))
        return None

    def _more(self) -> Lent | None:
        made = sum(len(slab.part) for slab in self._slabs)
        count = next_slab(made, self._limit)
        grant = self._grow(Grow(self._size, count)) if count > 0 else Grant()
        if not grant.places:
            return None
        try:
            memory = self._machine.adopted(grant.name, grant.whole)
        except CudaError:
            if not self._slabs:
                raise
            self._limit = made  # what there is has to do; other pictures go through the host
            return None
        self._slabs.append(_Slab(memory, self._size, range(grant.first, grant.first + grant.places)))
        return self._idle()


class Lent:
    """A slot that is being written to: free again, unless it was handed over."""

    def __init__(self, flags: mmap.mmap, slot: int, address: int) -> None:
        self.address, self._flags, self._slot = address, flags, slot
        self._is_ours = True
        flags[slot] = 1

    def hand_over(self) -> int:
        """Its number; the other side says from now on when it is free."""
        self._is_ours = False
        return self._slot

    def __del__(self) -> None:
        if self._is_ours:
            self._flags[self._slot] = 0
