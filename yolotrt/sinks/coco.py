"""Detections as COCO results, which pycocotools and its like read."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from yolotrt import files
from yolotrt.detections import Detections
from yolotrt.errors import SinkError, UsageError
from yolotrt.sinks.base import Sink
from yolotrt.types import Frame, FrameResult


def images_beside(target: Path) -> Path | None:
    """The file with the ids of the pictures that comes with the results in `target`; None beside a pipe or a device."""
    if files.is_pipe_or_device(target):
        return None
    return target.parent / f"{target.stem}.images.json"


class CocoSink(Sink):
    """Writes `[{"image_id", "category_id", "bbox", "score"}, ...]`; `bbox` is x, y, width, height in pixels.

    Beside `NAME.json` comes `NAME.images.json`, a COCO file with these pictures and categories and no annotations:
    `COCO("NAME.images.json").loadRes("NAME.json")` works. The id of a picture is the number that is its name, as in
    COCO's own sets, else the next one that is free; ids of categories are those of the model's classes.

    A pipe or a device gets the results alone, once they are complete.

    With `streams`, pictures also carry the name of their `stream`; two streams may read the same source.

    With `like`, the ids are those of that annotations file: pictures are found by their names, classes by theirs.

    Both files are whole or absent; after an interrupt they hold what was found so far.
    """

    def __init__(self, target: Path, *, like: Path | None = None, streams: bool = False) -> None:
        """Start the files.

        Raises:
            SinkError: they cannot be written.
            UsageError: `like` is no COCO file.
        """
        super().__init__()
        self._ids: _Ids = _Ids() if like is None else _IdsOf(like)
        self._names: tuple[str, ...] = ()
        self._streams = streams
        self._results = _ArrayFile(target, "[")
        images = images_beside(target)
        self._images = _ArrayFile(images, '{"images": [') if images is not None else None
        self._has_seen = self._ended = False

    def write(self, result: FrameResult) -> None:
        frame, detections = result.frame, result.detections
        try:
            self._names, self._has_seen = detections.names, True
            image_id = self._ids.of_picture(frame)
            if self._images is not None:
                self._images.add(self._picture(result, image_id))
            for row in detections.to_coco(image_id):
                row["category_id"] = self._ids.of_class(row["category_id"], detections)
                row["bbox"] = [round(v, 3) for v in row["bbox"]]
                row["score"] = round(row["score"], 6)
                self._results.add(row)
        except BaseException:
            self._discard()
            raise

    def _picture(self, result: FrameResult, image_id: int) -> dict[str, Any]:
        frame = result.frame
        height, width = frame.size
        return {
            "id": image_id,
            "file_name": frame.source_id,
            **({"stream": result.stream} if self._streams else {}),
            "width": width,
            "height": height,
            "frame": frame.index,
            "timestamp_s": round(frame.timestamp_s, 6),
        }

    def close(self) -> None:
        if self._ended:
            return
        if not self._has_seen:  # an older file is worth more
            self._discard()
            return
        self._ended = True
        tail = json.dumps({"annotations": [], "categories": self._ids.categories(self._names)}, ensure_ascii=False)
        try:
            self.outputs.append(self._results.end("]"))
            if self._images is not None:
                self.outputs.append(self._images.end("], " + tail.removeprefix("{")))
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        self._ended = True
        self._results.discard()
        if self._images is not None:
            self._images.discard()


class _ArrayFile:
    """A JSON file with one array that grows item by item, so that memory does not."""

    def __init__(self, target: Path, head: str) -> None:
        self._target = target
        self._place = contextlib.ExitStack()
        temporary = self._place.enter_context(files.atomic_path(target))
        # Names of files that are no valid Unicode carry surrogates, which this handler writes as JSON escapes them.
        self._file = self._place.enter_context(temporary.open("w", encoding="utf-8", errors="backslashreplace"))
        self._file.write(head)
        self._separator = "\n"

    def add(self, item: Mapping[str, Any]) -> None:
        with files.writing(self._target):
            self._file.write(self._separator + json.dumps(item, ensure_ascii=False))
        self._separator = ",\n"

    def end(self, tail: str) -> Path:
        with files.writing(self._target):
            self._file.write("\n" + tail + "\n")
            self._place.close()  # finishes the file, then puts it in its place
        return self._target

    def discard(self) -> None:
        given_up = SinkError("given up")
        with contextlib.suppress(SinkError):
            self._place.__exit__(SinkError, given_up, None)


class _Ids:
    """Ids without an annotations file."""

    def __init__(self) -> None:
        self._next = 1
        self._numbers: set[int] = set()  # pictures that have their own name's number

    def of_picture(self, frame: Frame) -> int:
        """The id of the next picture."""
        stem = PurePath(frame.source_id).stem
        if frame.index == 0 and stem.isdecimal():
            number = int(stem)
            if number >= self._next and number not in self._numbers:
                self._numbers.add(number)
                return number
        while self._next in self._numbers:
            self._next += 1
        self._next += 1
        return self._next - 1

    def of_class(self, class_id: int, detections: Detections) -> int:  # noqa: ARG002 (what the other kind looks at)
        """The category of a class."""
        return class_id

    def categories(self, names: tuple[str, ...]) -> list[dict[str, Any]]:
        """As COCO lists them; `names` are the model's classes."""
        return [{"id": number, "name": name} for number, name in enumerate(names)]


class _IdsOf(_Ids):
    """The ids of an annotations file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
            images = [(PurePath(str(i["file_name"])), int(i["id"])) for i in content["images"]]
            self._categories = {str(c["name"]): int(c["id"]) for c in content["categories"]}
        except OSError as e:
            raise UsageError(f"{path}: cannot read the annotations: {e.strerror or e}") from e
        except (ValueError, KeyError, TypeError) as e:
            raise UsageError(f"{path}: no COCO file", expected="images with id and file_name, and categories") from e
        self._by_path = {name.parts: number for name, number in images}
        often = Counter(name.name for name, _ in images)
        self._by_name = {name.name: number for name, number in images if often[name.name] == 1}

    def of_picture(self, frame: Frame) -> int:
        name = PurePath(frame.source_id)
        tails = (name.parts[i:] for i in range(len(name.parts)))
        found = next((self._by_path[tail] for tail in tails if tail in self._by_path), self._by_name.get(name.name))
        if found is None:
            raise UsageError(f"{name} is none of the pictures that {self._path} names")
        return found

    def of_class(self, class_id: int, detections: Detections) -> int:
        name = detections.name_of(class_id)
        if name not in self._categories:
            raise UsageError(
                f"{self._path} has no category for a class of the model",
                got=name,
                expected=", ".join(list(self._categories)[:10]),
            )
        return self._categories[name]

    def categories(self, names: tuple[str, ...]) -> list[dict[str, Any]]:  # noqa: ARG002
        return [{"id": number, "name": name} for name, number in self._categories.items()]
