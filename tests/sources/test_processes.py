"""Which sources other processes decode. What these do: `tests/gpu/test_decode_processes.py`, also without a GPU."""

from __future__ import annotations

import mmap
import os
import pickle
import sys
from pathlib import Path
from typing import cast

import pytest

from tests.support.cuda_host.machine import HostMachine, HostMemory
from tests.support.host_nvdec import HostNvdec
from tests.support.media import moving_box, write_video
from yolotrt.cuda.machine import Memory
from yolotrt.errors import CudaError, MissingExtraError, SourceError, UsageError
from yolotrt.sources import LiveOptions, NetworkSource, VideoSource, open_source
from yolotrt.sources.decoder_choice import OnNvdec
from yolotrt.sources.decoders import Decoders
from yolotrt.sources.device_images import Budget
from yolotrt.sources.live import LostError
from yolotrt.sources.nvdec import Nvdec
from yolotrt.sources.nvdec_api import NvVideoCodec
from yolotrt.sources.processes.messages import Grant, Grow, portable
from yolotrt.sources.processes.process import _shared_memory
from yolotrt.sources.processes.slots import Lent, LentSlots, Slots
from yolotrt.sources.processes.spread import Spread, processes_for
from yolotrt.sources.processes.wanted import Wanted
from yolotrt.sources.selection import Selection

SIZE = (4, 6)


@pytest.mark.parametrize(
    ("files", "cameras", "cores", "processes"),
    [
        (1, 0, 16, 0),
        (2, 0, 16, 0),
        (3, 0, 16, 2),
        (8, 0, 16, 4),
        (32, 0, 16, 6),
        (32, 0, 4, 2),
        (32, 0, 1, 1),
        (0, 16, 16, 0),
        (0, 17, 16, 1),
        (0, 100, 16, 3),
        (0, 300, 16, 6),
        (1, 12, 16, 1),
    ],
)
def test_how_many(files: int, cameras: int, cores: int, processes: int) -> None:
    assert processes_for(files, cameras, cores) == processes


def test_less_than_none() -> None:
    with pytest.raises(UsageError, match="decode-processes is out of range, got -1"):
        Decoders(processes=-1)


def test_none_where_nothing_decodes_on_a_gpu(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(3))
    sources = [open_source(path) for _ in range(9)]
    spread = Spread([Wanted(source, Selection()) for source in sources])
    assert spread.lines == [None] * 9
    spread.close()


def test_recipes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_box(3))
    assert [f.index for f in pickle.loads(pickle.dumps(VideoSource(path).recipe))()] == [0, 1, 2]
    source = NetworkSource("rtsp://user:secret@camera/1", name="door", options=LiveOptions(retries=3))
    made = pickle.loads(pickle.dumps(source.recipe))()
    assert (made.info, made.options) == (source.info, source.options)
    assert open_source(tmp_path).recipe is not None, "a folder of one video"
    assert open_source([path, path]).recipe is None

    class Own(VideoSource):
        """May do anything."""

    assert Own(path).recipe is None


def test_not_in_a_program_that_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = _on_gpu(tmp_path)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr("subprocess.Popen", None)
    assert Spread([Wanted(source, Selection()) for source in sources]).lines == [None, None]


def _on_gpu(folder: Path) -> list[VideoSource]:
    """Two files that two processes may decode."""
    machine = Machine()
    machine.can_share = True
    nvdec = Nvdec(api=cast("NvVideoCodec", HostNvdec()), machine=machine, limit=8, budget=Budget(2**30))
    sources = [VideoSource(write_video(folder / f"{n}.mp4", moving_box(3))) for n in range(2)]
    for source in sources:
        source.decoders = Decoders(nvdec=OnNvdec(nvdec), processes=2)
    return sources


def test_errors_are_passed_on() -> None:
    error = SourceError("it broke", got=1, remedy="Mend it.")
    assert str(portable(error)) == str(pickle.loads(pickle.dumps(portable(error)))) == str(error)
    lost = LostError("it is gone", pause_s=3.0)
    assert isinstance(pickle.loads(pickle.dumps(portable(lost))), SourceError)
    missing = MissingExtraError("av", "video", needed_for="Reading")
    assert str(missing) in str(pickle.loads(pickle.dumps(portable(missing))))
    try:
        [].pop()
    except IndexError as e:
        found = portable(e)
    assert "pop from empty list" in str(found)
    assert "Traceback" in str(found)


class Machine(HostMachine):
    """Whose memory a second one in the same process can use, and goes on using though the first one frees it."""

    def __init__(self) -> None:
        super().__init__()
        self._exported: list[Memory] = []  # as a GPU keeps what another process has still open

    def exported(self, memory: Memory) -> bytes:
        self._exported.append(memory)
        return memory.address.to_bytes(8, "little")

    def adopted(self, name: bytes, size: int) -> Memory:
        made = HostMemory(1, self)
        made.address, made.size = int.from_bytes(name, "little"), size
        return made


class Pair:
    """Both sides of a source's slots."""

    def __init__(self, *, limit: int = 40, slots: int = 64, budget: int = 2**30) -> None:
        self.owner, self.other = Machine(), Machine()
        self.flags = mmap.mmap(-1, 2 * slots)
        self.slots = Slots(self.owner, Budget(budget), self.flags, range(slots, 2 * slots))
        self.asked: list[Grow] = []
        self.pool = LentSlots(self.other, self.flags, limit=limit, grow=self._grow, let_go=self.slots.let_go)

    def _grow(self, asked: Grow) -> Grant:
        self.asked.append(asked)
        return self.slots.grow(asked)

    def take(self, size: tuple[int, int] = SIZE) -> Lent | None:
        found = self.pool.take(size)
        assert found is None or isinstance(found, Lent)
        return found


def test_a_slot_is_used_again_once_nobody_holds_it() -> None:
    pair = Pair()
    lent = pair.take()
    assert lent is not None
    number, address = lent.hand_over(), lent.address
    del lent
    lease = pair.slots.lease(number)
    assert lease.address == address
    second = pair.take()
    assert second is not None
    assert second.address != address
    del lease
    third = pair.take()
    assert third is not None
    assert third.address == address
    assert [asked.places for asked in pair.asked] == [1, 1]


def test_a_slot_that_was_not_handed_over_is_free() -> None:
    pair = Pair()
    first = pair.take()
    assert first is not None
    address = first.address
    del first
    again = pair.take()
    assert again is not None
    assert again.address == address
    assert len(pair.asked) == 1


def test_slots_grow_up_to_the_limit() -> None:
    pair = Pair(limit=40)
    taken = []
    while (lent := pair.take()) is not None:
        taken.append(lent)
    assert len({lent.address for lent in taken}) == len(taken) == 40
    assert [asked.places for asked in pair.asked] == [1, 1, 2, 4, 8, 16, 8]


def test_no_more_than_the_budget() -> None:
    pair = Pair(budget=2**22)  # what is shared comes in pieces of 2 MiB at least
    held = [pair.take() for _ in range(3)]
    assert [lent is not None for lent in held] == [True, True, False]


def test_pictures_of_another_size() -> None:
    """What is in use stays until nobody holds it; its numbers are not given away before."""
    pair = Pair(limit=40)
    lent = pair.take()
    assert lent is not None
    lease = pair.slots.lease(lent.hand_over())
    before = pair.owner.open
    other = pair.take((8, 6))
    assert other is not None
    assert pair.owner.open == before + 1, "the memory of a picture in use is not freed"
    assert other.hand_over() != 64
    del lease
    assert pair.owner.open == before
    pair.slots.let_go()
    assert pair.owner.open == 0


def test_memory_that_cannot_be_shared_is_not_kept() -> None:
    owner = HostMachine()
    slots = Slots(owner, Budget(2**30), mmap.mmap(-1, 64), range(64))
    with pytest.raises(CudaError):
        slots.grow(Grow(36, 4))
    assert owner.open == 0


def test_where_no_process_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This one decodes, and leaves nothing open."""

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", refuse)
    sources = _on_gpu(tmp_path)
    before = _open_files()
    spread = Spread([Wanted(source, Selection()) for source in sources])
    assert spread.lines == [None, None]
    spread.close()
    assert _open_files() == before


def _open_files() -> int:
    """How many this process has; 0 where nobody tells."""
    files = Path("/proc/self/fd")
    return len(list(files.iterdir())) if files.is_dir() else 0


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this Python does not know such memory")
def test_slots_are_on_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    with _shared_memory(64) as descriptor:
        assert bytes(mmap.mmap(descriptor, 0)) == bytes(64)
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    assert name.startswith("/memfd:")
    monkeypatch.delattr(os, "memfd_create")
    with _shared_memory(64) as descriptor:
        assert bytes(mmap.mmap(descriptor, 0)) == bytes(64)
