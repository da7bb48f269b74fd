"""Boxes, class names and confidences drawn on a picture."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from yolotrt.detections import Detections
from yolotrt.types import FrameResult, ImageU8

if TYPE_CHECKING:
    from yolotrt.counting.counts import Counts

# Neighbours differ in hue and in lightness, and none is so dark or so grey that it is lost in a photo.
_PALETTE = (
    "#FF3B5C", "#1FB6FF", "#FFB020", "#2BD46A", "#A66BFF", "#FF7A1A", "#12D6C3", "#FF6FD8", "#B7E22B", "#4C7DFF",
    "#F25C9A", "#00C2A8", "#FFD93B", "#7C5CFF", "#5BE37D", "#FF5A36", "#39A0ED", "#E0A3FF", "#D4B200", "#FF9E80",
)  # fmt: skip

_DARK, _LIGHT = (24, 20, 18), (255, 255, 255)


def draw(image: ImageU8, detections: Detections, *, confidence: bool = True, line: int | None = None) -> ImageU8:
    """A copy of `image` with the boxes drawn on it.

    Line width and text grow with the picture. Stronger boxes lie over weaker ones, and every label over every box;
    a label that would leave the picture is moved inside.

    Args:
        image: BGR `uint8 [H, W, 3]`.
        detections: boxes in pixels of that picture.
        confidence: write it behind the name of the class.
        line: width of the frames in pixels; None follows from the picture's size.

    Returns:
        BGR `uint8 [H, W, 3]`, contiguous.
    """
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    line = line or max(round((height + width) / 1000), 1)
    text = min(max(round((height + width) / 130), 10), 48)
    corners = detections.xyxy.round().astype(int).tolist()
    order = range(len(detections) - 1, -1, -1)
    for i in order:
        _box(canvas, corners[i], colour_of(int(detections.class_id[i])), line)
    for i in order:
        class_id = int(detections.class_id[i])
        label = _track(detections, i) + detections.name_of(class_id)
        label += f" {detections.confidence[i]:.2f}" if confidence else ""
        _paste(canvas, _chip(label, colour_of(class_id), text), corners[i], line)
    return canvas


def _track(detections: Detections, i: int) -> str:
    """`#7 ` for box number i of track 7."""
    number = -1 if detections.tracker_id is None else int(detections.tracker_id[i])
    return f"#{number} " if number >= 0 else ""


def draw_result(result: FrameResult) -> ImageU8:
    """A copy of a result's frame with its boxes, and with the lines and zones that are counted at."""
    canvas = draw(result.frame.pixels, result.detections)
    if result.counts is not None:
        _draw_counts(canvas, result.counts)
    return canvas


def _draw_counts(canvas: ImageU8, counts: Counts) -> None:
    height, width = canvas.shape[:2]
    line = max(round((height + width) / 700), 2)
    text = min(max(round((height + width) / 130), 10), 48)
    for number, zone in enumerate(counts.zones):
        colour = colour_of(number + 1)
        corners = np.array(zone.corners).round().astype(np.int32)
        cv2.polylines(canvas, [corners], isClosed=True, color=colour, thickness=line, lineType=cv2.LINE_AA)
        label = f"{zone.name}: {_sum(zone.inside)} inside, {_sum(zone.entered)} in, {_sum(zone.left)} out"
        _paste(canvas, _chip(label, colour, text), corners.min(axis=0).tolist(), line)
    for number, gate in enumerate(counts.lines):
        colour = colour_of(number)
        start, end = (np.array(point).round().astype(int) for point in (gate.start, gate.end))
        cv2.line(canvas, start.tolist(), end.tolist(), colour, line, cv2.LINE_AA)
        # An arrow to the side that is "in": to the left of the way from start to end.
        middle, along = (start + end) / 2, end - start
        head = middle + np.array([along[1], -along[0]]) / max(float(np.hypot(*along)), 1.0) * text * 2
        ends = [point.round().astype(int).tolist() for point in (middle, head)]
        cv2.arrowedLine(canvas, ends[0], ends[1], colour, line, cv2.LINE_AA, tipLength=0.4)
        label = f"{gate.name}: {_sum(gate.entered)} in, {_sum(gate.left)} out"
        _paste(canvas, _chip(label, colour, text), start.tolist(), line)


def _sum(by_class: Mapping[str, int]) -> int:
    return sum(by_class.values())


def outline(image: ImageU8, detections: Detections) -> ImageU8:
    """A copy of `image` with thin frames only, for boxes that are not what the picture is about."""
    canvas = np.ascontiguousarray(image).copy()
    for corners, class_id in zip(detections.xyxy.round().astype(int).tolist(), detections.class_id, strict=True):
        _box(canvas, corners, colour_of(int(class_id)), 1)
    return canvas


def caption(text: str, width: int) -> ImageU8:
    """A strip with one line of text, BGR `uint8 [H, width, 3]`, to stand above a picture."""
    size = 18
    mask = _text_mask(text, size)[:, : max(width - size, 1), None]
    strip = np.full((mask.shape[0] + size // 2, width, 3), _DARK, np.uint8)
    top, left = size // 4, size // 2
    part = strip[top : top + mask.shape[0], left : left + mask.shape[1]]
    part[:] = np.maximum(part, mask)
    return strip


def colour_of(class_id: int) -> tuple[int, int, int]:
    """The colour of a class, BGR, each 0..255."""
    code = _PALETTE[class_id % len(_PALETTE)]
    return int(code[5:7], 16), int(code[3:5], 16), int(code[1:3], 16)


def _box(canvas: ImageU8, corners: list[int], colour: tuple[int, int, int], line: int) -> None:
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = corners
    # Inside by half the line, so that boxes at the border keep all their sides.
    inset = line // 2
    x1, y1 = max(x1, 0) + inset, max(y1, 0) + inset
    x2, y2 = max(min(x2, width - 1) - inset, x1), max(min(y2, height - 1) - inset, y1)
    if line > 1:  # a dark rim keeps the colour apart from a background of the same colour
        cv2.rectangle(canvas, (x1, y1), (x2, y2), _DARK, line + 2, cv2.LINE_4)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, line, cv2.LINE_4)


def _paste(canvas: ImageU8, chip: ImageU8, corners: list[int], line: int) -> None:
    """Lay a label on the box's upper edge: above it, or inside where there is no room."""
    height, width = canvas.shape[:2]
    chip = chip[:height, :width]
    tall, wide = chip.shape[:2]
    x1, y1 = corners[0], corners[1]
    top = y1 - tall + line if y1 - tall + line >= 0 else y1
    top, left = min(max(top, 0), height - tall), min(max(x1, 0), width - wide)
    canvas[top : top + tall, left : left + wide] = chip


@lru_cache(maxsize=1024)
def _chip(label: str, colour: tuple[int, int, int], text: int) -> ImageU8:
    """A label as a small picture; the same ones come again and again in a video."""
    blue, green, red = colour
    ink = _DARK if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else _LIGHT
    pad = max(text // 3, 2)
    mask = _text_mask(label, text)
    tall, wide = mask.shape[0] + 2 * (pad // 2), mask.shape[1] + 2 * pad
    alpha = np.zeros((tall, wide, 1), np.float32)
    alpha[pad // 2 : pad // 2 + mask.shape[0], pad : pad + mask.shape[1], 0] = mask / np.float32(255)
    chip = np.array(colour, np.float32) * (1 - alpha) + np.array(ink, np.float32) * alpha
    result: ImageU8 = chip.round().astype(np.uint8)
    result.flags.writeable = False
    return result


def _text_mask(label: str, size: int) -> npt.NDArray[np.uint8]:
    """Coverage 0..255 of a line of text, `[about 1.2 size, its width]`."""
    tall, baseline = round(size * 1.25), round(size * 0.95)
    wide = size * len(label) + size
    mask = np.zeros((tall, wide, 3), np.uint8)
    font: Any = getattr(cv2, "FontFace", None)
    if font is not None:  # OpenCV 5: an outline font, with letters beyond ASCII
        # A face of its own, as threads must not share one; drawn labels are kept, so this is seldom.
        (end, _), _ = cv2.putText(mask, label, (0, baseline), _LIGHT, font("sans"), size, 600)
        return np.ascontiguousarray(mask[:, : max(int(end), 1), 0])
    return _hershey_mask(label, size)


def _hershey_mask(label: str, size: int) -> npt.NDArray[np.uint8]:
    """As `_text_mask`, with OpenCV 4's stroke font: drawn three times as large and reduced, which smooths it."""
    zoom = 3
    scale, stroke = size * zoom / 30, max(round(size * zoom / 11), 1)
    (wide, _), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale, stroke)
    tall, baseline = round(size * 1.25), round(size * 0.95)
    large = np.zeros((tall * zoom, wide + stroke), np.uint8)
    cv2.putText(large, label, (0, baseline * zoom), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, stroke, cv2.LINE_AA)
    small = cv2.resize(large, (max(large.shape[1] // zoom, 1), tall), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)
