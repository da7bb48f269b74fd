"""Pictures in which the precision changed boxes, as JPEGs inside the page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from yolotrt.errors import SourceError
from yolotrt.export.report.markup import Node, node

if TYPE_CHECKING:
    from yolotrt.evaluation.parity import Parity, PicturePairs
    from yolotrt.evaluation.side_by_side import Half
    from yolotrt.types import ImageU8

    Window: TypeAlias = tuple[int, int, int, int]
    Sides: TypeAlias = tuple[ImageU8, Half, Half]

MOST = 8
_WINDOW = 480
"""Pixels that the longer side of what is shown has at least, where the picture has them."""
_MARGIN = 1.3
"""What is shown around the boxes that differ, as a factor of their extent."""
_TRIES = ((800, 82), (640, 78), (560, 70), (480, 60), (400, 50), (320, 45))
"""Longer side in pixels and JPEG quality, from the best: the first that fits is taken."""


def pictures(parity: Parity | None, *, version: str, room: int) -> list[Node]:
    """The section's content.

    Args:
        parity: FP32 against the version in the bundle; None where they were not compared.
        version: its precision.
        room: bytes that the pictures may take in the page.
    """
    if parity is None:
        return [node("p", "The boxes of single pictures were not compared.")]
    changed = [pairs for pairs in parity.worst[:MOST] if pairs.missed or pairs.added]
    if not changed:
        return [node("p", f"None: in {parity.images:,} pictures every box of FP32 is there again, and no other.")]
    read = list(_read(changed))
    encoded = _encode([sides for _, sides in read], room)
    text = (
        f"The {len(encoded)} with the most changes, of {parity.images:,}, around those changes. Thin frames are boxes "
        f"that both have, at an IoU of {parity.options.min_iou:g} or more; thick ones with a name are boxes that moved "
        "further, or that only one has."
    )
    figures = [_figure(pairs, uris, version) for (pairs, _), uris in zip(read, encoded, strict=False)]
    left_out = len(changed) - len(figures)
    note = [node("p", f"{left_out} more could not be shown.", class_="muted")] if left_out else []
    return [*([node("p", text, class_="muted")] if figures else []), *figures, *note]


def _read(changed: Sequence[PicturePairs]) -> Iterator[tuple[PicturePairs, Sides]]:
    """The part of each picture to show, with its boxes as FP32 and as the other version has them."""
    from yolotrt.evaluation.side_by_side import Half
    from yolotrt.sources.images import read_image

    for pairs in changed:
        try:
            image = read_image(pairs.picture)
        except SourceError:
            continue  # it was there a moment ago; what was measured stands without it
        window = _window(pairs, image.shape[1], image.shape[0])
        x1, y1, x2, y2 = window
        reference = Half(title="", boxes=pairs.reference, agreed=pairs.reference_matched)
        candidate = Half(title="", boxes=pairs.candidate, agreed=pairs.candidate_matched)
        part = np.ascontiguousarray(image[y1:y2, x1:x2])
        yield pairs, (part, _inside(reference, window), _inside(candidate, window))


def _window(pairs: PicturePairs, width: int, height: int) -> Window:
    """Around all boxes without a match, in the picture's own proportions: a box of 20 pixels is lost in a whole 4K."""
    boxes = np.concatenate(
        (pairs.reference.xyxy[~pairs.reference_matched], pairs.candidate.xyxy[~pairs.candidate_matched])
    )
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    wide, tall = (float(v) for v in (high - low) * _MARGIN)
    part = min(max(wide / width, tall / height, _WINDOW / max(width, height)), 1.0)
    w, h = max(round(width * part), 1), max(round(height * part), 1)
    x, y = (low + high) / 2
    x1, y1 = (min(max(round(float(c) - s / 2), 0), limit - s) for c, s, limit in ((x, w, width), (y, h, height)))
    return x1, y1, x1 + w, y1 + h


def _inside(half: Half, window: Window) -> Half:
    """Its boxes that are seen in the window, in the window's pixels."""
    x1, y1, x2, y2 = window
    corners = half.boxes.xyxy
    seen = np.flatnonzero((corners[:, :2] < (x2, y2)).all(axis=1) & (corners[:, 2:] > (x1, y1)).all(axis=1))
    shown = half.boxes[seen]
    moved = (shown.xyxy - np.array([x1, y1, x1, y1], np.float32)).astype(np.float32)
    return replace(half, boxes=replace(shown, xyxy=moved, size=(y2 - y1, x2 - x1)), agreed=half.agreed[seen])


def _encode(shown: Sequence[Sides], room: int) -> list[tuple[str, str]]:
    """Both sides of each picture as data URIs, as good as the room allows; of too many the last ones are left out."""
    encoded: list[tuple[str, str]] = []
    for longest, quality in _TRIES:
        encoded = [(_uri(i, left, longest, quality), _uri(i, right, longest, quality)) for i, left, right in shown]
        if _size(encoded) <= room:
            break
    while encoded and _size(encoded) > room:
        encoded.pop()
    return encoded


def _size(encoded: Iterable[tuple[str, str]]) -> int:
    return sum(len(left) + len(right) for left, right in encoded)


def _uri(image: ImageU8, half: Half, longest: int, quality: int) -> str:
    import cv2

    from yolotrt.evaluation.side_by_side import draw_half

    data = cv2.imencode(".jpg", draw_half(image, half, longest=longest), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _figure(pairs: PicturePairs, uris: tuple[str, str], version: str) -> Node:
    left, right = uris
    caption = node("figcaption", node("strong", pairs.picture.name), class_="small")
    return node(
        "figure",
        caption,
        _side(left, "FP32", pairs.missed),
        " ",
        _side(right, version, pairs.added),
    )


def _side(uri: str, name: str, alone: int) -> Node:
    finding = "1 box" if alone == 1 else f"{alone or 'no'} boxes"
    image = node("img", src=uri, alt=f"Boxes of {name}", style="width:100%;height:auto;display:block")
    return node(
        "div",
        node("div", f"{name}: {finding} without a match", class_="small"),
        image,
        class_="side",
        style="display:inline-block;width:49%;vertical-align:top",
    )
