"""Generated videos for detectors: a textured box room with moving balls, ray-traced, and what cameras and editors do to it."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from st4rtrack.geometry.camera import pixel_grid

NUM_WAVES = 7


@dataclass(frozen=True)
class Room:
    """A box room with balls; every seed has other textures, sizes and balls.

    Attributes:
        seed: of everything random.
        height, width: of the images.
        focal: focal length in image widths.
        num_balls: balls that cross the room; more of them cover more of the image.
        ball_radius: in units of the room (about eight wide).
    """

    seed: int = 0
    height: int = 120
    width: int = 160
    focal: float = 0.8
    num_balls: int = 1
    ball_radius: float = 0.7
    low: np.ndarray = field(init=False)
    high: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        object.__setattr__(self, "low", np.array([-4.0, -2.5, -3.0]) * rng.uniform(0.8, 1.3, 3))
        object.__setattr__(self, "high", np.array([4.0, 1.5, 8.0]) * rng.uniform(0.8, 1.3, 3))

    def frame(
        self,
        x: float = 0.0,
        y: float = 0.0,
        z: float = 0.0,
        yaw_deg: float = 0.0,
        pitch_deg: float = 0.0,
        zoom: float = 1.0,
        time: float = 0.0,
        centre_px: tuple[float, float] = (0.0, 0.0),
    ) -> np.ndarray:
        """Image [height, width, 3] uint8 of a camera at (x, y, z); `time` 0..1 moves the balls, `centre_px` shifts the principal point."""
        rays = (pixel_grid(self.height, self.width) - (self.width / 2, self.height / 2) - centre_px) / (
            self.focal * self.width * zoom
        )
        rays = np.concatenate([rays, np.ones_like(rays[..., :1])], -1)
        turn = cv2.Rodrigues(np.deg2rad([0.0, yaw_deg, 0.0]))[0] @ cv2.Rodrigues(np.deg2rad([pitch_deg, 0.0, 0.0]))[0]
        return self._trace(rays @ turn.T, np.array([x, y, z]), time)

    def video(self, num_frames: int = 12, **motion: object) -> list[np.ndarray]:
        """Frames along arguments of `frame` that are end values or callables of 0..1; balls cross unless `time` is given."""
        steps = np.linspace(0, 1, num_frames)
        motion = {"time": lambda s: s} | motion
        start = {"zoom": 1.0}

        def value(name: str, s: float) -> object:
            given = motion[name]
            return given(s) if callable(given) else start.get(name, 0.0) + (given - start.get(name, 0.0)) * s  # pyright: ignore[reportOperatorIssue]

        return [self.frame(**{name: value(name, s) for name in motion}) for s in steps]  # pyright: ignore[reportArgumentType]

    def _trace(self, rays: np.ndarray, origin: np.ndarray, time: float) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            walls = np.where(rays > 0, (self.high - origin) / rays, (self.low - origin) / rays)
        walls = np.where(np.isfinite(walls), walls, np.inf)
        axis, depth = walls.argmin(-1), walls.min(-1)
        points = origin + depth[..., None] * rays
        side = np.take_along_axis(rays, axis[..., None], -1)[..., 0] > 0
        rgb = np.zeros(rays.shape)
        for face in range(6):
            chosen = (axis == face // 2) & (side == bool(face % 2))
            rgb[chosen] = self._texture(points[chosen], face)
        rng = np.random.default_rng(self.seed + 1000)
        for ball in range(self.num_balls):
            self._draw_ball(rgb, depth, rays, origin, self._ball_centre(rng, time), 6 + ball)
        return (rgb * 255).round().astype(np.uint8)

    def _ball_centre(self, rng: np.random.Generator, time: float) -> np.ndarray:
        start, velocity = rng.uniform((-1.6, -0.6, 3.0), (0.4, 0.7, 5.0)), rng.uniform((1.0, -0.6, -0.6), (2.4, 0.6, 0.6))
        return start + velocity * time

    def _draw_ball(
        self, rgb: np.ndarray, depth: np.ndarray, rays: np.ndarray, origin: np.ndarray, centre: np.ndarray, face: int
    ) -> None:
        away = origin - centre
        a, b, c = (rays**2).sum(-1), rays @ away, away @ away - self.ball_radius**2
        root = b**2 - a * c
        distance = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
        hit = (distance > 0) & (distance < depth)
        normal = (origin + distance[hit, None] * rays[hit] - centre) / self.ball_radius
        rgb[hit] = self._texture(normal * 1.4, face) * np.clip(0.7 - 0.3 * normal[:, 1:2], 0.2, 1)
        depth[hit] = distance[hit]

    def _texture(self, points: np.ndarray, face: int) -> np.ndarray:
        """Colours [points, 3] in 0..1: sums of waves with tiles, in a colour of its own for each face."""
        rng = np.random.default_rng((self.seed, face))
        value, scale = np.zeros(len(points)), rng.uniform(0.7, 1.4)
        for k in range(NUM_WAVES):
            value += np.sin(points @ rng.normal(0, 1.3 * scale * 1.6**k, 3) + rng.uniform(0, 6.3)) / 1.3**k
        tiles = (np.floor(points * rng.uniform(1.0, 2.4)).sum(-1) % 2) * rng.uniform(0, 0.3)
        return np.clip((0.4 + 0.16 * value + tiles)[:, None] * rng.uniform(0.4, 1.0, 3) * 1.25, 0, 1)


def noisy(images: list[np.ndarray], sigma: float, *, gain: float = 1.0, seed: int = 0) -> list[np.ndarray]:
    """Images under another exposure, with sensor noise of `sigma` grey levels."""
    rng = np.random.default_rng(seed)
    return [np.clip(image * gain + rng.normal(0, sigma, image.shape), 0, 255).astype(np.uint8) for image in images]


def with_bars(images: list[np.ndarray], top: int, side: int, colour: tuple[int, int, int] = (0, 0, 0)) -> list[np.ndarray]:
    """Images with bars of uniform colour above and below (`top` pixels) and at the sides (`side` pixels)."""
    return [cv2.copyMakeBorder(image, top, top, side, side, cv2.BORDER_CONSTANT, value=colour) for image in images]


def compressed(images: list[np.ndarray], quality: int = 60) -> list[np.ndarray]:
    """Images with the artefacts of JPEG compression."""
    encoded = [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for image in images]
    return [np.asarray(cv2.imdecode(each, cv2.IMREAD_COLOR)) for each in encoded]


def with_text(
    images: list[np.ndarray], text: str, *, height: float = 0.94, colour: tuple[int, int, int] = (255, 255, 0)
) -> list[np.ndarray]:
    """Images with a line of text at a height (share of the image)."""
    drawn = [image.copy() for image in images]
    scale = images[0].shape[1] / 280
    for image in drawn:
        at = (int(0.2 * image.shape[1]), int(height * image.shape[0]))
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 4)
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 2)
    return drawn


def with_logo(images: list[np.ndarray], *, opacity: float = 1.0) -> list[np.ndarray]:
    """Images with a logo in the upper right corner."""
    height, width = images[0].shape[:2]
    rows, columns = slice(height // 24, height // 5), slice(width - width // 3, width - width // 32)
    logo = np.full((rows.stop - rows.start, columns.stop - columns.start, 3), 250, np.uint8)
    cv2.putText(logo, "LOGO", (width // 48, height // 8), cv2.FONT_HERSHEY_SIMPLEX, width / 320, (10, 10, 10), 2)
    drawn = [image.copy() for image in images]
    for image in drawn:
        image[rows, columns] = (opacity * logo + (1 - opacity) * image[rows, columns]).astype(np.uint8)
    return drawn
