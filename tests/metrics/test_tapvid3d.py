from typing import Any

import numpy as np
import pytest

from st4rtrack.metrics.tapvid3d import PIXEL_THRESHOLDS, SCALINGS, Scaling, TapVid3DScores, tapvid3d_scores
from tests.seeds import SEED

FOCAL = (256.0, 256.0)


def case(seed: int, frames: int = 7, points: int = 30) -> dict[str, Any]:
    rng = np.random.default_rng(seed + SEED)
    true = rng.uniform((-1, -1, 2), (1, 1, 4), (frames, points, 3))
    visible = rng.random((frames, points)) < 0.7
    visible[0] = True
    return {
        "predicted": true * 2 + rng.normal(0, 0.05, true.shape),
        "predicted_visible": rng.random((frames, points)) < 0.7,
        "true": true,
        "true_visible": visible,
        "true_depth_m": true[..., 2],
    }


def reference_scores(c: dict[str, Any], scaling: str, focal: tuple[float, float]) -> tuple[float, float, float]:
    """Second implementation, one point at a time: AJ, APD and OA in percent as the TAPVid-3D paper and README define them.

    Global median: one scale. Per trajectory: each track is scaled by the ratio of the true and predicted depth in its query frame.
    Local neighbourhood: the points of all tracks that are within 5 cm of a track in the same frame are evaluated with that track's
    scale; each neighbourhood weighs as much as its track has visible points.
    """
    frames, points = c["true_visible"].shape
    every = [(t, n) for t in range(frames) for n in range(points)]
    if scaling == "median":
        both = [(t, n) for t, n in every if c["true_visible"][t, n] and c["predicted_visible"][t, n]]
        norms = [[np.linalg.norm(c[key][t, n]) for t, n in both] for key in ("true", "predicted")]
        evaluated = [(t, n, np.median(norms[0]) / np.median(norms[1]), 1.0) for t, n in every]
    else:
        evaluated = []
        for n in range(points):
            query = int(c["query_frame"][n])
            scale = c["true"][query, n, 2] / c["predicted"][query, n, 2]
            near = [(t, m) for t, m in every if np.linalg.norm(c["true"][t, m] - c["true"][t, n]) < 0.05]
            if scaling == "per_trajectory":
                near = [(t, n) for t in range(frames)]
            weight = sum(c["true_visible"][:, n]) / max(1, sum(c["true_visible"][t, m] for t, m in near))
            evaluated += [(t, m, scale, weight) for t, m in near]
    jaccard, within_share, right, total = [], [], 0.0, 0.0
    for pixels in PIXEL_THRESHOLDS:
        true_positive = false_positive = seen = hit = right = total = 0.0
        for t, n, scale, weight in evaluated:
            error = np.linalg.norm(scale * c["predicted"][t, n] - c["true"][t, n])
            within = error < pixels * c["true_depth_m"][t, n] / np.sqrt(focal[0] * focal[1])
            truly, predicted = c["true_visible"][t, n], c["predicted_visible"][t, n]
            seen += weight * truly
            hit += weight * (truly and within)
            true_positive += weight * (truly and predicted and within)
            false_positive += weight * (predicted and not (truly and within))
            right += weight * (truly == predicted)
            total += weight
        jaccard.append(true_positive / (seen + false_positive))
        within_share.append(hit / seen)
    return 100 * float(np.mean(jaccard)), 100 * float(np.mean(within_share)), 100 * right / total


def scored(c: dict[str, np.ndarray], focal: tuple[float, float] = FOCAL) -> TapVid3DScores:
    return tapvid3d_scores(
        c["predicted"],
        c["predicted_visible"],
        c["true"],
        c["true_visible"],
        c["true_depth_m"],
        focal,
    )


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("seed", range(3))
def test_tapvid3d_scores_agree_with_a_second_implementation(seed: int, scaling: Scaling) -> None:
    c = case(seed, points=20)
    rng = np.random.default_rng(seed + SEED + 100)
    pairs = rng.uniform(-0.02, 0.02, (7, 10, 3))  # so that every neighbourhood has two tracks, in most frames
    c["true"][:, 10:] = c["true"][:, :10] + pairs
    c["true_depth_m"] = c["true"][..., 2]
    c["predicted"] = (2 + 0.01 * rng.normal(size=(20, 1))) * c["true"] + rng.normal(0, 0.02, c["true"].shape)
    query_frame = rng.integers(0, 7, 20)
    found = tapvid3d_scores(**c, focal_px=(200.0, 300.0), scaling=scaling, query_frame=query_frame)
    expected = reference_scores(c | {"query_frame": query_frame}, scaling, (200.0, 300.0))
    assert (found.aj, found.apd, found.oa) == pytest.approx(expected)
    assert 0 < found.aj < found.apd < 100 and found.points == 7 * 20


def test_tapvid3d_scalings_per_track_remove_what_one_scale_cannot() -> None:
    c = case(0, points=10)
    c["true"][:, 5:] = c["true"][:, :5] + (0.01, 0.0, 0.0)  # neighbours
    c["true_depth_m"], scales = c["true"][..., 2], np.repeat([[0.5, 1.0, 2.0, 4.0, 8.0, 0.5, 1.0, 2.0, 4.0, 9.0]], 7, axis=0)
    perfect = c | {"predicted": c["true"] / scales[..., None], "predicted_visible": c["true_visible"]}
    queries = np.zeros(10, np.int64)
    found = {name: tapvid3d_scores(**perfect, focal_px=FOCAL, scaling=name, query_frame=queries) for name in SCALINGS}
    assert found["median"].apd < 60 and found["per_trajectory"].apd == 100
    assert found["local_neighborhood"].apd < 100  # the two of scales 8 and 9 do not fit each other
    assert all(scores.oa == 100 for scores in found.values())


def test_perfect_scaled_and_shuffled() -> None:
    c = case(0)
    scores = scored(c | {"predicted": 0.3 * c["true"], "predicted_visible": c["true_visible"]})
    assert scores.aj == scores.apd == scores.oa == 100 and scores.scale == pytest.approx(1 / 0.3)
    order = np.random.default_rng(SEED).permutation(30)
    assert scored({k: v[:, order] for k, v in c.items()}) == scored(c)


def test_by_hand() -> None:
    true = np.tile([0.0, 0.0, 2.56], (3, 1, 1))  # a pixel is 1 cm there
    predicted = true.copy()
    predicted[2, 0, 0] = 0.03  # 3 pixels: within 4, 8, 16 of 1, 2, 4, 8, 16
    seen = np.ones((3, 1), bool)
    scores = tapvid3d_scores(predicted, seen, true, seen, true[..., 2], FOCAL)
    assert scores.apd == pytest.approx(100 * (2 + 3 / 5) / 3)
    assert scores.aj == pytest.approx(100 * np.mean([2 / 4, 2 / 4, 1, 1, 1]))  # a miss is a false alarm too


def test_a_threshold_itself_is_not_within() -> None:
    true = np.tile([0.0, 0.0, 4.0], (4, 1, 1))  # a pixel is 1 / 64 m there: all numbers are exact
    predicted = true.copy()
    predicted[3, 0, 0] = 2 / 64
    seen = np.ones((4, 1), bool)
    assert tapvid3d_scores(predicted, seen, true, seen, true[..., 2], FOCAL).apd == pytest.approx(100 * (3 + 3 / 5) / 4)


def test_without_a_scale_nothing_is_hit() -> None:
    c = case(0)
    silent = c | {"predicted": c["true"], "predicted_visible": np.zeros_like(c["predicted_visible"])}
    scores = scored(silent)
    assert scores.aj == scores.apd == 0 and np.isnan(scores.scale)
    assert scores.oa == pytest.approx(100 * np.mean(~c["true_visible"]))


def test_points_that_are_not_finite_are_misses() -> None:
    c = case(0)
    nowhere = scored(c | {"predicted": np.full_like(c["true"], np.nan)})
    assert nowhere.aj == nowhere.apd == 0 and nowhere.oa == scored(c).oa
    everywhere = np.ones_like(c["true_visible"])
    perfect = c | {"predicted": c["true"], "predicted_visible": everywhere, "true_visible": everywhere}
    lost, unknown, both = perfect["predicted"].copy(), c["true"].copy(), perfect["predicted"].copy()
    lost[3, 5], unknown[3, 5], both[3, 5] = np.inf, np.nan, np.inf
    share = 100 * (1 - 1 / (7 * 30))
    for holed in ({"predicted": lost}, {"true": unknown}, {"predicted": both, "true": both}):
        assert scored(perfect | holed).apd == pytest.approx(share)


def test_no_visible_truth_is_no_figure() -> None:
    c = case(0)
    scores = scored(c | {"true_visible": np.zeros_like(c["true_visible"])})
    assert np.isnan(scores.aj) and np.isnan(scores.apd)
    assert scores.oa == pytest.approx(100 * np.mean(~c["predicted_visible"]))
