"""Write the demo data set, or check that it can be made again bit for bit.

    python -m demo.dataset --out /tmp/demo                      # 3,000 train and 240 validation pictures
    python -m demo.dataset --check assets/demo/val.sha256       # make the validation set again and compare digests

The layout is the one Ultralytics reads: `images/{train,val}`, `labels/{train,val}`, `data.yaml`; for other tools there
is `val.json` in COCO's format (its `category_id` is the class index + 1). Validation pictures are PNG, so a digest of
the decoded pixels holds for ever; training pictures are JPEG.

A box is the visible extent of an object: what other objects or the picture's edge hide is outside it. Objects of which
less than a quarter shows, and specks under 6 pixels, carry no label.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.camera import expose, pick_camera
from demo.numeric import U8, Dice
from demo.objects import NAMES
from demo.scene import Box, compose, draw

SEED = 20261
TRAIN_COUNT = 3000
VAL_COUNT = 240
SPLITS = {"train": 0, "val": 1, "sample": 2, "video": 3}

_SIZES = (
    (640, 480), (640, 480), (640, 360), (640, 360), (640, 426), (640, 426), (480, 640), (360, 640), (426, 640),
    (640, 640), (512, 640), (640, 400),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Example:
    """One finished picture, RGB bytes [h, w, 3], with its labels."""

    pixels: U8
    boxes: list[Box]


def make_example(split: str, index: int) -> Example:
    """The picture of this split and index; depends on nothing else."""
    key = (SEED, SPLITS[split], index)
    dice = Dice(*key, 0)
    width, height = dice.pick(_SIZES)
    scene = compose(key, width / height)
    picture, boxes = draw(scene, width, height)
    return Example(expose(picture, pick_camera(dice.child(1)), dice.child(2)), boxes)


def label_lines(example: Example) -> list[str]:
    """`class x_centre y_centre width height`, as shares of the picture, one line per box."""
    height, width = example.pixels.shape[:2]
    return [
        f"{b.kind} {(b.x0 + b.x1) / 2 / width:.6f} {(b.y0 + b.y1) / 2 / height:.6f} "
        f"{(b.x1 - b.x0) / width:.6f} {(b.y1 - b.y0) / height:.6f}"
        for b in example.boxes
    ]


def digest(example: Example) -> str:
    """SHA-256 over the picture's shape, its RGB bytes and its label lines."""
    result = hashlib.sha256(repr(example.pixels.shape).encode())
    result.update(example.pixels.tobytes())
    result.update("\n".join(label_lines(example)).encode())
    return result.hexdigest()


def digest_table(digests: Sequence[str]) -> str:
    """The text of `val.sha256`: a digest per picture, and one over all of them in the last line."""
    whole = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return "".join(f"{d}  {i:06d}.png\n" for i, d in enumerate(digests)) + f"{whole}  all\n"


def read_digests(path: Path) -> list[str]:
    """The digests per picture of a `val.sha256`, after checking its last line."""
    text = path.read_text(encoding="ascii")
    digests = [line.split()[0] for line in text.splitlines()[:-1]]
    if digest_table(digests) != text:
        raise ValueError(f"{path}: the last line is not the digest of the lines above it; expected a file written by "
                         "`python -m demo.dataset --digests`")  # fmt: skip
    return digests


def _write_one(task: tuple[str, int, str]) -> tuple[str, dict[str, Any]]:
    """Make one picture, write it with its labels if a folder is given; returns digest and COCO record."""
    import cv2  # here, so that checking digests needs NumPy only

    cv2.setNumThreads(1)
    split, index, folder = task
    example = make_example(split, index)
    height, width = example.pixels.shape[:2]
    suffix = "png" if split == "val" else "jpg"
    name = f"{index:06d}.{suffix}"
    quality = [cv2.IMWRITE_PNG_COMPRESSION, 3] if split == "val" else [cv2.IMWRITE_JPEG_QUALITY, 88 + index % 10]
    target = Path(folder, "images", split, name)
    if not cv2.imwrite(str(target), example.pixels[:, :, ::-1].copy(), quality):
        raise OSError(f"{target}: OpenCV could not write the picture")
    lines = label_lines(example)
    Path(folder, "labels", split, f"{index:06d}.txt").write_text("".join(f"{x}\n" for x in lines), encoding="ascii")
    boxes = [(b.kind + 1, [b.x0, b.y0, b.x1 - b.x0, b.y1 - b.y0]) for b in example.boxes]
    return digest(example), {"id": index + 1, "file_name": name, "width": width, "height": height, "boxes": boxes}


def _digest_one(index: int) -> str:
    return digest(make_example("val", index))


def _coco(records: Iterator[dict[str, Any]]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in records:
        for category, bbox in record.pop("boxes"):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": record["id"], "category_id": category, "bbox": bbox,
                 "area": bbox[2] * bbox[3], "iscrowd": 0}
            )  # fmt: skip
        images.append(record)
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_dataset(folder: Path, train_count: int, val_count: int, workers: int) -> list[str]:
    """Write the data set into `folder`; returns the digests of the validation pictures."""
    tasks = []
    for split, count in (("val", val_count), ("train", train_count)):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True, exist_ok=True)
        tasks += [(split, index, str(folder)) for index in range(count)]
    with ProcessPoolExecutor(workers) as pool:
        results = list(pool.map(_write_one, tasks, chunksize=8))
    coco = _coco(record for _, record in results[:val_count])
    (folder / "val.json").write_text(json.dumps(coco), encoding="ascii")
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(NAMES))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}", encoding="ascii")
    return [value for value, _ in results[:val_count]]


def val_digests(count: int, workers: int) -> list[str]:
    """Digests of the first `count` validation pictures, without writing any."""
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(_digest_one, range(count), chunksize=8))


def check(path: Path, workers: int) -> list[int]:
    """Make the validation set again; returns the indices whose digest differs from the one stored in `path`."""
    stored = read_digests(path)
    made = val_digests(len(stored), workers)
    return [i for i, (old, new) in enumerate(zip(stored, made, strict=True)) if old != new]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo.dataset", description="Write or check the demo data set.")
    parser.add_argument("--out", type=Path, help="folder to write the data set into")
    parser.add_argument("--train", type=int, default=TRAIN_COUNT, help="training pictures (default: %(default)s)")
    parser.add_argument("--val", type=int, default=VAL_COUNT, help="validation pictures (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare with the digests stored in FILE")
    parser.add_argument("--digests", type=Path, metavar="FILE", help="store the validation set's digests in FILE")
    options = parser.parse_args(arguments)
    if not (options.out or options.check or options.digests):
        parser.error("nothing to do: give --out, --check or --digests")
    if options.out:
        write_dataset(options.out, options.train, options.val, options.workers)
        print(f"{options.out}: {options.train} training and {options.val} validation pictures")
    if options.digests:
        options.digests.write_text(digest_table(val_digests(options.val, options.workers)), encoding="ascii")
    if options.check:
        wrong = check(options.check, options.workers)
        if wrong:
            print(f"{options.check}: {len(wrong)} pictures differ: {wrong[:20]}", file=sys.stderr)
            return 1
        print(f"{options.check}: every picture is the same, bit for bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
