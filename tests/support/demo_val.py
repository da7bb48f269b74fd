"""The demo validation set, made once and kept between test runs, keyed by its own digest."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from demo import dataset
from yolotrt import assets
from yolotrt.sources import read_image
from yolotrt.types import ImageU8


@dataclass(frozen=True, kw_only=True)
class DemoVal:
    """The validation pictures and their labels.

    Attributes:
        folder: an Ultralytics-style data set.
        annotations: its labels as a COCO file.
        images: picture files by COCO image id.
    """

    folder: Path
    annotations: Path
    images: dict[int, Path]

    def pixels(self, image_id: int) -> ImageU8:
        """A picture, BGR `uint8 [H, W, 3]`."""
        return read_image(self.images[image_id])


def demo_val() -> DemoVal:
    """Make the set, or find it where an earlier test run left it."""
    digests = assets.folder() / "val.sha256"
    key = hashlib.sha256(digests.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("YOLOTRT_TEST_CACHE", Path(tempfile.gettempdir()) / "yolotrt-tests"))
    folder = cache / f"demo-val-{key}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        # Several test processes may come here at once: each makes its own copy, and the first to finish puts it there.
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            made = Path(scratch) / "set"
            assert dataset.write_dataset(made, 0, dataset.VAL_COUNT, 2) == dataset.read_digests(digests)
            try:
                made.rename(folder)
            except OSError:
                assert folder.is_dir()
    annotations = folder / "val.json"
    images = json.loads(annotations.read_text())["images"]
    return DemoVal(
        folder=folder,
        annotations=annotations,
        images={image["id"]: folder / "images" / "val" / image["file_name"] for image in images},
    )
