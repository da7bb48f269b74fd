"""Boxes on a webcam's pictures, in a window; q ends it."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading

from yolotrt import Detector, YolotrtError
from yolotrt.assets import demo_model
from yolotrt.sinks import WindowSink


def main(camera: str = "0", model: str | None = None) -> None:
    """Show `camera` with the boxes of `model` until its window is closed."""
    closed = threading.Event()
    with Detector(model or demo_model()) as detector:
        window = WindowSink(closed.set)
        try:
            for result in detector.stream(camera):
                window.write(result)
                if closed.is_set():
                    break
        finally:
            window.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("camera", nargs="?", default="0", help="number (0 is the first one), address or video file")
    parser.add_argument("model", nargs="?", help="anything that `yolotrt detect` takes")
    with contextlib.suppress(KeyboardInterrupt):
        try:
            main(**vars(parser.parse_args()))
        except YolotrtError as e:
            sys.exit(f"Error: {e}")
