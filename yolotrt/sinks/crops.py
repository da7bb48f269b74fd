"""Each box cut out of its picture: one folder per class."""

from __future__ import annotations

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

    def __init__(self, folder: Path, source: Source, *, name: str | None = None) -> None:
        """Make the folder.

        Args:
            source: where the frames come from.
            name: that the files begin with, for a stream whose address would make none.

        Raises:
            SinkError: the folder cannot be made or written.
            UsageError: it holds the source's own files.
        """
        super().__init__()
        self._folder, self._source, self._name = folder, source, name
        with files.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        resolved = folder.resolve()
        if any(resolved in path.resolve().parents for path in source.paths):
            raise UsageError(
                f"{folder} holds the pictures and videos that the crops are cut from", expected="another folder"
            )
        self._names = pictures.Names()
        self._video = ("", -1, "")
        self._begun = stamp()

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
        plain = pictures.safe_name(self._name or Path(frame.source_id).stem)
        if not info.moving:
            return self._names.free(plain)
        source_id, index, stem = self._video
        if source_id != frame.source_id or frame.index <= index:  # the next video, or the same one once more
            stem = self._names.free(plain if info.kind == "video" else f"{plain}-{self._begun}")
        self._video = (frame.source_id, frame.index, stem)
        return f"{stem}-{frame.index:06d}"


def _folder_name(detections: Detections, class_id: int) -> str:
    name = detections.name_of(class_id)
    safe = pictures.safe_name(name)
    # Two names must not become one folder.
    return safe if safe == name else f"{safe}-{class_id}"
