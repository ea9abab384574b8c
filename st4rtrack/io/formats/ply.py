"""PLY export: point clouds, and the static part as 3D Gaussians; written with NumPy only.

Points are in the world frame and units of the scene: x right, y down, z forward, the camera frame of the anchor.
"""

from pathlib import Path

import numpy as np
from numpy.lib.recfunctions import unstructured_to_structured

from st4rtrack.geometry.transforms import quaternion_from_rotation
from st4rtrack.geometry.vectors import all_finite, dot, length
from st4rtrack.io.formats.common import lengths
from st4rtrack.io.formats.content import (
    DROP_LEAST_SURE,
    Branch,
    PointCloud,
    accumulated_clouds,
    choose_pixels,
    follow,
    read_cloud,
    solved_numbers,
)
from st4rtrack.io.formats.static import StaticPoints, static_points
from st4rtrack.scene import Scene
from st4rtrack.types import UserError


def write_ply(
    scene: Scene,
    path: str | Path,
    *,
    frame: int | None = None,
    max_points: int = 2_000_000,
    max_frames: int = 100,
    drop_least_sure: float = DROP_LEAST_SURE,
) -> None:
    """Write the reconstruction as one coloured point cloud.

    Without `frame`, evenly spaced frames of the video are overlaid, so dynamic objects appear once per frame.
    Every frame contributes at most the same number of points, drawn at random with a fixed seed.

    Args:
        frame: Single frame to write. Default: frames spread over the video.
        max_points: Maximum number of points in the file.
        max_frames: Maximum number of frames that are overlaid.
        drop_least_sure: Share of each frame with the lowest confidence that is left out, 0 to 1.
    Raises:
        UserError: the frame does not exist or is unsolved, a number is out of range, or no point is left.
    """
    clouds = accumulated_clouds(scene, max_points=max_points, max_frames=max_frames, drop_least_sure=drop_least_sure, frame=frame)
    vertex, unit = _vertex_type(with_confidence=scene.reconstruction.confidence is not None), lengths(scene.info)
    total = 0
    with Path(path).open("wb") as file:
        file.write(_header(vertex, 0, unit))
        for cloud in clouds:
            file.write(_vertices(cloud).tobytes())
            total += len(cloud)
        file.seek(0)
        file.write(_header(vertex, total, unit))  # same length, now with the final count
    if not total:
        Path(path).unlink()
        raise UserError("no point is left to write: the scene has no finite points in these frames")


def write_ply_sequence(
    scene: Scene,
    folder: str | Path,
    *,
    branch: Branch = "reconstruction",
    max_points: int = 200_000,
    drop_least_sure: float = DROP_LEAST_SURE,
) -> None:
    """Write one point cloud per frame, `frame_000000.ply` and so on; unsolved frames are left out.

    Args:
        branch: What each frame shows, or the anchor's points over time (vertex k is the same point in every file).
        max_points: Maximum number of points in each file.
        drop_least_sure: Share of a frame (tracking: of the anchor) with the lowest confidence that is left out, 0 to 1.
    Raises:
        UserError: an option is invalid, or no point can be tracked.
    """
    if branch not in ("reconstruction", "tracking"):
        raise UserError(f"branch must be reconstruction or tracking, not {branch!r}")
    if max_points < 1 or not 0 <= drop_least_sure < 1:
        raise UserError("max_points must be at least 1, drop_least_sure from 0 to below 1")
    if branch == "tracking":
        pixels = choose_pixels(scene, max_points, drop_least_sure=drop_least_sure)
        clouds = (PointCloud(points, pixels.colours, None) for points, _ in follow(scene, pixels))
    else:
        clouds = (read_cloud(scene, frame, drop_least_sure).evenly(max_points) for frame in range(len(scene)))
    solved = set(solved_numbers(scene).tolist())
    for frame, cloud in enumerate(clouds):
        if frame in solved:
            write_cloud(cloud, Path(folder) / f"frame_{frame:06d}.ply", lengths(scene.info))


def write_cloud(cloud: PointCloud, path: Path, unit: str) -> None:
    """Write a cloud as a PLY file; `unit` is the comment with the unit of lengths (see `lengths`)."""
    vertices = _vertices(cloud)
    path.write_bytes(_header(vertices.dtype, len(cloud), unit) + vertices.tobytes())


def _vertex_type(*, with_confidence: bool) -> np.dtype:
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    return np.dtype(fields + ([("confidence", "<f4")] if with_confidence else []))


def _vertices(cloud: PointCloud) -> np.ndarray:
    columns = [*cloud.points_world.T, *cloud.colours.T, *([] if cloud.confidence is None else [cloud.confidence])]
    return np.rec.fromarrays(columns, dtype=_vertex_type(with_confidence=cloud.confidence is not None))


def _header(vertex: np.dtype, count: int, unit: str) -> bytes:
    number = f"element vertex {count}"
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        "comment St4RTrack, x right, y down, z forward",
        f"comment {unit}",
        "comment " + "-" * (40 - len(number)),  # pads the header to constant length for any number of digits
        number,
        *(f"property {'uchar' if vertex[name] == np.uint8 else 'float'} {name}" for name in vertex.names or ()),
        "end_header",
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


_SH_DEGREE_0 = 0.28209479177387814
_OPACITY = 0.95
_WIDTH = 0.75
"""Standard deviation of a Gaussian relative to the distance of its neighbours: neighbours overlap without gaps."""
_THICKNESS = 0.1
_MAX_SLANT = 4.0
"""Maximum length of a Gaussian relative to its width: beyond, the surface is seen too obliquely to be measured."""
_FIELDS = ("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity")
_SHAPE = ("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")


def write_splat(scene: Scene, path: str | Path, *, max_points: int = 500_000) -> None:
    """Write the static part as 3D Gaussians, for splat viewers and as a start for training; dynamic objects are left out.

    One Gaussian per static point (see `static`), flat on its surface and as wide as the distance to its neighbours there. Colours
    are spherical harmonics of degree 0.

    Args:
        max_points: Maximum number of Gaussians; fewer are wider.
    Raises:
        UserError: the scene has no cameras, or no static points.
    """
    if max_points < 1:
        raise UserError(f"max_points must be at least 1, not {max_points}")
    points = static_points(scene).thinned(max_points)
    if not len(points):
        raise UserError("this scene has no static points that several frames agree on; export ply or ply-sequence instead")
    vertices = _gaussians(points, *_surface(scene, points))
    Path(path).write_bytes(_header(vertices.dtype, len(vertices), lengths(scene.info)) + vertices.tobytes())


def _gaussians(points: StaticPoints, axes: np.ndarray, slant: np.ndarray) -> np.ndarray:
    """Structured array of the Gaussians of points with surface axes and slant, in the layout of 3D Gaussian splatting."""
    width = _WIDTH * points.spacing
    deviation = np.stack([width * slant, width, width * _THICKNESS], axis=1)
    columns = [
        points.points_world,
        axes[:, :, 2],
        (points.colours / 255 - 0.5) / _SH_DEGREE_0,
        np.full((len(points), 1), np.log(_OPACITY / (1 - _OPACITY))),
        np.log(deviation),
        quaternion_from_rotation(axes),
    ]
    return unstructured_to_structured(
        np.concatenate(columns, axis=1).astype("<f4"), np.dtype([(name, "<f4") for name in (*_FIELDS, *_SHAPE)])
    )


def _surface(scene: Scene, points: StaticPoints) -> tuple[np.ndarray, np.ndarray]:
    """Axes [points, 3, 3] of the surface at each point, and the slant [points] by which a pixel is longer along the first."""
    normals = np.empty_like(points.points_world)
    for frame in np.unique(points.origin[:, 0]):
        own = points.origin[:, 0] == frame
        surface = np.asarray(scene.reconstruction.points_world[int(frame)], np.float64)
        vertical, horizontal = np.gradient(surface, axis=(0, 1))
        normals[own] = np.cross(vertical, horizontal)[points.origin[own, 1], points.origin[own, 2]]
    centres = np.asarray(scene.cameras.world_from_camera, np.float64)[points.origin[:, 0], :3, 3]
    rays = _unit(points.points_world - centres)
    known = all_finite(normals) & (length(normals) > 0)
    normals = _unit(np.where(known[:, None], normals, -rays))
    normals *= np.where(dot(normals, rays) > 0, -1, 1)[:, None]
    across = np.cross(normals, rays)
    facing = length(across) < 1e-6
    across[facing] = np.cross(normals[facing], np.where(np.abs(normals[facing, :1]) < 0.9, [1.0, 0, 0], [0, 1.0, 0]))
    across = _unit(across)
    slant = 1 / np.maximum(np.abs(dot(normals, rays)), 1 / _MAX_SLANT)
    return np.stack([np.cross(across, normals), across, normals], axis=2), slant


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / length(vectors)[:, None]
