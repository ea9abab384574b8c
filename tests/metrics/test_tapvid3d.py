import numpy as np
import pytest

from st4rtrack.metrics.tapvid3d import PIXEL_THRESHOLDS, tapvid3d_scores

FOCAL = (256.0, 256.0)


def case(seed: int, frames: int = 7, points: int = 30) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
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
        for t in range(1, frames):
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
    right = np.mean(c["true_visible"][1:] == c["predicted_visible"][1:])
    return 100 * float(np.mean(jaccard)), 100 * float(np.mean(within_share)), 100 * float(right)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_definition(seed: int) -> None:
    c = case(seed)
    scores = tapvid3d_scores(**c, focal_px=(200.0, 300.0))
    assert (scores.aj, scores.apd, scores.oa) == pytest.approx(twin(c, (200.0, 300.0)))
    assert scores.points == 6 * 30


def test_perfect_scaled_and_shuffled() -> None:
    c = case(0)
    perfect = c | {"predicted_world": 0.3 * c["true_world"], "predicted_visible": c["true_visible"]}
    scores = tapvid3d_scores(**perfect, focal_px=FOCAL)
    assert scores.aj == scores.apd == scores.oa == 100 and scores.scale == pytest.approx(1 / 0.3)
    order = np.random.default_rng(0).permutation(30)
    assert tapvid3d_scores(**{k: v[:, order] for k, v in c.items()}, focal_px=FOCAL) == tapvid3d_scores(**c, focal_px=FOCAL)


def test_by_hand() -> None:
    true = np.tile([0.0, 0.0, 2.56], (3, 1, 1))  # a pixel is 1 cm there
    predicted = true.copy()
    predicted[2, 0, 0] = 0.03  # 3 pixels: within 4, 8, 16 of 1, 2, 4, 8, 16
    seen = np.ones((3, 1), bool)
    scores = tapvid3d_scores(predicted, seen, true, seen, true[..., 2], FOCAL)
    assert scores.apd == pytest.approx(100 * (1 + 3 / 5) / 2)
    assert scores.aj == pytest.approx(100 * np.mean([1 / 3, 1 / 3, 1, 1, 1]))  # a miss is a false alarm too


def test_nothing_to_count() -> None:
    c = case(0)
    hidden = c | {"predicted_visible": np.zeros_like(c["predicted_visible"])}
    scores = tapvid3d_scores(**hidden, focal_px=FOCAL)
    assert scores.aj == 0 and scores.scale == 1
    nowhere = c | {"predicted_world": np.full_like(c["true_world"], np.nan)}
    scores = tapvid3d_scores(**nowhere, focal_px=FOCAL)
    assert scores.aj == scores.apd == 0 and 0 < scores.oa < 100
    unseen = c | {"true_visible": np.zeros_like(c["true_visible"])}
    assert np.isnan(tapvid3d_scores(**unseen, focal_px=FOCAL).apd)
