"""Lens distortion: pixels of a distorted image and of the ideal pinhole image of the same camera.

The ideal image has the size of the distorted one, square pixels, the principal point in its centre and no unknown pixels.
"""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

LensModel = Literal["opencv", "fisheye"]
"""OpenCV's models: `opencv` has the coefficients k1, k2, p1, p2, k3 ... k6, `fisheye` (equidistant) k1 ... k4."""

MIN_IDEAL_FOCAL = 0.42
"""Minimum focal length of the ideal image in long sides (100 degrees): wider images are cropped."""
MAX_INVERSION_ERROR_PX = 0.1
MAX_OFF_CENTRE = 0.1
"""Maximum distance of the principal point from the image centre, in long sides, for an ideal image that is centred on it."""
EDGE_SAMPLES = 33
NEWTON_STEPS, STEP, CONVERGED_PX = 10, 1e-6, 1e-7


@dataclass(frozen=True)
class Lens:
    """Distortion model of a camera, and the ideal camera of the same centre and axis.

    Attributes:
        model: distortion model.
        coefficients: its coefficients.
        camera: fx, fy, cx, cy of the distorted image in pixels.
        ideal: fx, fy, cx, cy of the ideal image in pixels.
    """

    model: LensModel
    coefficients: tuple[float, ...]
    camera: tuple[float, float, float, float]
    ideal: tuple[float, float, float, float]

    @classmethod
    def of(cls, model: LensModel, coefficients: tuple[float, ...], intrinsics: np.ndarray, size: tuple[int, int]) -> "Lens":
        """Lens of images of size (height, width) with intrinsics [3, 3]; the ideal image shows as much as possible.

        Raises:
            ValueError: the distortion cannot be inverted in the image.
        """
        height, width = size
        fx, fy, cx, cy = (float(value) for value in intrinsics[(0, 1, 0, 1), (0, 1, 2, 2)])
        lens = cls(model, coefficients, (fx, fy, cx, cy), (1.0, 1.0, 0.0, 0.0))
        across, down = np.linspace(0, width, EDGE_SAMPLES), np.linspace(0, height, EDGE_SAMPLES)
        edges = [
            np.stack(np.broadcast_arrays(u, v), axis=-1).astype(np.float64)
            for u, v in ((0.0, down), (width, down), (across, 0.0), (across, height))
        ]
        reach = [_reach(lens, edge, axis, sign) for edge, axis, sign in zip(edges, (0, 0, 1, 1), (-1, 1, -1, 1), strict=True)]
        offset = np.hypot(cx - width / 2, cy - height / 2) / max(size)
        centre = (width / 2, height / 2) if offset <= MAX_OFF_CENTRE else (cx, cy)
        sides = (centre[0], width - centre[0], centre[1], height - centre[1])
        focal = max(*(side / far for side, far in zip(sides, reach, strict=True)), MIN_IDEAL_FOCAL * max(size))
        return replace(lens, ideal=(focal, focal, *centre))

    @property
    def opencv_coefficients(self) -> np.ndarray:
        """Coefficients in a number that OpenCV accepts: 4, 5 or 8."""
        count = next(each for each in (4, 5, 8) if each >= len(self.coefficients))
        return np.array(self.padded(count))

    @property
    def ideal_intrinsics(self) -> np.ndarray:
        """Intrinsics [3, 3] of the ideal image."""
        return _matrix(self.ideal)

    @property
    def camera_intrinsics(self) -> np.ndarray:
        """Intrinsics [3, 3] of the distorted image."""
        return _matrix(self.camera)

    def padded(self, count: int) -> tuple[float, ...]:
        """The first `count` coefficients; missing ones are 0."""
        return (*self.coefficients, *(0.0,) * count)[:count]

    def ideal_from_source(self, source_px: np.ndarray) -> np.ndarray:
        """Undistort pixels [..., 2]: from the distorted to the ideal image."""
        pixels = np.asarray(source_px, np.float64).reshape(-1, 2)
        if not len(pixels):
            return pixels.reshape(np.shape(source_px))
        invert = cv2.fisheye.undistortPoints if self.model == "fisheye" else cv2.undistortPoints
        rays = np.asarray(invert(pixels[:, None], self.camera_intrinsics, self.opencv_coefficients), np.float64)[:, 0]
        for _ in range(NEWTON_STEPS):  # OpenCV's own iterations are few
            error = self._distorted(rays) - pixels
            if not (np.abs(error) > CONVERGED_PX).any():
                break
            columns = [(self._distorted(rays + step) - self._distorted(rays - step)) / (2 * STEP) for step in np.eye(2) * STEP]
            (a, b), (c, d) = (column.T for column in columns)  # derivatives of u and v by x and by y
            determinant = a * d - b * c
            determinant = np.where(np.abs(determinant) > 1e-9, determinant, np.inf)
            rays = (
                rays - np.stack([d * error[:, 0] - c * error[:, 1], a * error[:, 1] - b * error[:, 0]], 1) / determinant[:, None]
            )
        (fx, fy, cx, cy), rays = self.ideal, rays.reshape(np.shape(source_px))
        return rays * (fx, fy) + (cx, cy)

    def source_from_ideal(self, ideal_px: np.ndarray) -> np.ndarray:
        """Distort pixels [..., 2]: from the ideal to the distorted image."""
        fx, fy, cx, cy = self.ideal
        rays = (np.asarray(ideal_px, np.float64) - (cx, cy)) / (fx, fy)
        return self._distorted(rays.reshape(-1, 2)).reshape(rays.shape)

    def _distorted(self, rays: np.ndarray) -> np.ndarray:
        """Pixels [points, 2] of the distorted image of rays [points, 2] (x / z, y / z)."""
        if not len(rays):
            return rays
        camera, coefficients = self.camera_intrinsics, self.opencv_coefficients
        if self.model == "fisheye":
            return cv2.fisheye.distortPoints(rays[:, None], camera, coefficients)[:, 0]
        points = np.concatenate([rays, np.ones_like(rays[:, :1])], axis=1)
        return cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera, coefficients)[0][:, 0]

    def resized(self, scale: tuple[float, float], offset_px: tuple[float, float]) -> "Lens":
        """Lens of the distorted image after a resize or crop; `scale * pixel + offset_px` maps its new pixels to the old ones."""
        (fx, fy, cx, cy), (su, sv), (u, v) = self.camera, scale, offset_px
        return replace(self, camera=(fx / su, fy / sv, (cx - u) / su, (cy - v) / sv))


def _reach(lens: Lens, edge_px: np.ndarray, axis: int, sign: int) -> float:
    """Largest extent of an ideal image towards an edge of the distorted image [points, 2], as the tangent of the angle."""
    rays = lens.ideal_from_source(edge_px)
    with np.errstate(all="ignore"):
        valid = np.abs(lens.source_from_ideal(rays) - edge_px).max(axis=-1) < MAX_INVERSION_ERROR_PX
    far = sign * rays[valid, axis]
    if lens.model == "fisheye" and not valid.any():  # 180 degrees and more
        return np.inf
    if not len(far) or not far.min() > 0:
        raise ValueError("the distortion cannot be inverted at the edge of the image")
    return float(far.min())


def _matrix(camera: tuple[float, float, float, float]) -> np.ndarray:
    fx, fy, cx, cy = camera
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
