import numpy as np
import pytest

from st4rtrack.metrics.tapvid3d import PIXEL_THRESHOLDS, TapVid3DScores, tapvid3d_scores
from tests.seeds import SEED

FOCAL = (256.0, 256.0)


def case(seed: int, frames: int = 7, points: int = 30) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed + SEED)
    true = rng.uniform((-1, -1, 2), (1, 1, 4), (frames, points, 3))
    visible = rng.random((frames, points)) < 0.7
    visible[0] = True
    return {
        "predicted_world": true * 2 + rng.normal(0, 0.05, true.shape),
        "predicted_visible": rng.random((frames, points)) < 0.7,
        "true_world": true,
        "true_visible": visible,
        "true_depth_m": true[..., 2],
    }


def twin(c: dict[str, np.ndarray], focal: tuple[float, float]) -> tuple[float, float, float]:
    """The definition, one entry at a time."""
    frames, points = c["true_visible"].shape
    both = [(t, n) for t in range(frames) for n in range(points) if c["true_visible"][t, n] and c["predicted_visible"][t, n]]
    norms = [[np.linalg.norm(c[key][t, n]) for t, n in both] for key in ("true_world", "predicted_world")]
    scale = np.median(norms[0]) / np.median(norms[1])
    jaccard, within_share, right = [], [], 0
    for pixels in PIXEL_THRESHOLDS:
        tp = fp = seen = hit = 0
        for t in range(frames):
            for n in range(points):
                error = np.linalg.norm(scale * c["predicted_world"][t, n] - c["true_world"][t, n])
                within = error < pixels * c["true_depth_m"][t, n] / np.sqrt(focal[0] * focal[1])
                truly, said = c["true_visible"][t, n], c["predicted_visible"][t, n]
                seen += truly
                hit += truly and within
                tp += truly and said and within
                fp += said and not (truly and within)
        jaccard.append(tp / (seen + fp))
        within_share.append(hit / seen)
    right = np.mean(c["true_visible"] == c["predicted_visible"])
    return 100 * float(np.mean(jaccard)), 100 * float(np.mean(within_share)), 100 * float(right)


def scored(c: dict[str, np.ndarray], focal: tuple[float, float] = FOCAL) -> TapVid3DScores:
    return tapvid3d_scores(
        c["predicted_world"],
        c["predicted_visible"],
        c["true_world"],
        c["true_visible"],
        c["true_depth_m"],
        focal,
    )


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_definition(seed: int) -> None:
    c = case(seed)
    scores = scored(c, (200.0, 300.0))
    assert (scores.aj, scores.apd, scores.oa) == pytest.approx(twin(c, (200.0, 300.0)))
    assert 0 < scores.aj < scores.apd < 100 and scores.points == 7 * 30


def test_perfect_scaled_and_shuffled() -> None:
    c = case(0)
    scores = scored(c | {"predicted_world": 0.3 * c["true_world"], "predicted_visible": c["true_visible"]})
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
    silent = c | {"predicted_world": c["true_world"], "predicted_visible": np.zeros_like(c["predicted_visible"])}
    scores = scored(silent)
    assert scores.aj == scores.apd == 0 and np.isnan(scores.scale)
    assert scores.oa == pytest.approx(100 * np.mean(~c["true_visible"]))


def test_points_that_are_not_finite_are_misses() -> None:
    c = case(0)
    nowhere = scored(c | {"predicted_world": np.full_like(c["true_world"], np.nan)})
    assert nowhere.aj == nowhere.apd == 0 and nowhere.oa == scored(c).oa
    everywhere = np.ones_like(c["true_visible"])
    perfect = c | {"predicted_world": c["true_world"], "predicted_visible": everywhere, "true_visible": everywhere}
    lost, unknown, both = perfect["predicted_world"].copy(), c["true_world"].copy(), perfect["predicted_world"].copy()
    lost[3, 5], unknown[3, 5], both[3, 5] = np.inf, np.nan, np.inf
    share = 100 * (1 - 1 / (7 * 30))
    for holed in ({"predicted_world": lost}, {"true_world": unknown}, {"predicted_world": both, "true_world": both}):
        assert scored(perfect | holed).apd == pytest.approx(share)


def test_no_visible_truth_is_no_figure() -> None:
    c = case(0)
    scores = scored(c | {"true_visible": np.zeros_like(c["true_visible"])})
    assert np.isnan(scores.aj) and np.isnan(scores.apd)
    assert scores.oa == pytest.approx(100 * np.mean(~c["predicted_visible"]))
