"""Write the sample pictures and the sample video.

    python -m demo.video --pictures assets/demo            # sample-street.jpg and sample-park.jpg
    python -m demo.video --video assets/demo/sample.mp4    # 10 s of traffic, 30 frames a second

They come from keys that neither training nor validation uses. The film is one scene whose actors move: positions are
smooth functions of time, and nearer actors pass in front of farther ones.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from demo.backdrop import Backdrop
from demo.camera import GOOD_CAMERA, expose
from demo.dataset import SEED, SPLITS
from demo.numeric import U8, Dice, sin_turn
from demo.objects import NAMES
from demo.scene import Actor, Scene, backdrop_of, compose, draw

FRAMES_PER_SECOND = 30
SECONDS = 10
VIDEO_SIZE = (960, 540)
PICTURE_SIZE = (1280, 720)
_PICTURES = {"street": ("crossroad", 8, 10), "park": ("park", 1, 9)}
_SET = ("crossroad", 5)


@dataclass(frozen=True, slots=True)
class Mover:
    """An actor of the film: where it starts (share of the width) and how fast it goes (widths a second).

    `distance` is in metres from the camera; `pace` is the turns of its walking or wheel cycle a second;
    wheels that roll forwards turn clockwise, hence below zero.
    """

    name: str
    key: int
    distance: float
    start: float
    speed: float
    pace: float
    view: str = ""
    height: float = 0.0


_MOVERS = (
    Mover("bus", 901, 11.3, -0.3, 0.24, -0.6, "side"),
    Mover("car", 912, 10.7, 1.2, -0.26, -0.9, "side"),
    Mover("car", 923, 7.6, -0.3, 0.24, -0.9, "side"),
    Mover("truck", 934, 10.9, 2.35, -0.24, -0.6, "side"),
    Mover("car", 945, 8.2, -1.15, 0.21, -0.9, "side"),
    Mover("person", 956, 13.5, 0.15, 0.035, 0.8, "side"),
    Mover("person", 967, 4.6, 1.05, -0.085, 0.9, "side"),
    Mover("dog", 978, 4.4, 1.16, -0.085, 1.3),
    Mover("person", 989, 13.8, 0.8, -0.03, 0.8, "side"),
    Mover("traffic light", 990, 13.0, 0.63, 0.0, 0.0),
    Mover("stop sign", 991, 13.2, 0.33, 0.0, 0.0),
    Mover("bicycle", 992, 4.9, 0.13, 0.0, 0.0),
    Mover("bird", 993, 14.0, -0.1, 0.13, 1.4, "flying", 3.7),
    Mover("bird", 994, 17.0, -0.22, 0.125, 1.6, "flying", 4.2),
)


@cache
def _film() -> tuple[Scene, Backdrop]:
    place, key = _SET
    scene = replace(compose((SEED, SPLITS["video"], key), VIDEO_SIZE[0] / VIDEO_SIZE[1], place), eye=1.7, focal=0.9)
    kept = tuple(actor for actor in scene.actors if actor.kind < 0)
    scene = replace(scene, actors=kept)
    return scene, backdrop_of(scene, *VIDEO_SIZE)


def _cast(mover: Mover, scene: Scene, seconds: float) -> Actor:
    scale = scene.focal * VIDEO_SIZE[0] / VIDEO_SIZE[1] / mover.distance
    bob = 0.006 * sin_turn(mover.pace * seconds) if mover.height else 0.0
    foot = scene.horizon + scale * (scene.eye - mover.height) + bob
    phase = mover.pace * seconds
    if mover.name == "traffic light":
        phase = (0.999, 0.5, 0.01)[min(2, int(seconds / 3.4))]
    return Actor(NAMES.index(mover.name), "", mover.key, mover.start + mover.speed * seconds, foot, scale,
                 mover.speed < 0, mover.view, phase)  # fmt: skip


def film_frame(index: int) -> U8:
    """One frame of the film, RGB bytes."""
    scene, backdrop = _film()
    seconds = index / FRAMES_PER_SECOND
    actors = [*scene.actors, *(_cast(mover, scene, seconds) for mover in _MOVERS)]
    picture, _ = draw(replace(scene, actors=tuple(sorted(actors, key=lambda a: a.foot))), *VIDEO_SIZE, backdrop)
    return expose(picture, GOOD_CAMERA, Dice(SEED, SPLITS["video"], 5000 + index))


def write_video(path: Path, workers: int) -> None:
    """H.264 in yuv420p, which every player and hardware decoder reads."""
    import av

    with ProcessPoolExecutor(workers) as pool, av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width, stream.height = VIDEO_SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "23", "preset": "slow", "g": "60"}
        for pixels in pool.map(film_frame, range(SECONDS * FRAMES_PER_SECOND), chunksize=4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def write_pictures(folder: Path) -> None:
    """The sample pictures, as JPEG."""
    import cv2

    width, height = PICTURE_SIZE
    for name, (place, key, count) in _PICTURES.items():
        scene = compose((SEED, SPLITS["sample"], key), width / height, place, count)
        picture, _ = draw(scene, width, height)
        pixels = expose(picture, GOOD_CAMERA, Dice(SEED, SPLITS["sample"], key, 9))
        target = folder / f"sample-{name}.jpg"
        if not cv2.imwrite(str(target), pixels[:, :, ::-1].copy(), [cv2.IMWRITE_JPEG_QUALITY, 92]):
            raise OSError(f"{target}: OpenCV could not write the picture")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo.video", description="Write the sample pictures and video.")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write the sample pictures into FOLDER")
    parser.add_argument("--video", type=Path, metavar="FILE", help="write the sample video")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    options = parser.parse_args(arguments)
    if not (options.pictures or options.video):
        parser.error("nothing to do: give --pictures or --video")
    if options.pictures:
        write_pictures(options.pictures)
    if options.video:
        write_video(options.video, options.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
