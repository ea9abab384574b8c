"""Frames with depth: sources and augmentation."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from st4rtrack.data.depth_frames import (
    DepthFrame,
    FrameAugmentation,
    RenderedFrames,
    TeacherPictures,
    augment_frame,
    crop_frame,
    frame_record,
    held_out_names,
    write_procedural_frames,
)
from st4rtrack.types import UserError


def ramp(height: int = 60, width: int = 100) -> DepthFrame:
    """Inverse depth that grows to the right, and brightness with it."""
    inverse_depth = np.tile(np.linspace(0.1, 1, width, dtype=np.float32), (height, 1))
    rgb = np.repeat((inverse_depth * 255).astype(np.uint8)[..., None], 3, axis=-1)
    return DepthFrame(rgb, inverse_depth, inverse_depth > 0.5, scaled=True, focal=0.8)


def test_crop_frame_half_of_the_picture_doubles_the_focal_length() -> None:
    frame = ramp(60, 80)
    cropped = crop_frame(frame, (30, 40), share=0.5)
    assert cropped.rgb.shape == (30, 40, 3) and cropped.inverse_depth.shape == (30, 40)
    assert cropped.focal == pytest.approx(1.6)
    np.testing.assert_array_equal(cropped.inverse_depth, frame.inverse_depth[15:45, 20:60])


def test_crop_frame_wide_picture_to_portrait_keeps_focal_in_pixels() -> None:
    cropped = crop_frame(ramp(60, 100), (64, 48))  # all 60 rows and 45 columns
    assert cropped.focal == pytest.approx(0.8 * 100 / 60)


def test_augment_frame_picture_and_depth_stay_aligned() -> None:
    config = FrameAugmentation(colour=0, grey=0, blur=0, noise=0, jpeg=0)
    for seed in range(8):
        frame = augment_frame(ramp(), (48, 64), np.random.default_rng(seed), config)
        np.testing.assert_allclose(frame.rgb[..., 0] / 255, frame.inverse_depth, atol=0.03)
        np.testing.assert_array_equal(frame.subject, frame.inverse_depth > 0.5)


def test_held_out_names_any_order_gives_the_same_stills() -> None:
    names = [f"picture_{k}" for k in range(3000)] + [f"clip_{k}" for k in range(500)]
    chosen = held_out_names(names)
    assert len(chosen) == 128 and chosen == held_out_names(names[::-1])
    assert not any(name.startswith("clip_") for name in chosen)


def test_teacher_pictures_parts_are_disjoint_and_complete(tmp_path: Path) -> None:
    for folder in ("pictures", "depth"):
        (tmp_path / folder).mkdir()
    for k in range(12):
        cv2.imwrite(str(tmp_path / "pictures" / f"p{k}.jpg"), np.full((8, 10, 3), 20 * k, np.uint8))
        np.save(tmp_path / "depth" / f"p{k}.npy", np.full((4, 6), k, np.float16))
    train, validation = (TeacherPictures(tmp_path, held_out=held_out) for held_out in (False, True))
    assert sorted(train.names + validation.names) == sorted(f"p{k}" for k in range(12))
    frame = train.frame(0)
    assert not frame.scaled and np.isnan(frame.focal)
    assert frame.rgb[0, 0, 0] == pytest.approx(20 * float(frame.inverse_depth[0, 0]), abs=3)


def test_rendered_frames_shards_give_records_in_order(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for shard, count in enumerate((2, 3)):
        records = np.zeros(count, frame_record(16, 20))
        records["depth"] = (10 * shard + np.arange(1, count + 1))[:, None, None]
        records["depth"][:, 0, 0] = 0
        records["focal_px"] = 15
        np.save(tmp_path / "train" / f"{shard}.npy", records)
    frames = RenderedFrames(tmp_path)
    assert len(frames) == 5
    inverse = [frames.frame(k).inverse_depth for k in range(5)]
    np.testing.assert_allclose([each[1, 1] for each in inverse], 1 / np.array([1, 2, 11, 12, 13]), rtol=1e-3)
    assert all(each[0, 0] == 0 for each in inverse)
    assert frames.frame(4).focal == pytest.approx(0.75)


def test_rendered_frames_empty_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no rendered frames"):
        RenderedFrames(tmp_path)


def test_write_procedural_frames_twice_writes_each_shard_once(tmp_path: Path) -> None:
    write_procedural_frames(tmp_path, "train", 2, seed=5, compile=False, shard_frames=2, size=(32, 48))
    (path,) = (tmp_path / "train").iterdir()
    written = path.stat().st_mtime_ns
    write_procedural_frames(tmp_path, "train", 2, seed=5, compile=False, shard_frames=2, size=(32, 48))
    assert path.stat().st_mtime_ns == written
    frame = RenderedFrames(tmp_path).frame(1)
    assert frame.scaled and 0.2 < frame.focal < 2 and float(np.nanmax(frame.inverse_depth)) > 0.02
