"""A walk past a long wall with pillars before it and a disc that moves: exact pointmaps of any pair of frames, and a network that errs."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, unproject
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_maps
from st4rtrack.io.scene import SceneBuffer, SceneHeader, SceneSink
from st4rtrack.pipeline.cameras import solve_camera
from st4rtrack.pipeline.visibility import visibility_probability
from st4rtrack.types import Pointmap, TwoPointmaps

HEIGHT, WIDTH, FOCAL = 24, 32, 28.0
INTRINSICS = intrinsics_from_focal(FOCAL, HEIGHT, WIDTH)
PILLARS_DEPTH, DISC_DEPTH, DISC_RADIUS = 2.5, 3.0, 0.5


@dataclass
class Walk:
    """Truth: a camera that goes sideways by `speed` per frame, swaying, and turns a little."""

    num_frames: int
    speed: float = 0.05

    def camera(self, t: int) -> np.ndarray:
        """`world_from_camera` [4, 4]; that of frame 0 is the identity."""
        angle = 0.15 * np.sin(t / 40)
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        return rigid(turn, np.array([self.speed * t, 0.2 * np.sin(t / 25), 0.1 * np.sin(t / 30)]))

    def disc(self, t: int) -> np.ndarray:
        """[2] its centre."""
        return np.array([1.0 + 0.03 * t, 0.4 * np.sin(t / 10)])

    def shown(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """World points [height, width, 3] that frame t shows, and which are the disc's [height, width]."""
        camera = self.camera(t)
        rays = unproject(pixel_grid(HEIGHT, WIDTH), np.ones((HEIGHT, WIDTH)), INTRINSICS) @ camera[:3, :3].T
        centre = camera[:3, 3]

        def at(depth: np.ndarray | float) -> np.ndarray:
            return centre + rays * ((depth - centre[2]) / rays[..., 2])[..., None]

        wall = at(4.0)
        for _ in range(20):
            wall = at(4 + 0.3 * np.sin(1.3 * wall[..., 0]) * np.cos(wall[..., 1]))
        pillars, disc = at(PILLARS_DEPTH), at(DISC_DEPTH)
        on_pillar = np.abs((pillars[..., 0] + 1.0) % 6 - 3) < 0.3
        on_disc = np.linalg.norm(disc[..., :2] - self.disc(t), axis=-1) < DISC_RADIUS
        points = np.where(on_disc[..., None], disc, wall)
        return np.where(on_pillar[..., None], pillars, points), on_disc & ~on_pillar

    def moved(self, points: np.ndarray, moving: np.ndarray, source: int, target: int) -> np.ndarray:
        """Points that frame `source` shows, at the time of frame `target`."""
        shift = np.append(self.disc(target) - self.disc(source), 0.0)
        return points + moving[..., None] * shift


@dataclass
class ErringNetwork:
    """Pairs of a walk with errors: a scale per pair, noise of every point, outliers.

    Where the pair has too little in common (the cameras are more than `reach` apart) it does not know where the frame is.
    """

    walk: Walk
    scale: float = 0.03
    noise: float = 0.005
    outliers: float = 0.02
    reach: float = np.inf
    predicted: int = 0

    def pair(self, anchor: int, index: int) -> TwoPointmaps:
        """Both pointmaps in the anchor's camera frame."""
        rng = np.random.default_rng((anchor, index))
        camera_from_world = invert_rigid(self.walk.camera(anchor))
        shown, moving = self.walk.shown(anchor)
        tracking = self.walk.moved(shown, moving, anchor, index)
        reconstruction = self.walk.shown(index)[0]
        away = np.linalg.norm(self.walk.camera(index)[:3, 3] - self.walk.camera(anchor)[:3, 3])
        if away > self.reach:
            reconstruction = reconstruction + rng.normal(0, 1, 3)
        scale = 1.0 if anchor == index else np.exp(self.scale * rng.standard_normal())
        self.predicted += 1
        return TwoPointmaps(
            *(self._erring(transform_maps(camera_from_world, maps), scale, rng) for maps in (tracking, reconstruction))
        )

    def along(self, anchor: int, step: int) -> Iterator[tuple[int, TwoPointmaps]]:
        for index in range(anchor, self.walk.num_frames) if step > 0 else range(anchor - 1, -1, -1):
            yield index, self.pair(anchor, index)

    def _erring(self, points: np.ndarray, scale: float, rng: np.random.Generator) -> Pointmap:
        noise = self.noise * points[..., 2:] * rng.standard_normal(points.shape)
        wild = rng.random(points.shape[:2]) < self.outliers
        noise[wild] *= 40
        return Pointmap((scale * points + noise).astype(np.float32), np.full(points.shape[:2], 2.0, np.float32))


def header(num_frames: int) -> SceneHeader:
    return SceneHeader(num_frames, HEIGHT, WIDTH, source_size=(HEIGHT, WIDTH), info={"options": {"anchor": "auto"}})


def first_pass(network: ErringNetwork, sink: SceneSink | None = None) -> SceneSink:
    """A scene with the first anchor alone, scales right, every point as noisy as the network has it, cameras solved from them."""
    walk = network.walk
    sink = sink or SceneBuffer(header(walk.num_frames))
    for t in range(walk.num_frames):
        maps = ErringNetwork(walk, 0.0, network.noise, network.outliers, network.reach).pair(0, t)
        points, surface = maps.tracking.points_world, maps.reconstruction.points_world
        camera = np.eye(4) if t == 0 else solve_camera(maps.reconstruction, INTRINSICS)
        assert camera is not None
        black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        likely = (
            np.ones((HEIGHT, WIDTH), np.float16) if t == 0 else visibility_probability(maps, camera, INTRINSICS, black, black)
        )
        sink.write_frame(
            t,
            rgb=black,
            time_s=t / 30,
            tracking_points=points,
            tracking_confidence=maps.tracking.confidence,
            visible=likely > 0.5,
            visibility=likely,
            reconstruction_points=surface,
            reconstruction_confidence=maps.reconstruction.confidence,
            world_from_camera=camera,
            intrinsics=INTRINSICS,
            solved=True,
        )
    return sink
