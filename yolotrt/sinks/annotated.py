"""Annotated copies: pictures under their own name and format, videos as MP4."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

import cv2

from yolotrt import files
from yolotrt.errors import SinkError, UsageError
from yolotrt.plotting import draw
from yolotrt.sinks.base import Sink
from yolotrt.sinks.video_file import VideoFile
from yolotrt.sources.base import Source
from yolotrt.types import FrameResult, ImageU8

# What OpenCV writes with colours; pictures of other kinds are saved as the nearest of these.
_FORMATS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".jp2", ".avif", ".ppm")
)
_NEAREST = {".jfif": ".jpg", ".mpo": ".jpg", ".pnm": ".ppm", ".pgm": ".ppm", ".pbm": ".ppm"}


class AnnotatedSink(Sink):
    """Saves each frame with its boxes drawn on it.

    A picture keeps its name and format. A video becomes `NAME.mp4` (H.264) with the frame times of its source. A name
    that is taken already in this run gets `-2`, `-3`, ... Files are whole or absent; after an interrupt the video so
    far is finished.
    """

    def __init__(self, folder: Path, source: Source) -> None:
        """Make the folder. `source` is where the frames come from.

        Raises:
            SinkError: the folder cannot be made or written.
            UsageError: the folder holds the source's own files, which the copies would replace.
        """
        super().__init__()
        self._folder, self._source = folder, source
        with files.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        _refuse_own_folder(folder, source.paths)
        self._taken: set[str] = set()
        self._video: VideoFile | None = None
        self._video_frame: tuple[str, int] = ("", -1)

    def write(self, result: FrameResult) -> None:
        frame = result.frame
        info = self._source.info_of(frame.source_id)
        drawn = draw(frame.pixels, result.detections)
        if info.kind != "video":
            self._finish_video()
            self._save_picture(frame.source_id, drawn)
            return
        source_id, index = self._video_frame
        if frame.source_id != source_id or frame.index <= index:  # the next video, or the same one once more
            self._finish_video()
        if self._video is None:
            target = self._target(Path(frame.source_id).with_suffix(".mp4").name)
            self._video = VideoFile(
                target, frame.size, fps=info.fps, time_base=info.time_base, source=Path(frame.source_id)
            )
        self._video_frame = (frame.source_id, frame.index)
        try:
            self._video.write(drawn, frame.timestamp_s)
        except BaseException:
            self._video = None  # it has removed its file
            raise

    def close(self) -> None:
        self._finish_video()

    def abort(self) -> None:
        with contextlib.suppress(SinkError):
            self._finish_video(cut=True)

    def _finish_video(self, *, cut: bool = False) -> None:
        if self._video is not None:
            video, self._video = self._video, None
            video.close(cut=cut)
            self.outputs.append(video.target)

    def _save_picture(self, source_id: str, pixels: ImageU8) -> None:
        name = Path(source_id).name
        suffix = Path(name).suffix
        if suffix.lower() not in _FORMATS:
            suffix = _NEAREST.get(suffix.lower(), ".png")
        target = self._target(Path(name).with_suffix(suffix).name)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix.lower() in (".jpg", ".jpeg", ".jpe") else []
        try:
            ok, data = cv2.imencode(suffix.lower(), pixels, quality)
        except cv2.error as e:
            raise SinkError(f"cannot write {target}: the picture cannot be encoded ({e.err or e})") from e
        if not ok:
            raise SinkError(f"cannot write {target}: the picture cannot be encoded", got=pixels.shape)
        files.write_bytes(target, data.data)
        self.outputs.append(target)

    def _target(self, name: str) -> Path:
        """A path in the folder that this run has not used; upper and lower case count as the same."""
        path = Path(name)
        number = 1
        while name.lower() in self._taken:
            number += 1
            name = f"{path.stem}-{number}{path.suffix}"
        self._taken.add(name.lower())
        return self._folder / name


def _refuse_own_folder(folder: Path, inputs: Collection[Path]) -> None:
    resolved = folder.resolve()
    if any(path.resolve().parent == resolved for path in inputs):
        raise UsageError(
            f"{folder}: annotated copies would replace the pictures and videos they are made from",
            expected="another folder than the source's own",
        )
