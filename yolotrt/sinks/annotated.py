"""Annotated copies: pictures under their own name and format, videos and live streams as MP4."""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from yolotrt import files
from yolotrt.errors import SinkError, UsageError
from yolotrt.plotting import draw_result
from yolotrt.sinks import h264, pictures
from yolotrt.sinks.base import Sink
from yolotrt.sinks.h264 import Encoder
from yolotrt.sinks.limits import Limit, stamp
from yolotrt.sinks.video_file import VideoFile
from yolotrt.sources.base import Source, SourceInfo
from yolotrt.types import Frame, FrameResult

_BACK_S = 1.0  # a live stream whose times jump back by more has begun anew
# The index of a recording stays in memory until it is closed, 72 bytes a frame: of a hundred cameras, 19 GB a day.
_SPLIT = Limit(seconds=3600)


@dataclass(frozen=True, kw_only=True)
class AnnotatedOptions:
    """How annotated copies are written.

    Attributes:
        encoder: of videos: `auto` takes NVENC where there is one, else x264.
        split: when the file of a live stream is that long or large, the next one is begun; after an hour by default.
            None never does. It counts for recordings that come over the network as well; video files stay whole.
    """

    encoder: Encoder = "auto"
    split: Limit | None = _SPLIT

    def __post_init__(self) -> None:
        h264.check_encoder(self.encoder)


@dataclass(kw_only=True)
class _Recording:
    """The video that is being written, and where its last frame came from."""

    file: VideoFile
    source_id: str
    size: tuple[int, int]
    first_s: float
    last_s: float = 0.0
    index: int = -1


class AnnotatedSink(Sink):
    """Saves each frame with its boxes drawn on it.

    A picture keeps its name and format. A video becomes `NAME.mp4` (H.264) with the frame times and the sound of its
    source. A name that is taken already in this run gets `-2`, `-3`, ... Files are whole or absent; after an interrupt
    the video so far is finished.

    A live stream becomes `NAME-DATE-TIME.mp4`, which can be played while it grows; its times begin at 0. Another file
    follows where `split` says so, and where the size of the pictures changes.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        options: AnnotatedOptions | None = None,
        *,
        name: str | None = None,
        names: pictures.Names | None = None,
    ) -> None:
        """Make the folder.

        Args:
            source: where the frames come from.
            name: of a live stream, for its files; part of its address by default.
            names: those that are taken already, where several streams write to one folder. The copies of files take
                theirs at once, so that they do not depend on who is faster.

        Raises:
            SinkError: the folder cannot be made or written.
            UsageError: the folder holds the source's own files, which the copies would replace.
        """
        super().__init__()
        self._folder, self._source, self._name = folder, source, name
        self._options = options or AnnotatedOptions()
        self._names = names or pictures.Names()
        with files.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        refuse_own_folder(folder, source.paths)
        self._open: _Recording | None = None
        self._reserved: defaultdict[str, deque[str]] = defaultdict(deque)  # by path
        for path in source.paths if names is not None else ():
            self._reserved[str(path)].append(self._names.free(self._copy_of(str(path))))

    def write(self, result: FrameResult) -> None:
        frame = result.frame
        info = self._source.info_of(frame.source_id)
        if not info.moving:
            self._finish()
            self._save_picture(result)
            return
        if self._open is not None and self._is_over(self._open, frame, streamed=info.kind != "video"):
            self._finish()
        drawn = draw_result(result)
        if self._open is None:
            self._open = self._begin(frame, info)
        recording = self._open
        recording.index, recording.last_s = frame.index, frame.timestamp_s
        try:
            recording.file.write(drawn, frame.timestamp_s - recording.first_s)
        except BaseException:
            self._open = None  # it has removed its file, or left what can be played of a live one
            raise

    def close(self) -> None:
        self._finish()

    def abort(self) -> None:
        with contextlib.suppress(SinkError):
            self._finish(cut=True)

    def _begin(self, frame: Frame, info: SourceInfo) -> _Recording:
        streamed = info.kind != "video"
        target = self._new(info) if streamed else self._target(frame.source_id, self._copy_of(frame.source_id))
        try:
            file = VideoFile(
                target,
                frame.size,
                fps=info.fps,
                time_base=info.time_base,
                encoder=self._options.encoder,
                source=None if streamed else Path(frame.source_id),
                live=streamed,
            )
        except BaseException:
            if streamed:
                target.unlink(missing_ok=True)  # nothing was written to it
            raise
        first_s = frame.timestamp_s if streamed else 0.0
        return _Recording(file=file, source_id=frame.source_id, size=frame.size, first_s=first_s)

    def _is_over(self, recording: _Recording, frame: Frame, *, streamed: bool) -> bool:
        if frame.source_id != recording.source_id:
            return True
        if not streamed:
            return frame.index <= recording.index  # the same video once more
        if frame.size != recording.size or frame.timestamp_s < recording.last_s - _BACK_S:
            return True
        split = self._options.split
        return split is not None and split.reached(
            seconds=frame.timestamp_s - recording.first_s, size=recording.file.size
        )

    def _copy_of(self, path: str) -> str:
        """What the copy of a file would be called if that name were free."""
        if self._source.info_of(path).moving:
            return Path(path).with_suffix(".mp4").name
        return pictures.name_for(Path(path).name)

    def _target(self, source_id: str, name: str) -> Path:
        reserved = self._reserved.get(source_id)
        return self._folder / (reserved.popleft() if reserved else self._names.free(name))

    def _new(self, info: SourceInfo) -> Path:
        """Where a live stream goes: a file that no other run has begun in the same second.

        Cameras of one make have one address apart from the host, and may have a run each.
        """
        name = f"{pictures.safe_name(self._name or info.name.rpartition('/')[2])}-{stamp()}.mp4"
        while True:
            target = self._folder / self._names.free(name)
            with files.writing(target), contextlib.suppress(FileExistsError):
                target.parent.mkdir(parents=True, exist_ok=True)  # it may have been cleared away since the last one
                target.touch(exist_ok=False)
                return target

    def _finish(self, *, cut: bool = False) -> None:
        if self._open is not None:
            video, self._open = self._open.file, None
            video.close(cut=cut)
            self.outputs.append(video.target)

    def _save_picture(self, result: FrameResult) -> None:
        source_id = result.frame.source_id
        target = self._target(source_id, self._copy_of(source_id))
        pictures.save(target, draw_result(result))
        self.outputs.append(target)


def refuse_own_folder(folder: Path, inputs: Collection[Path]) -> None:
    """Raise UsageError where copies in `folder` could take the place of files that are read."""
    if files.reaches_any(folder, inputs):
        raise UsageError(
            f"{folder}: annotated copies would replace the pictures and videos they are made from",
            expected="another folder than the source's own",
        )
