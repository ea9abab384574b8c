"""Point clouds as binary PLY, written with NumPy alone.

World frame and world units as they are: x right, y down, z forward, the camera frame of the anchor.
"""

from pathlib import Path

import numpy as np

from st4rtrack.types import Scene, UserError


def write_ply(
    scene: Scene,
    path: str | Path,
    *,
    frame: int | None = None,
    max_points: int = 2_000_000,
    max_frames: int = 100,
    drop_least_sure: float = 0.2,
) -> None:
    """Writes the reconstruction as one coloured point cloud, frame by frame.

    Without `frame`, frames spread evenly over the video are laid over each other, so what moves appears once per frame taken.
    Every frame gives the same number of points, drawn at random (always the same ones) among those that are kept.

    Args:
        scene: in memory or on disk.
        path: of the file; replaced when it exists.
        frame: only this frame.
        max_points: no more than these in the file.
        max_frames: no more frames than these are laid over each other.
        drop_least_sure: share of each frame, 0 to 1, that is left out for its low confidence; what is not finite always is.
    Raises:
        UserError: there is no such frame, or no point is left.
    """
    if frame is not None and not 0 <= frame < len(scene):
        raise UserError(f"there is no frame {frame}: the scene has the frames 0 to {len(scene) - 1}")
    if max_points < 1 or max_frames < 1 or not 0 <= drop_least_sure < 1:
        raise UserError("max_points and max_frames are at least 1, drop_least_sure is from 0 to below 1")
    if frame is None:
        count = min(len(scene), max_frames, max_points)
        frames = np.linspace(0, len(scene) - 1, count).round().astype(int).tolist()
    else:
        frames = [frame]
    random = np.random.default_rng(0)
    total = 0
    with Path(path).open("wb") as file:
        file.write(_header(scene, 0))
        for index in frames:
            vertices = _vertices(scene, index, drop_least_sure)
            if len(vertices) > max_points // len(frames):
                vertices = vertices[np.sort(random.choice(len(vertices), max_points // len(frames), replace=False))]
            file.write(vertices.tobytes())
            total += len(vertices)
        file.seek(0)
        file.write(_header(scene, total))  # of the same length, now that the number is known
    if not total:
        Path(path).unlink()
        raise UserError("no point is left to write: the scene has no finite points in these frames")


def _vertex_type(scene: Scene) -> np.dtype:
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    return np.dtype(fields + ([("confidence", "<f4")] if scene.reconstruction.confidence is not None else []))


def _header(scene: Scene, count: int) -> bytes:
    number = f"element vertex {count}"
    vertex = _vertex_type(scene)
    properties = [f"property {'uchar' if vertex[name] == np.uint8 else 'float'} {name}" for name in vertex.names or ()]
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        "comment St4RTrack reconstruction, world units, x right, y down, z forward",
        "comment " + "-" * (40 - len(number)),  # makes up for the digits of the number
        number,
        *properties,
        "end_header",
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


def _vertices(scene: Scene, index: int, drop_least_sure: float) -> np.ndarray:
    points = np.asarray(scene.reconstruction.points_world[index], np.float32).reshape(-1, 3)
    colours = np.asarray(scene.rgb[index], np.uint8).reshape(-1, 3)
    keep = np.isfinite(points).all(axis=1)
    if scene.reconstruction.valid is not None:
        keep &= np.asarray(scene.reconstruction.valid[index], bool).reshape(-1)
    confidence = None
    if scene.reconstruction.confidence is not None:
        confidence = np.asarray(scene.reconstruction.confidence[index], np.float32).reshape(-1)
        keep &= np.isfinite(confidence)
        if keep.any():
            keep &= confidence >= np.quantile(confidence[keep], drop_least_sure)
    vertices = np.empty(int(keep.sum()), _vertex_type(scene))
    for axis, (position, colour) in enumerate((("x", "red"), ("y", "green"), ("z", "blue"))):
        vertices[position], vertices[colour] = points[keep, axis], colours[keep, axis]
    if confidence is not None:
        vertices["confidence"] = confidence[keep]
    return vertices
