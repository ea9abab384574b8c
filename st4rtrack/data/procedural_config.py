"""Options and random sampling of the procedural world."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from st4rtrack.types import UserError

SETTINGS = ("room", "ground", "terrain")
CAMERAS = ("fixed", "handheld", "dolly", "orbit", "pan")
SETTING_SHARES = (0.6, 0.22, 0.18)
CAMERA_SHARES = (0.06, 0.19, 0.31, 0.29, 0.15)


@dataclass(frozen=True)
class ProceduralConfig:
    """Rendering options; the defaults sample all kinds of cameras, scenes and motions."""

    # height, width: pixels, landscape or portrait
    height: int = 192
    width: int = 256
    num_frames: int = 2  # frames per clip, evenly spaced over the duration of the clip unless `times` is set
    times: tuple[float, ...] = ()  # increasing times of the frames as shares of the duration, 0 to 1; empty for even spacing
    setting: str = "mixed"  # "room", "ground" (flat, with sky), "terrain" (a height field, with sky) or "mixed"
    camera: str = "mixed"  # "fixed", "handheld", "dolly", "orbit", "pan" or "mixed"
    max_parts: int = 12  # number of convex parts besides the room or the ground
    superquadrics: int = 2  # number of objects whose main part is a superquadric
    shadows: bool = True  # whether the light casts shadows (a third of the cost)
    # motion, camera_motion: scale of the motion of objects and of the camera
    motion: float = 1.0
    camera_motion: float = 1.0
    moving_share: float = 0.6  # share of the objects that are dynamic
    falling_share: float = 0.0  # share of the dynamic objects that start in the air, fall with rotation and stay where they land
    # noise, blur, exposure: scale of sensor noise, of defocus and motion blur, and of exposure changes over the clip
    noise: float = 1.0
    blur: float = 1.0
    exposure: float = 1.0
    jpeg: float = 0.5  # share of the clips with JPEG compression; none on a GPU
    # min_fov_deg, max_fov_deg: field of view across the long side
    min_fov_deg: float = 30.0
    max_fov_deg: float = 100.0
    compile: bool = False  # fuse the ray caster with `torch.compile` (slow first call)

    def __post_init__(self) -> None:
        for field, names in (("setting", SETTINGS), ("camera", CAMERAS)):
            if getattr(self, field) not in (*names, "mixed"):
                raise UserError(f"procedural {field} must be one of {', '.join(names)} or mixed, not {getattr(self, field)!r}")
        if not 5 <= self.min_fov_deg <= self.max_fov_deg <= 120:
            raise UserError(f"field of view must be within 5 to 120 degrees, not {self.min_fov_deg} to {self.max_fov_deg}")
        if self.max_parts < 2:
            raise UserError(f"max_parts must be at least 2, not {self.max_parts}")
        if self.times and (len(self.times) != self.num_frames or not np.all(np.diff([0, *self.times, 1]) >= 0)):
            raise UserError(f"times must be {self.num_frames} increasing numbers in 0..1, not {self.times}")

    @property
    def groups(self) -> int:
        """Maximum number of objects of a scene: half of the parts are roots, the others limbs."""
        return self.max_parts // 2

    @property
    def rounded_groups(self) -> int:
        """Number of objects whose root is a superquadric: the first ones; at least one object is left for tables."""
        return min(self.superquadrics, self.groups - 1)


class Sampler:
    """Random sampling in float64; each scene has its own stream, so it is the same in every batch.

    Shapes are passed without the batch axis, which comes first in the results.
    """

    def __init__(self, seed: int, first: int, batch: int) -> None:
        self.batch = batch
        keys = [(seed % (1 << 64), first + row) for row in range(batch)]
        self.streams = [np.random.Generator(np.random.Philox(key=np.array(key, np.uint64))) for key in keys]

    def _draw(self, draw: Callable[[np.random.Generator], np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack([np.asarray(draw(stream)) for stream in self.streams]))

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * self._draw(lambda stream: stream.random(shape))

    def log_uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def normal(self, scale: float, *shape: int) -> torch.Tensor:
        return scale * self._draw(lambda stream: stream.standard_normal(shape))

    def chance(self, probability: float, *shape: int) -> torch.Tensor:
        return self.uniform(0, 1, *shape) < probability

    def sign(self, *shape: int) -> torch.Tensor:
        return self.chance(0.5, *shape).double() * 2 - 1

    def integer(self, count: int, *shape: int) -> torch.Tensor:
        return (self.uniform(0, 1, *shape) * count).long()

    def choice(self, shares: tuple[float, ...], *shape: int) -> torch.Tensor:
        """Sample indices of `shares`, which are probabilities that sum to 1."""
        edges = torch.tensor(shares, dtype=torch.float64).cumsum(0)[:-1]
        return (self.uniform(0, 1, *shape)[..., None] >= edges).sum(-1)

    def direction(self, *shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(self.normal(1.0, *shape, 3), dim=-1)

    def curve(self, time: torch.Tensor, *shape: int) -> torch.Tensor:
        """Smooth progress [B, F, *shape] at times [B, F], about one unit over the clip and near zero at mid-clip."""
        moments = time.reshape(*time.shape, *([1] * len(shape)))
        wave = self.uniform(0, 0.35, *shape)[:, None]
        frequency, phase = self.uniform(0.4, 1.3, *shape)[:, None], self.uniform(0, 2 * math.pi, *shape)[:, None]
        return (moments - 0.5) + wave * torch.sin(2 * math.pi * frequency * moments + phase)


def named_choice(sampler: Sampler, name: str, names: tuple[str, ...], shares: tuple[float, ...]) -> torch.Tensor:
    """Index [B] of `name` in `names`; for "mixed", sampled by `shares`. Later samples do not depend on `name`."""
    drawn = sampler.choice(shares)
    return drawn if name == "mixed" else torch.full_like(drawn, names.index(name))


def axis_rotation(axis: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Rotation matrices [..., 3, 3] about unit axes [..., 3] by angles [...] in radians."""
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*axis.shape[:-1], 3, 3)
    sine, cosine = torch.sin(angle)[..., None, None], torch.cos(angle)[..., None, None]
    eye = torch.eye(3, dtype=axis.dtype)
    return eye * cosine + sine * cross + (1 - cosine) * axis[..., :, None] * axis[..., None, :]


def affine(linear: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """Affine matrices [..., 4, 4] from linear parts [..., 3, 3] and translations [..., 3]."""
    top = torch.cat([linear, translation[..., None]], -1)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=top.dtype).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], -2)
