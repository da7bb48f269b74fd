"""The demo data set: the same bits everywhere, and labels that keep their promises."""

from __future__ import annotations

import json
import os
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from demo.dataset import (
    VAL_COUNT,
    Example,
    check,
    digest,
    digest_table,
    label_lines,
    main,
    make_example,
    read_digests,
    write_dataset,
)
from demo.numeric import Dice, box_blur, cos_turn, fractal, sin_turn
from demo.objects import KINDS, NAMES, Kind
from demo.scene import MIN_SIDE_PX, MIN_VISIBLE, Actor, Scene, draw
from demo.shapes import coverage, ellipse, rect, ring

DIGESTS = Path(__file__).parents[2] / "assets" / "demo" / "val.sha256"
SAMPLE = (0, 7, 31, 64, 101, 150, 199, VAL_COUNT - 1)


@cache
def sample() -> tuple[Example, ...]:
    return tuple(make_example("val", index) for index in SAMPLE)


@pytest.mark.parametrize("position", range(len(SAMPLE)))
def test_a_picture_made_again_equals_its_stored_digest(position: int) -> None:
    assert digest(sample()[position]) == read_digests(DIGESTS)[SAMPLE[position]]


@pytest.mark.slow
def test_every_validation_picture_equals_its_stored_digest() -> None:
    assert check(DIGESTS, os.cpu_count() or 1) == []


def test_the_digest_file_covers_the_whole_set_and_notices_a_change(tmp_path: Path) -> None:
    digests = read_digests(DIGESTS)
    assert len(digests) == VAL_COUNT
    assert len(set(digests)) == VAL_COUNT
    changed = tmp_path / "val.sha256"
    changed.write_text(digest_table(digests).replace(digests[3], "0" * 64), encoding="ascii")
    with pytest.raises(ValueError, match="not the digest of the lines above"):
        read_digests(changed)


def test_splits_and_indices_give_different_pictures() -> None:
    made = [make_example(split, index) for split, index in (("train", 0), ("val", 0), ("val", 1), ("sample", 0))]
    assert len({digest(example) for example in made}) == len(made)


def test_boxes_lie_within_the_picture_and_are_not_specks() -> None:
    for example in sample():
        height, width = example.pixels.shape[:2]
        assert max(height, width) == 640
        for box in example.boxes:
            assert 0 <= box.kind < len(KINDS)
            assert 0 <= box.x0 < box.x1 <= width
            assert 0 <= box.y0 < box.y1 <= height
            assert min(box.x1 - box.x0, box.y1 - box.y0) >= MIN_SIDE_PX
        for line in label_lines(example):
            assert all(0 <= float(value) <= 1 for value in line.split()[1:])


@pytest.mark.slow
def test_every_class_occurs_and_sizes_spread_from_16_pixels_to_half_the_picture() -> None:
    examples = [make_example("val", index) for index in range(0, VAL_COUNT, 3)]
    boxes = [(box, example.pixels.shape) for example in examples for box in example.boxes]
    counts = Counter(NAMES[box.kind] for box, _ in boxes)
    assert len(NAMES) >= 8
    assert set(counts) == set(NAMES)
    assert min(counts.values()) >= 10
    longest = [max(box.x1 - box.x0, box.y1 - box.y0) for box, _ in boxes]
    assert sum(side <= 24 for side in longest) >= 5
    assert sum(side >= 300 for side in longest) >= 5
    assert len({example.pixels.shape for example in examples}) >= 6


def _scene_of(*actors: Actor) -> Scene:
    return Scene((1, 2, 3), "park", 0.4, 1.5, 0.9, actors)


def _actor(name: str, key: int, x: float, foot: float, scale: float) -> Actor:
    return Actor(NAMES.index(name), "", key, x, foot, scale, flip=False, view="side")


def test_a_hidden_object_has_no_label() -> None:
    dog = _actor("dog", 1, 0.5, 0.8, 0.1)
    bus = _actor("bus", 2, 0.5, 0.95, 0.15)
    assert [NAMES[box.kind] for box in draw(_scene_of(dog), 320, 240)[1]] == ["dog"]
    assert [NAMES[box.kind] for box in draw(_scene_of(dog, bus), 320, 240)[1]] == ["bus"]


def test_an_object_that_shows_less_than_a_quarter_has_no_label() -> None:
    kinds = {
        share: len(draw(_scene_of(_actor("bus", 2, share, 0.9, 0.1)), 320, 240)[1]) for share in (0.0, -0.3, -0.6, 1.6)
    }
    assert 0 < MIN_VISIBLE < 0.5
    assert kinds[0.0] == 1
    assert kinds[-0.6] == kinds[1.6] == 0


def test_an_occluded_box_ends_where_the_object_ceases_to_show() -> None:
    car = _actor("car", 1, 0.45, 0.8, 0.12)
    whole = draw(_scene_of(car), 320, 240)[1][0]
    covered = next(b for b in draw(_scene_of(car, _actor("bus", 2, 0.9, 0.95, 0.1)), 320, 240)[1] if b.kind == car.kind)
    assert (covered.x0, covered.y0, covered.y1) == (whole.x0, whole.y0, whole.y1)
    assert covered.x1 < whole.x1


def test_a_pole_is_no_part_of_the_traffic_light() -> None:
    box = draw(_scene_of(_actor("traffic light", 1, 0.5, 0.95, 0.2)), 320, 240)[1][0]
    assert box.y1 < 0.75 * 240
    assert 2 < (box.y1 - box.y0) / (box.x1 - box.x0) < 3.5


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_recipe_draws_something_that_stands_on_the_ground_or_flies(kind: Kind) -> None:
    for key in range(12):
        sketch = kind.draw(Dice(5, key), 0.3, "")
        x_low, y_low, x_high, y_high = sketch.extent(body_only=True)
        assert x_high > x_low
        assert y_high > y_low
        assert sketch.flying or abs(sketch.extent()[1]) < 0.06


def test_a_written_data_set_agrees_with_its_digests_and_its_coco_file(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    digests = write_dataset(tmp_path, 2, 3, 1)
    assert digests == read_digests(DIGESTS)[:3]
    example = make_example("val", 2)
    stored = cv2.imread(str(tmp_path / "images/val/000002.png"))[:, :, ::-1]
    np.testing.assert_array_equal(stored, example.pixels)
    assert (tmp_path / "labels/val/000002.txt").read_text().splitlines() == label_lines(example)
    coco = json.loads((tmp_path / "val.json").read_text())
    assert [c["name"] for c in coco["categories"]] == list(NAMES)
    boxes = [a for a in coco["annotations"] if a["image_id"] == 3]
    assert [a["category_id"] - 1 for a in boxes] == [b.kind for b in example.boxes]
    assert len(list((tmp_path / "images/train").iterdir())) == 2
    assert f"  {len(NAMES) - 1}: {NAMES[-1]}" in (tmp_path / "data.yaml").read_text()


def test_the_command_line_reports_a_changed_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = tmp_path / "val.sha256"
    assert main(["--digests", str(stored), "--val", "2", "--workers", "1"]) == 0
    assert main(["--check", str(stored), "--workers", "1"]) == 0
    stored.write_text(digest_table([read_digests(stored)[0], "0" * 64]), encoding="ascii")
    assert main(["--check", str(stored), "--workers", "1"]) == 1
    assert "1 pictures differ: [1]" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([])


def test_coverage_measures_area_exactly() -> None:
    covered = coverage(np.asarray(rect(2.25, 3.5, 6.75, 8.0), np.float64), 20, 20)
    assert covered is not None
    top, left, mask = covered
    assert (top, left) == (3, 2)
    assert float(mask.sum()) == 4.5 * 4.5
    disc, hollow = (
        coverage(np.asarray(p, np.float64), 40, 40) for p in (ellipse(20, 20, 15, 15, 64), ring(20, 20, 15, 9, 64))
    )
    assert disc is not None
    assert hollow is not None
    assert abs(float(disc[2].sum()) - 706.9) < 3
    assert abs(float(hollow[2].sum()) - 452.4) < 3
    assert coverage(np.asarray(rect(-9, -9, -2, -2), np.float64), 20, 20) is None


def test_numeric_tools() -> None:
    assert (sin_turn(0.25), cos_turn(0.5), sin_turn(1.0)) == (1.0, -1.0, 0.0)
    dice = Dice(1, 2)
    assert [dice.integer(0, 9) for _ in range(6)] == [Dice(1, 2).integer(0, 9), *_replay(5)]
    bell = Dice(3).bell(200, 200)
    assert abs(float(bell.mean())) < 0.02
    assert abs(float(bell.std()) - 1) < 0.02
    field = fractal(Dice(4), 50, 60, 5)
    assert 0 <= float(field.min()) < float(field.max()) <= 1
    flat = np.full((9, 12), 80.25, np.float32)
    np.testing.assert_array_equal(box_blur(flat, 2, 3), flat)


def _replay(count: int) -> list[int]:
    dice = Dice(1, 2)
    dice.unit()
    return [dice.integer(0, 9) for _ in range(count)]
