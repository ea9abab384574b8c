"""Procedural 4D world with exact ground truth: public interface.

    clips = render_clips(16, ProceduralConfig(height=96, width=128), seed=0)
    points, visible, moving = tracking_points(clips, anchor=0)

Cameras follow OpenCV (x right, y down, z forward), the centre of the top-left pixel is (0.5, 0.5), lengths are in metres,
depth is along z. Points are in the camera frame of the anchor frame. Sky has no depth: see `ClipBatch.valid`.
"""

from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch

from st4rtrack.data.clip import Clip
from st4rtrack.data.procedural_config import ProceduralConfig
from st4rtrack.data.procedural_paint import develop
from st4rtrack.data.procedural_render import NEAREST_M, RayCaster, ViewBatch
from st4rtrack.data.procedural_scene import SceneBatch, sample_scenes
from st4rtrack.data.procedural_solids import affine_rows

FRAMES_PER_SECOND = 12.0
MOVES_M = 0.01
FLOW_GRID = 5  # pixels per axis whose motion is averaged for motion blur


@dataclass(frozen=True)
class ClipBatch(SceneBatch):
    """Rendered clips: their scenes, and B x F images of H x W pixels; all tensors but `light` and `optics` on one device."""

    rgb: torch.Tensor  # [B, F, H, W, 3] uint8
    depth: torch.Tensor  # [B, F, H, W] float32, metres, 0 for sky
    part_index: torch.Tensor  # [B, F, H, W] int64, -1 for sky
    local_points: torch.Tensor  # [B, F, H, W, 3] float32, surface point of each pixel in the frame of its part
    config: ProceduralConfig

    @property
    def valid(self) -> torch.Tensor:
        """Pixels that show a surface with known depth, not the sky: [B, F, H, W] bool."""
        return self.depth > 0

    @property
    def object_index(self) -> torch.Tensor:
        """Object of each pixel, constant over the clip: [B, F, H, W] int64; 0 room or ground, >= 1 objects, -1 sky."""
        flat = self.part_index.clamp(min=0).flatten(1)
        return torch.where(self.valid, torch.gather(self.object_of_part, 1, flat).reshape(self.depth.shape), -1)

    @property
    def part_moves(self) -> torch.Tensor:
        """Parts that move over the clip: [B, P] bool."""
        return (self.world_from_part - self.world_from_part[:, :1]).abs().amax((1, 3, 4)) > 1e-4


@dataclass(frozen=True)
class ProceduralClip:
    """One scene with ground truth as NumPy arrays; world = camera frame of the anchor."""

    rgb: np.ndarray  # [F, H, W, 3] uint8
    time_s: np.ndarray  # [F]
    depth: np.ndarray  # [F, H, W] metres, 0 for sky
    intrinsics: np.ndarray  # [F, 3, 3]
    world_from_camera: np.ndarray  # [F, 4, 4]
    tracking_points_world: np.ndarray  # [F, H, W, 3]
    visible: np.ndarray  # [F, H, W] bool
    moving: np.ndarray  # [H, W] bool
    reconstruction_points_world: np.ndarray  # [F, H, W, 3]
    tracking_valid: np.ndarray  # [F, H, W] bool, false where the anchor's pixel shows the sky
    reconstruction_valid: np.ndarray  # [F, H, W] bool, false where the frame's pixel shows the sky
    object_index: np.ndarray  # [F, H, W] as in `ClipBatch`


def _rows(matrix: torch.Tensor) -> torch.Tensor:
    """Flatten affine matrices [..., 4, 4] to [..., 12]: the nine entries of the linear part, then the translation."""
    return torch.cat([matrix[..., :3, :3].flatten(-2), matrix[..., :3, 3]], -1)


def _camera_rays(intrinsics: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Rays through the pixel centres with z = 1: [B, 3, H * W]."""
    v, u = torch.meshgrid(
        torch.arange(height, device=intrinsics.device) + 0.5, torch.arange(width, device=intrinsics.device) + 0.5, indexing="ij"
    )
    u = (u.flatten() - intrinsics[:, 0, 2:]) / intrinsics[:, 0, :1]
    v = (v.flatten() - intrinsics[:, 1, 2:]) / intrinsics[:, 1, 1:2]
    return torch.stack([u, v, torch.ones_like(u)], 1).float()


def _views(scenes: SceneBatch, rounded: int, device: torch.device) -> ViewBatch:
    """Views of all scenes: one row per scene and time, everything in the camera frame of that time."""
    frames = scenes.world_from_camera.shape[1]
    camera_from_world = torch.linalg.inv(scenes.world_from_camera)
    part_from_camera = torch.linalg.inv(camera_from_world[:, :, None] @ scenes.world_from_part)
    light = (camera_from_world[..., :3, :3] @ scenes.light.position[:, None, :, None])[..., 0] + camera_from_world[..., :3, 3]

    def flat(tensor: torch.Tensor, per_frame: bool = False) -> torch.Tensor:
        return (tensor.flatten(0, 1) if per_frame else tensor.repeat_interleave(frames, 0)).float().to(device)

    return ViewBatch(
        part_from_camera=flat(_rows(part_from_camera), per_frame=True),
        quadric=flat(scenes.quadric),
        power=flat(scenes.power[:, 1 : rounded + 1]),
        present=flat(scenes.present),
        waves=flat(scenes.waves),
        size_m=flat(scenes.size_m),
        faces=flat(scenes.faces),
        light=flat(light, per_frame=True),
        ambient=flat(scenes.light.ambient),
        diffuse=flat(scenes.light.diffuse),
        haze=flat(scenes.light.haze),
        up=flat(-camera_from_world[..., :3, 1], per_frame=True),
        pixel=flat(1 / scenes.intrinsics[:, 0, :1]),
    )


def _mean_flow(scenes: SceneBatch, depth: torch.Tensor) -> torch.Tensor:
    """Mean image motion [B, F, 2] in pixels of the static scene to the next frame (last frame: from the previous), on the CPU."""
    frames, height, width = depth.shape[1:]
    if frames == 1:
        return torch.zeros(len(depth), 1, 2, dtype=torch.float64)
    rows, columns = (((torch.arange(FLOW_GRID) + 0.5) / FLOW_GRID * size).long() for size in (height, width))
    some = depth[:, :, rows.to(depth.device)][..., columns.to(depth.device)].cpu().double().flatten(2)
    ray = (
        _camera_rays(scenes.intrinsics, height, width).reshape(-1, 3, height, width)[:, :, rows][..., columns].double().flatten(2)
    )
    other = torch.arange(1, frames + 1)
    other[-1] = frames - 2
    there = torch.linalg.inv(scenes.world_from_camera[:, other]) @ scenes.world_from_camera
    point = there[..., :3, :3] @ (ray[:, None] * some[:, :, None]) + there[..., :3, 3:]
    known = ((some > 0) & (point[:, :, 2] > NEAREST_M))[:, :, None].double()
    moved = (point[:, :, :2] / point[:, :, 2:].clamp(min=NEAREST_M) - ray[:, None, :2]) * known
    flow = moved.sum(-1) / known.sum(-1).clamp(min=1) * scenes.intrinsics[:, None, 0, :1]
    return torch.cat([flow[:, :-1], -flow[:, -1:]], 1)


@torch.no_grad()
def render_clips(
    batch: int, config: ProceduralConfig, *, seed: int, first: int = 0, device: str | torch.device = "cpu"
) -> ClipBatch:
    """Render `batch` different random scenes with `config.num_frames` frames each.

    The scenes are numbered from `first`; a scene depends only on the seed, its number and the options.
    """
    device = torch.device(device)
    scenes = sample_scenes(batch, config, seed, first)
    shape = (batch, config.num_frames, config.height, config.width)
    ray = _camera_rays(scenes.intrinsics, config.height, config.width).to(device)
    ray = ray.repeat_interleave(config.num_frames, 0)
    setting = scenes.setting.repeat_interleave(config.num_frames)
    views = _views(scenes, config.rounded_groups, device)
    depth, part, local, colour = RayCaster(config, device).shade(setting, views, ray)
    colour = colour.reshape(batch, config.num_frames, 3, *shape[2:])
    depth = depth.reshape(shape)
    clips = ClipBatch(
        **vars(scenes),
        rgb=develop(colour, scenes.optics, _mean_flow(scenes, depth), seed, first),
        depth=depth,
        part_index=part.reshape(shape),
        local_points=local.transpose(1, 2).reshape(*shape, 3),
        config=config,
    )
    return clips_to(clips, device)


def clips_to(clips: ClipBatch, device: str | torch.device) -> ClipBatch:
    """Move clips to a device."""
    return replace(clips, **{name: value.to(device) for name, value in vars(clips).items() if isinstance(value, torch.Tensor)})


@torch.no_grad()
def tracking_points(clips: ClipBatch, anchor: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the dense tracks of frame `anchor`: the position of its points at the time of every frame.

    Returns points_world [B, F, H, W, 3] float32 in the anchor's camera frame; visible [B, F, H, W]: the point projects
    into frame f and is not occluded there (exact, by casting the ray through the point); moving [B, H, W]:
    the point moves more than a centimetre in the world over the clip. Pixels of the anchor that show the sky
    (`~clips.valid[:, anchor]`) have no track: points are 0, neither visible nor moving.
    """
    batch, frames, height, width = clips.depth.shape
    valid = clips.valid[:, anchor].flatten(1)
    part = clips.part_index[:, anchor].flatten(1).clamp(min=0)
    local = clips.local_points[:, anchor].flatten(1, 2).transpose(1, 2)
    anchor_from_world = torch.linalg.inv(clips.world_from_camera[:, anchor])
    anchor_from_part = anchor_from_world[:, None, None] @ clips.world_from_part
    camera_from_part = torch.linalg.inv(clips.world_from_camera)[:, :, None] @ clips.world_from_part
    part_from_camera = _rows(torch.linalg.inv(camera_from_part)).float()
    power = clips.power[:, 1 : clips.config.rounded_groups + 1]
    shared = (x.float().repeat_interleave(frames, 0) for x in (clips.quadric, power, clips.present, clips.waves))
    placed = torch.cat([_rows(anchor_from_part), _rows(camera_from_part)], -1).float().transpose(2, 3)
    in_anchor, in_camera, clear = RayCaster(clips.config, clips.depth.device).follow(
        clips.setting.repeat_interleave(frames),
        (part_from_camera.flatten(0, 1), *shared, placed.flatten(0, 1)),
        part.repeat_interleave(frames, 0),
        local.repeat_interleave(frames, 0),
    )
    in_anchor, in_camera = in_anchor.unflatten(0, (batch, frames)), in_camera.unflatten(0, (batch, frames))

    focal, centre = clips.intrinsics[:, 0, 0], clips.intrinsics[:, :2, 2]
    depth = in_camera[:, :, 2].clamp(min=NEAREST_M)
    pixel = in_camera[:, :, :2] / depth[:, :, None] * focal.float()[:, None, None, None] + centre.float()[:, None, :, None]
    inside = (in_camera[:, :, 2] > NEAREST_M) & (pixel > 0).all(2) & (pixel[:, :, 0] < width) & (pixel[:, :, 1] < height)
    visible = inside & clear.reshape(batch, frames, -1)
    visible[:, anchor] = True
    visible &= valid[:, None]
    in_anchor = in_anchor * valid[:, None, None]
    travel = (in_anchor - in_anchor[:, anchor : anchor + 1]).square_()
    travel = (travel[:, :, 0] + travel[:, :, 1] + travel[:, :, 2]).amax(1)
    shape = (batch, frames, height, width)
    return (
        in_anchor.transpose(2, 3).reshape(*shape, 3),
        visible.reshape(shape),
        (travel > MOVES_M**2).reshape(batch, height, width),
    )


@torch.no_grad()
def reconstruction_points(clips: ClipBatch, anchor: int) -> torch.Tensor:
    """Compute the points of every frame at its own time, in the anchor's camera frame: [B, F, H, W, 3] float32, metres.

    Where `clips.valid` is false there is no point, and the value is the camera centre.
    """
    _, _, height, width = clips.depth.shape
    ray = _camera_rays(clips.intrinsics, height, width)
    frames = clips.depth.shape[1]
    in_camera = ray.repeat_interleave(frames, 0) * clips.depth.flatten(0, 1).flatten(1)[:, None]
    anchor_from_camera = torch.linalg.inv(clips.world_from_camera[:, anchor])[:, None] @ clips.world_from_camera
    rows = _rows(anchor_from_camera).float().flatten(0, 1)[..., None].unbind(1)
    return affine_rows(rows, in_camera).transpose(1, 2).reshape(*clips.depth.shape, 3)


def procedural_clip(
    seed: int, config: ProceduralConfig | None = None, *, anchor: int = 0, number: int = 0, device: str | torch.device = "cpu"
) -> ProceduralClip:
    """Render scene `number` of a seed on `device`, with all ground truth as NumPy arrays; deterministic."""
    config = config or ProceduralConfig(num_frames=16)
    clips = render_clips(1, config, seed=seed, first=number, device=device)
    points, visible, moving = (tensor.cpu() for tensor in tracking_points(clips, anchor))
    clips = clips_to(clips, "cpu")
    anchor_from_world = torch.linalg.inv(clips.world_from_camera[:, anchor])
    cameras = (anchor_from_world[:, None] @ clips.world_from_camera)[0]
    cameras[anchor] = torch.eye(4, dtype=cameras.dtype)
    valid = clips.valid[0].numpy()
    return ProceduralClip(
        rgb=clips.rgb[0].numpy(),
        time_s=(np.array(config.times) * (config.num_frames - 1) if config.times else np.arange(config.num_frames))
        / FRAMES_PER_SECOND,
        depth=clips.depth[0].numpy(),
        intrinsics=clips.intrinsics[0].expand(config.num_frames, 3, 3).numpy().copy(),
        world_from_camera=cameras.numpy(),
        tracking_points_world=points[0].numpy(),
        visible=visible[0].numpy(),
        moving=moving[0].numpy(),
        reconstruction_points_world=reconstruction_points(clips, anchor)[0].numpy(),
        tracking_valid=np.broadcast_to(valid[anchor], valid.shape).copy(),
        reconstruction_valid=valid,
        object_index=clips.object_index[0].numpy(),
    )


@dataclass(frozen=True)
class ProceduralClips:
    """Endless source of training clips: clip `index` is scene `index` of the seed, the same every time and in every process."""

    config: ProceduralConfig = field(default_factory=lambda: ProceduralConfig(num_frames=24))
    seed: int = 0
    device: str = "cpu"  # device that renders; the clips are NumPy arrays in any case

    def clip(self, index: int) -> Clip:
        """Return clip `index` (>= 0), with the camera frame of frame 0 as world. Sky pixels of frame 0 have no track."""
        if index < 0:
            raise IndexError(f"clips are numbered from 0, not {index}")
        clip = procedural_clip(self.seed, self.config, number=index, device=self.device)
        arrays = {each.name: getattr(clip, each.name) for each in fields(Clip) if hasattr(clip, each.name)}
        return Clip(name=f"procedural {self.seed}/{index}", **arrays)
