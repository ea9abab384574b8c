"""Focal length from a pointmap (paper section 3.3; the solver is DUSt3R's).

Symbols: p pixel relative to the principal point, r = (x/z, y/z) the ray of its point, f focal length in pixels: p ~ f r.
"""

import numpy as np

from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.vectors import dot, length


def weiszfeld_focal(
    points_camera: np.ndarray, *, pixels_px: np.ndarray | None = None, weights: np.ndarray | None = None, iterations: int = 10
) -> float:
    """Focal length that minimises the sum of distances |p - f r|, by Weiszfeld's iteration.

    Args:
        points_camera: [height, width, 3], in the frame of the camera that took the image.
        pixels_px: [height, width, 2] pixels relative to the principal point; default: pixel centres about the image centre.
        weights: [height, width] non-negative, for example a mask of reliable pixels; default 1.
        iterations: of re-weighting, after the least-squares start.
    Returns:
        Focal length in pixels of the map; positive for points in front of the camera.
    Raises:
        ValueError: no pixel has a finite ray and positive weight.
    Source:
        Weiszfeld 1937, as DUSt3R uses it: f = mean(w p.r) / mean(w r.r), w = 1 / max(|p - f r|, 1e-8).
    """
    height, width = points_camera.shape[:2]
    if pixels_px is None:
        pixels_px = pixel_grid(height, width) - (width / 2, height / 2)
    points = np.asarray(points_camera, dtype=np.float64).reshape(-1, 3)
    pixels = np.asarray(pixels_px, dtype=np.float64).reshape(-1, 2)
    trust = np.ones(len(points)) if weights is None else np.asarray(weights, dtype=np.float64).reshape(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rays = points[:, :2] / points[:, 2:]
    rays = np.where(np.isfinite(rays), rays, 0.0)
    along, square = dot(pixels, rays), dot(rays, rays)
    if not (trust * square).sum() > 0:
        raise ValueError("focal length: no pixel has a finite ray away from the principal point and a positive weight")
    focal = (trust * along).sum() / (trust * square).sum()
    for _ in range(iterations):
        distance = length(pixels - focal * rays)
        weight = trust / np.maximum(distance, 1e-8)
        focal = (weight * along).sum() / (weight * square).sum()
    return float(focal)
