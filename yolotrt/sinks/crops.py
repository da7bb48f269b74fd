"""Each box cut out of its picture: one folder per class."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection
from pathlib import Path

import numpy as np

from yolotrt import files
from yolotrt.detections import Detections
from yolotrt.errors import UsageError
from yolotrt.sinks import pictures
from yolotrt.sinks.base import Sink
from yolotrt.sinks.limits import stamp
from yolotrt.sources.base import Source
from yolotrt.types import FrameResult


class CropsSink(Sink):
    """Writes `CLASS/PICTURE-N.jpg` for box number N of a picture, and `CLASS/VIDEO-FRAME-N.jpg` for one of a video.

    N counts from 0 by falling confidence. Crops of a live stream also carry the time at which the run began. Boxes
    without a whole pixel in the picture are left out. `outputs` names the folders, since the files may be many.
    """

    def __init__(
        self, folder: Path, source: Source, *, name: str | None = None, names: pictures.Names | None = None
    ) -> None:
        """Make the folder.

        Args:
            source: where the frames come from.
            name: that the files of a live stream begin with; part of its address by default.
            names: those that are taken already, where several streams write to one folder.

        Raises:
            SinkError: the folder cannot be made or written.
            UsageError: it holds the source's own files.
        """
        super().__init__()
        self._folder, self._source, self._name = folder, source, name
        with files.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        refuse_own_folder(folder, source.paths)
        self._names = names or pictures.Names()
        self._video = ("", -1, "")
        self._begun = stamp()
        # Those of video files at once, so that they do not depend on which stream is faster.
        self._reserved: defaultdict[str, deque[str]] = defaultdict(deque)
        for path in map(str, source.paths):
            if source.info_of(path).moving:
                self._reserved[path].append(self._names.free(pictures.safe_name(Path(path).stem), series=True))

    def write(self, result: FrameResult) -> None:
        stem = self._stem(result)
        for number, (box, _, class_id) in enumerate(result.detections):
            x1, y1 = np.floor(box[:2]).astype(int).clip(0).tolist()
            x2, y2 = np.ceil(box[2:]).astype(int).clip(0).tolist()
            crop = result.frame.pixels[y1:y2, x1:x2]
            if not crop.size:
                continue
            folder = self._folder / _folder_name(result.detections, class_id)
            pictures.save(folder / f"{stem}-{number}.jpg", crop)
            if folder not in self.outputs:
                self.outputs.append(folder)

    def close(self) -> None:
        """Every file is whole already."""

    def _stem(self, result: FrameResult) -> str:
        frame = result.frame
        info = self._source.info_of(frame.source_id)
        own = Path(frame.source_id).stem
        streamed = info.moving and info.kind != "video"
        plain = pictures.safe_name((self._name if streamed else None) or own)
        if not info.moving:
            return self._names.free(plain)
        source_id, index, stem = self._video
        if source_id != frame.source_id or frame.index <= index:  # the next video, or the same one once more
            reserved = self._reserved.get(frame.source_id)
            wanted = f"{plain}-{self._begun}" if streamed else plain
            stem = reserved.popleft() if reserved else self._names.free(wanted, series=True)
        self._video = (frame.source_id, frame.index, stem)
        return f"{stem}-{frame.index:06d}"


def refuse_own_folder(folder: Path, inputs: Collection[Path]) -> None:
    """Raise UsageError where files that are read, or links to them, lie in `folder` or below it."""
    place = folder.resolve()
    above = {parent.resolve() for parent in {path.parent for path in inputs}}
    above |= {path.resolve().parent for path in inputs if path.is_symlink()}
    if any(place == parent or place in parent.parents for parent in above):
        raise UsageError(
            f"{folder} holds the pictures and videos that the crops are cut from", expected="another folder"
        )


def _folder_name(detections: Detections, class_id: int) -> str:
    name = detections.name_of(class_id)
    safe = pictures.safe_name(name)
    # Two names must not become one folder.
    return safe if safe == name else f"{safe}-{class_id}"
