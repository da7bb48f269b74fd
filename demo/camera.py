"""What a camera does to a picture: lens, exposure, sensor and compression.

Consumes the float picture of `scene.draw`, produces bytes. The model must not learn the clean edges of drawn polygons,
so every picture goes through here, each with its own strengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demo.ground import scaled
from demo.numeric import F32, U8, Dice, box_blur, upsample


@dataclass(frozen=True, slots=True)
class Camera:
    """Strengths of each effect: `defocus` mixes in a 3 or 5 pixel blur, `motion` is half a streak in pixels."""

    defocus: float
    motion: int
    vignette: float
    exposure: float
    contrast: float
    cast: tuple[float, float, float]
    noise: float
    color_noise: float
    compression: int


def pick_camera(dice: Dice) -> Camera:
    """A camera and its settings by chance; most are good, some are poor."""
    poor = dice.chance(0.25)
    cast = (dice.between(0.92, 1.08), 1.0, dice.between(0.9, 1.1))
    return Camera(
        defocus=dice.between(0.0, 1.0) if poor else dice.between(0.0, 0.5),
        motion=dice.integer(1, 4) if dice.chance(0.12) else 0,
        vignette=dice.between(0.0, 0.45),
        exposure=dice.between(0.65, 1.4) if poor else dice.between(0.8, 1.2),
        contrast=dice.between(0.75, 1.25),
        cast=cast,
        noise=dice.between(3.0, 14.0) if poor else dice.between(0.6, 4.0),
        color_noise=dice.between(1.0, 6.0) if poor else dice.between(0.0, 1.5),
        compression=dice.integer(6, 26) if dice.chance(0.3) else 0,
    )


GOOD_CAMERA = Camera(0.25, 0, 0.22, 1.02, 1.06, (1.01, 1.0, 0.99), 1.3, 0.5, 0)
"""For the sample pictures and the video."""


def _lens(picture: F32, camera: Camera) -> F32:
    if camera.motion:
        picture = box_blur(picture, 0, camera.motion)
    if camera.defocus > 0.08:
        radius = 2 if camera.defocus > 0.7 else 1
        soft = box_blur(picture, radius, radius)
        picture = picture + (soft - picture) * np.float32(camera.defocus)
    height, width = picture.shape[:2]
    y = (np.arange(height, dtype=np.float32)[:, None] - np.float32(height / 2)) * np.float32(2 / max(height, width))
    x = (np.arange(width, dtype=np.float32)[None, :] - np.float32(width / 2)) * np.float32(2 / max(height, width))
    return scaled(picture, 1 - np.float32(camera.vignette * 0.55) * (x * x + y * y))


def _tone_table(gain: float, contrast: float) -> F32:
    """Exposure and an S-curve for quarter levels, worked out with exact arithmetic and rounded."""
    table = []
    for i in range(1025):
        v = i / 1024 * gain
        v = v if v < 0.8 else 0.8 + 0.2 * (v - 0.8) / (v - 0.8 + 0.2)
        curve = v * v * (3 - 2 * v)
        table.append(round((v + (curve - v) * (contrast - 0.75)) * 255 * 16) / 16)
    return np.asarray(table, np.float32)


def _sensor(picture: F32, camera: Camera, dice: Dice) -> F32:
    levels = np.minimum(np.maximum(picture * np.float32(1024 / 255), 0), 1024).astype(np.int16)
    out = np.empty_like(picture)
    height, width = picture.shape[:2]
    grain = dice.child(1).bell(height, width) * np.float32(camera.noise)
    for channel in range(3):
        table = _tone_table(camera.exposure * camera.cast[channel], camera.contrast)
        out[:, :, channel] = table[levels[:, :, channel]] + grain
        if camera.color_noise > 0.4:
            coarse = dice.child(2, channel).bell(height // 3 + 2, width // 3 + 2)
            out[:, :, channel] += upsample(coarse, height, width) * np.float32(camera.color_noise)
    return out


def _hadamard(blocks: NDArray[np.int32], axis: int) -> NDArray[np.int32]:
    """An 8-point Walsh-Hadamard transform along one axis: sums and differences only, its own inverse up to 8."""
    parts = [np.take(blocks, i, axis=axis) for i in range(8)]
    for half in (4, 2, 1):
        for i in range(8):
            if not i & half:
                parts[i], parts[i + half] = parts[i] + parts[i + half], parts[i] - parts[i + half]
    return np.stack(parts, axis=axis)


def _compress(picture: F32, strength: int) -> F32:
    """Block artefacts like JPEG's: 8 x 8 blocks whose fine detail is quantised, with integers only."""
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge").astype(np.int32)
    blocks = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8, 3)
    spectrum = _hadamard(_hadamard(blocks, 1), 3)
    # Sequency (sign changes) of each Hadamard row plays the part of frequency.
    order = np.array([0, 7, 3, 4, 1, 6, 2, 5], np.int32)
    step = (order[:, None] + order[None, :]) * (strength * 2) + 8
    step = step[None, :, None, :, None]
    kept = np.floor_divide(spectrum + step // 2, step) * step
    restored = _hadamard(_hadamard(kept, 1), 3).reshape(padded.shape)[:height, :width]
    return restored.astype(np.float32) * np.float32(1 / 64)


def expose(picture: F32, camera: Camera, dice: Dice) -> U8:
    """Take the photograph: [h, w, 3] RGB bytes."""
    result = _sensor(_lens(picture, camera), camera, dice)
    if camera.compression:
        result = _compress(np.minimum(np.maximum(result, 0), 255), camera.compression)
    clipped: U8 = np.minimum(np.maximum(result + np.float32(0.5), 0), 255).astype(np.uint8)
    return clipped
