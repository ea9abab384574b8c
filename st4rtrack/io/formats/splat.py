"""Export of 3D Gaussians of the static part, as the PLY file of 3D Gaussian splatting; written with NumPy only.

One Gaussian per static point (see `static`), flat on its surface and as wide as the distance to its neighbours there. The frame
is that of the scene: x right, y down, z forward. Colours are spherical harmonics of degree 0.
"""

from pathlib import Path

import numpy as np
from numpy.lib.recfunctions import unstructured_to_structured

from st4rtrack.geometry.transforms import quaternion_from_rotation
from st4rtrack.geometry.vectors import all_finite, dot, length
from st4rtrack.io.formats.static import StaticPoints, static_points
from st4rtrack.io.formats.units import lengths
from st4rtrack.scene import Scene
from st4rtrack.types import UserError

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

    Args:
        scene: in memory or on disk.
        path: path of the `.splat.ply`; replaced if it exists.
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
    properties = [f"property float {name}" for name in vertices.dtype.names or ()]
    comments = ["comment St4RTrack, x right, y down, z forward", f"comment {lengths(scene.info)}"]
    header = ["ply", "format binary_little_endian 1.0", *comments, f"element vertex {len(vertices)}", *properties, "end_header"]
    Path(path).write_bytes(("\n".join(header) + "\n").encode("ascii") + vertices.tobytes())


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
    """Axes [points, 3, 3] of the surface at each point, and the slant [points] by which a pixel is longer along the first.

    The axes are columns: along the slant, across it, and the normal that faces the camera.
    """
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
