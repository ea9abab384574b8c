"""Clips of the reported situations, each a function of a `Look`, so that every kind has variants."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tests.cases.world import Body, Clip, World, fixed, intrinsics, pose, render

ROOMS = {
    "hall": ((-4.0, -2.5, -3.0), (4.0, 1.5, 8.0)),
    "corridor": ((-1.6, -1.3, -4.0), (1.6, 1.3, 12.0)),
    "wide": ((-6.0, -2.0, -5.0), (6.0, 1.6, 6.0)),
    "tall": ((-3.0, -5.0, -3.0), (3.0, 1.8, 7.0)),
}


@dataclass(frozen=True)
class Look:
    """What a clip shows, apart from its situation.

    Attributes:
        seed: of textures and of where things are.
        room: one of `ROOMS`.
        style: of the walls' texture.
        width, height: pixels.
        focal: in units of the long side.
        frames: number of frames.
        speed: scale of the camera motion.
        direction: -1 mirrors the camera motion.
        bodies: dynamic bodies.
    """

    seed: int = 0
    room: str = "hall"
    style: str = "noise"
    width: int = 192
    height: int = 144
    focal: float = 0.78
    frames: int = 24
    speed: float = 1.0
    direction: int = 1
    bodies: int = 1

    @property
    def focal_px(self) -> float:
        return self.focal * max(self.width, self.height)

    @property
    def line(self) -> np.ndarray:
        """Progress 0..1 of the frames."""
        return np.linspace(0, 1, self.frames)


def world_of(look: Look) -> World:
    """The room with two static bodies and the dynamic ones, which cross the view, roll and bob."""
    rng = np.random.default_rng(look.seed)
    low, high = ROOMS[look.room]
    reach, floor = min(high[0], 2.6), high[1]
    bodies = []
    for side in (-1, 1):
        half = rng.uniform(0.25, 0.55, 3) * min(1, reach / 2)
        place = fixed(side * reach * rng.uniform(0.55, 0.8), floor - half[1], rng.uniform(3.2, 5.0), rng.uniform(-40, 40))
        bodies.append(
            Body(
                tuple(half),
                place,
                texture=look.seed * 10 + side + 2,
                style=("planks", "spots")[side > 0],
                round=bool(rng.random() < 0.3),
            )
        )
    for number in range(look.bodies):
        size = rng.uniform(0.3, 0.65) * min(1, reach / 2)
        sign, depth, spin, bob = rng.choice((-1, 1)), rng.uniform(2.8, 4.5), rng.uniform(-120, 120), rng.uniform(0, 0.4)

        def motion(t: float, size=size, sign=sign, depth=depth, spin=spin, bob=bob) -> np.ndarray:
            across = sign * reach * 0.7 * (2 * t - 1)
            return pose(
                across, floor - size - bob * abs(np.sin(2 * np.pi * t)), depth + 0.3 * t, yaw_deg=spin * t, roll_deg=spin * t / 2
            )

        half = (size, size * rng.uniform(0.7, 1.0), size)
        bodies.append(Body(half, motion, round=number % 2 == 0, moving=True, texture=look.seed * 10 + number + 5, style="spots"))
    return World(low, high, tuple(bodies), look.seed, look.style)


def slide(look: Look, progress: np.ndarray) -> np.ndarray:
    """Sideways with a little counter-rotation."""
    d = look.direction * look.speed
    return np.stack([pose(0.9 * d * s, 0, 0, yaw_deg=-4 * d * s) for s in progress])


def forward(look: Look, progress: np.ndarray) -> np.ndarray:
    return np.stack([pose(z=1.6 * look.speed * look.direction * s) for s in progress])


def arc(look: Look, progress: np.ndarray) -> np.ndarray:
    """Around a point 4 units ahead, which stays in the middle."""
    angle = 14 * look.speed * look.direction * progress
    return np.stack([pose(4 * np.sin(np.deg2rad(a)), 0, 4 - 4 * np.cos(np.deg2rad(a)), yaw_deg=-a) for a in angle])


def rise(look: Look, progress: np.ndarray) -> np.ndarray:
    d = look.direction * look.speed
    return np.stack([pose(0.3 * s, -0.7 * d * s, 0.3 * s, pitch_deg=-5 * d * s) for s in progress])


def handheld(look: Look, progress: np.ndarray) -> np.ndarray:
    """Sideways and forward with shake of hand: smooth random rotation of about half a degree and translation of a centimetre."""
    rng = np.random.default_rng(look.seed + 77)
    shake = np.cumsum(rng.normal(0, 1, (len(progress), 5)), 0)
    shake = 0.6 * (shake - cv2.GaussianBlur(shake, (1, 0), 0.1, sigmaY=4)) if len(progress) > 4 else 0 * shake
    d = look.direction * look.speed
    return np.stack(
        [
            pose(
                0.8 * d * s + 0.01 * k[0],
                0.01 * k[1],
                0.3 * s,
                yaw_deg=-3 * d * s + 0.5 * k[2],
                pitch_deg=0.5 * k[3],
                roll_deg=0.4 * k[4],
            )
            for s, k in zip(progress, shake, strict=True)
        ]
    )


PATHS: dict[str, Callable[[Look, np.ndarray], np.ndarray]] = {
    "slide": slide,
    "forward": forward,
    "arc": arc,
    "rise": rise,
    "handheld": handheld,
}


def matrices(look: Look, zoom: np.ndarray | float = 1.0, **how: object) -> np.ndarray:
    """[T, 3, 3] intrinsics; the focal length is multiplied by `zoom` [T]."""
    factors = np.broadcast_to(zoom, look.frames)
    return np.stack([intrinsics(look.focal_px * f, look.width, look.height, **how) for f in factors])  # pyright: ignore[reportArgumentType]


def _render(look: Look, cameras: np.ndarray, ks: np.ndarray | None = None, **how: object) -> Clip:
    ks = matrices(look) if ks is None else ks
    return render(world_of(look), cameras, ks, (look.width, look.height), **how)  # pyright: ignore[reportArgumentType]


# --- geometry: what the camera does


def moving(look: Look, path: str = "slide") -> Clip:
    """A camera that moves with parallax."""
    return _render(look, PATHS[path](look, look.line))


def zoom(look: Look, factor: float = 1.8, path: str | None = None) -> Clip:
    """The focal length changes to `factor` times the first, with a fixed camera unless a path is named."""
    cameras = PATHS[path](look, look.line) if path else np.tile(np.eye(4), (look.frames, 1, 1))
    return _render(look, cameras, matrices(look, 1 + (factor - 1) * look.line))


def dolly_zoom(look: Look, factor: float = 0.65, forward_by: float = 1.4) -> Clip:
    """The camera goes forward while the focal length shrinks."""
    cameras = np.stack([pose(z=forward_by * s) for s in look.line])
    return _render(look, cameras, matrices(look, 1 + (factor - 1) * look.line))


def cut(look: Look, at: tuple[int, ...] = (12,), same_room: bool = False) -> Clip:
    """Shots one after the other; truth is that of the first shot, and none later."""
    shots = np.split(np.arange(look.frames), at)
    parts = []
    for number, frames in enumerate(shots):
        place = replace(
            look,
            seed=look.seed + (0 if same_room else 31 * number),
            frames=len(frames),
            direction=look.direction * (-1) ** number,
        )
        start = pose(-1.0 * number, 0, 1.5 * number, yaw_deg=120 * number)
        parts.append(
            _render(place, start @ slide(place, place.line), times=np.linspace(frames[0], frames[-1], len(frames)) / look.frames)
        )
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    return without_truth(replace(parts[0], **joined), np.arange(look.frames) >= at[0])


def rotation(look: Look, yaw_deg: float = 50.0, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> Clip:
    """Rotation about the camera centre: no parallax."""
    turns = [pose(yaw_deg=yaw_deg * s, pitch_deg=pitch_deg * s, roll_deg=roll_deg * s) for s in look.line * look.direction]
    return _render(look, np.stack(turns))


def tripod(look: Look) -> Clip:
    """A fixed camera."""
    return _render(look, np.tile(np.eye(4), (look.frames, 1, 1)))


def lens(look: Look, distortion: float = -0.18) -> Clip:
    """Radial lens distortion."""
    return _render(look, slide(look, look.line), distortion=distortion)


def off_centre(look: Look, offset: tuple[float, float] = (0.4, 0.0)) -> Clip:
    """The principal point is off the middle by shares of the long side, as in a crop."""
    shift = (offset[0] * max(look.width, look.height), offset[1] * max(look.width, look.height))
    return _render(look, slide(look, look.line), matrices(look, offset=shift))


def stabilised(look: Look, step_px: float = 3.0) -> Clip:
    """Electronic stabilisation: the principal point wanders."""
    wander = np.cumsum(np.random.default_rng(look.seed).normal(0, step_px, (look.frames, 2)), 0)
    ks = np.stack([intrinsics(look.focal_px, look.width, look.height, offset=(x, y)) for x, y in wander])
    return _render(look, slide(look, look.line), ks)


def loop(look: Look) -> Clip:
    """Out and back again."""
    return _render(look, slide(look, 1 - np.abs(2 * look.line - 1)))


def stands_first(look: Look, share: float = 1 / 3) -> Clip:
    """The camera stands for a share of the frames, then moves."""
    return _render(look, slide(look, np.maximum(0, (look.line - share) / (1 - share))))


def short(look: Look, frames: int = 10) -> Clip:
    """The first frames of a longer clip."""
    return moving(look).select(list(range(frames)))


def time_lapse(look: Look, step: int = 6) -> Clip:
    """Every `step`-th frame."""
    return moving(look).select(list(range(0, look.frames, step)))


def frozen(look: Look, frames: int = 12) -> Clip:
    """The last frame is repeated."""
    return moving(look).select([*range(look.frames), *[look.frames - 1] * frames])


def doubled(look: Look) -> Clip:
    """Every frame twice, as after a change of the frame rate."""
    return moving(look).select(sorted([*range(look.frames)] * 2))


def side_by_side(look: Look, baseline: float = 0.06) -> Clip:
    """Two views of a stereo camera in one picture, each squeezed to half the width; truth is that of neither."""
    cameras = slide(look, look.line)
    left, right = _render(look, cameras), _render(look, cameras @ pose(x=baseline))
    rgb = np.concatenate([left.rgb, right.rgb], axis=2)[:, :, ::2]
    return without_truth(replace(left, rgb=rgb), np.ones(len(left), bool))


def rolling_shutter(look: Look, shake_deg: float = 2.0, bands: int = 8) -> Clip:
    """Rows are exposed one after the other while the camera shakes; truth is that of the middle row."""

    def cameras(delay: float) -> np.ndarray:
        time = (np.arange(look.frames) + delay) / (look.frames - 1)
        return np.stack(
            [c @ pose(yaw_deg=shake_deg * np.sin(12 * np.pi * t)) for c, t in zip(slide(look, time), time, strict=True)]
        )

    middle = _render(look, cameras(0.5))
    rgb = middle.rgb.copy()
    for band, rows in enumerate(np.array_split(np.arange(look.height), bands)):
        rgb[:, rows] = _render(look, cameras((band + 0.5) / bands)).rgb[:, rows]
    return replace(middle, rgb=rgb)


def motion_blur(look: Look, samples: int = 5) -> Clip:
    """Exposure over most of the frame interval."""
    step = 0.8 / (look.frames - 1)
    shots = [_render(look, slide(look, look.line + step * (k / (samples - 1) - 0.5))) for k in range(samples)]
    return replace(moving(look), rgb=np.mean([shot.rgb for shot in shots], 0).round().astype(np.uint8))


# --- picture: what was done to the frames of a clip


def without_truth(clip: Clip, frames: np.ndarray) -> Clip:
    """The clip without truth of depth and motion in frames [T] bool; their cameras become NaN."""
    cameras = clip.world_from_camera.copy()
    cameras[frames] = np.nan
    depth, still = clip.depth.copy(), clip.moving.copy()
    depth[frames], still[frames] = np.nan, False
    return replace(clip, world_from_camera=cameras, depth=depth, moving=still)


def bars(look: Look, top: int = 36, side: int = 0, level: float = 0.0, noise: float = 0.0, path: str = "slide") -> Clip:
    """Letterbox or pillarbox bars of a grey level around the picture."""
    clip = moving(look, path)
    pad = ((0, 0), (top, top), (side, side))
    rgb = np.pad(clip.rgb, (*pad, (0, 0)), constant_values=int(level))
    if noise:
        grain = np.random.default_rng(look.seed).normal(0, noise, rgb.shape)
        rgb = np.clip(rgb + grain, 0, 255).astype(np.uint8)
    ks = clip.intrinsics.copy()
    ks[:, :2, 2] += (side, top)
    return replace(
        clip,
        rgb=rgb,
        intrinsics=ks,
        depth=np.pad(clip.depth, pad, constant_values=np.nan),
        moving=np.pad(clip.moving, pad),
        body=np.pad(clip.body, pad),
    )


def blurred_bars(look: Look, side: int = 50, blur: float = 0.03, gain: float = 0.8) -> Clip:
    """Bars at the sides that show a blurred copy of the video, enlarged to the whole width."""
    clip = bars(look, top=0, side=side)
    height, width = clip.rgb.shape[1:3]
    for image in clip.rgb:
        large = cv2.resize(image[:, side : width - side], (width, round(height * width / (width - 2 * side))))
        copy = cv2.GaussianBlur(large[(len(large) - height) // 2 :][:height], (0, 0), blur * width) * gain
        image[:, :side], image[:, width - side :] = copy[:, :side], copy[:, width - side :]
    return clip


def overlay_area(look: Look) -> np.ndarray:
    """[height, width] bool: where `overlay` draws."""
    area = np.zeros((look.height, look.width), bool)
    h, w = area.shape
    area[int(0.04 * h) : int(0.22 * h), int(0.63 * w) : int(0.97 * w)] = True
    area[int(0.82 * h) : int(0.97 * h), int(0.15 * w) : int(0.85 * w)] = True
    return area


def overlay(look: Look, path: str = "slide", subtitles: bool = True) -> Clip:
    """A logo in the corner and subtitles, the same in all frames."""
    clip = moving(look, path)
    h, w = clip.rgb.shape[1:3]
    rgb = clip.rgb.copy()
    for image in rgb:
        cv2.rectangle(image, (int(0.65 * w), int(0.05 * h)), (int(0.96 * w), int(0.2 * h)), (245, 245, 245), -1)
        cv2.putText(image, "CHANNEL", (int(0.67 * w), int(0.16 * h)), 0, w / 420, (10, 10, 120), 1)
        if subtitles:
            cv2.putText(image, "- and then it moved", (int(0.17 * w), int(0.93 * h)), 0, w / 420, (255, 255, 60), 2)
    return replace(clip, rgb=rgb)


def fade(look: Look, black: int = 4, ramp: int = 4, at_end: bool = False) -> Clip:
    """Black frames, then a fade in; or a fade out and black frames at the end."""
    clip = moving(look)
    gain = np.clip((np.arange(look.frames) - black + 1) / ramp, 0, 1)
    return _dimmed(clip, gain[::-1] if at_end else gain)


def black_middle(look: Look, first: int = 10, count: int = 2) -> Clip:
    """Black frames in the middle."""
    gain = np.ones(look.frames)
    gain[first : first + count] = 0
    return _dimmed(moving(look), gain)


def all_black(look: Look, level: int = 0) -> Clip:
    clip = moving(look)
    return without_truth(replace(clip, rgb=np.full_like(clip.rgb, level)), np.ones(len(clip), bool))


def _dimmed(clip: Clip, gain: np.ndarray) -> Clip:
    """Frames times a gain [T]; black frames have no truth."""
    dim = (clip.rgb * gain[:, None, None, None]).astype(np.uint8)
    return without_truth(replace(clip, rgb=dim), gain == 0)


def night(look: Look, gain: float = 0.03, noise: float = 2.5) -> Clip:
    """Too dark: sensor noise as strong as the picture."""
    clip = moving(look)
    grain = np.random.default_rng(look.seed).normal(0, noise, clip.rgb.shape)
    return replace(clip, rgb=np.clip(clip.rgb * gain + grain, 0, 255).astype(np.uint8))


def night_lights(look: Look, num: int = 4, gain: float = 0.02, noise: float = 2.5) -> Clip:
    """Lamps with a glow that move on their own, at night."""
    clip = night(look, gain, noise)
    rng = np.random.default_rng(look.seed)
    size = (look.width, look.height)
    start, step = rng.uniform(0.1, 0.9, (num, 2)) * size, rng.uniform(-0.015, 0.015, (num, 2)) * size
    rows, columns = np.mgrid[: look.height, : look.width]
    for k, image in enumerate(clip.rgb):
        for x, y in start + k * step:
            away = np.hypot(columns - x, rows - y)
            glow = np.where(away < 4, 255, 200 * np.exp(-(away - 4) / 4))
            np.maximum(image, glow[..., None].astype(np.uint8), out=image)
    return clip


def blank_wall(look: Look, level: int = 225, noise: int = 3) -> Clip:
    """A wall without texture in front of the camera."""
    clip = moving(look)
    grain = np.random.default_rng(look.seed).integers(0, noise, clip.rgb.shape)
    return without_truth(replace(clip, rgb=(level + grain).astype(np.uint8)), np.ones(len(clip), bool))


def exposure(look: Look, last: float = 0.4) -> Clip:
    """The exposure drifts."""
    return _dimmed(moving(look), 1 + (last - 1) * look.line)


def flicker(look: Look, low: float = 0.55) -> Clip:
    """Every second frame is darker."""
    return _dimmed(moving(look), np.where(np.arange(look.frames) % 2, 1.0, low))


def cropped(look: Look, top: int = 48, rows: int = 32) -> Clip:
    """A strip of the picture."""
    clip, ks = moving(look), matrices(look)
    ks[:, 1, 2] -= top
    band = slice(top, top + rows)
    return replace(
        clip,
        rgb=clip.rgb[:, band],
        intrinsics=ks,
        depth=clip.depth[:, band],
        moving=clip.moving[:, band],
        body=clip.body[:, band],
    )


# --- clean variants


def clean_look(number: int) -> tuple[Look, str]:
    """The `number`-th clean variant: a look and a path with parallax; sizes, focal lengths, rooms, textures and motions vary."""
    rng = np.random.default_rng(1000 + number)
    size = ((192, 144), (256, 144), (144, 192), (320, 240), (160, 160), (208, 156))[number % 6]
    path = tuple(PATHS)[number % len(PATHS)]
    direction = int(rng.choice((-1, 1))) if path != "forward" else 1
    look = Look(
        seed=2000 + number,
        room=("hall", "wide", "tall", "corridor")[int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))],
        style=("noise", "tiles", "planks", "spots")[number % 4],
        width=size[0],
        height=size[1],
        focal=float(rng.uniform(0.6, 1.15)),
        frames=int(rng.integers(18, 31)),
        speed=float(rng.uniform(0.7, 1.4)),
        direction=direction,
        bodies=int(rng.integers(0, 4)),
    )
    return look, path


def clean(number: int) -> Clip:
    """A clean variant by number, as an H.264 file would show it: with a little sensor noise."""
    clip = moving(*clean_look(number))
    grain = np.random.default_rng(number).normal(0, 1.5, clip.rgb.shape)
    return replace(clip, rgb=np.clip(clip.rgb + grain, 0, 255).round().astype(np.uint8))
