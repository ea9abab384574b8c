"""Tracks for other tools: 3D in the layout of TAPVid-3D and WorldTrack, and 2D in pixels of the source video.

2D tracks are those of a grid of anchor pixels, or of query points, projected by the cameras of the scene. Positions in unsolved
frames and behind the camera are left out.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.geometry.camera import project_world
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io.formats.common import anchor_pinhole, camera_frames, world_from_cameras
from st4rtrack.io.formats.content import choose_pixels, follow
from st4rtrack.io.formats.frames import at_constant_rate
from st4rtrack.io.formats.images import scene_images
from st4rtrack.io.queries import read_queries, tracks_of_queries
from st4rtrack.io.worldtrack import encode_jpeg, write_worldtrack
from st4rtrack.scene import Scene

_TRACKER_COLUMNS = """5 1 20 enable e|3 1 75 name name|2 1 58 track_x|2 1 58 track_y|2 1 63 offset_x|2 1 63 offset_y|4 1 27 T|4 1 27 R
4 1 27 S|2 0 45 error|1 1 0 error_min|1 1 0 error_max|1 1 0 pattern_x|1 1 0 pattern_y|1 1 0 pattern_r|1 1 0 pattern_t
1 1 0 search_x|1 1 0 search_y|1 1 0 search_r|1 1 0 search_t|2 1 0 key_track|2 1 0 key_search_x|2 1 0 key_search_y
2 1 0 key_search_r|2 1 0 key_search_t|2 1 0 key_track_x|2 1 0 key_track_y|2 1 0 key_track_r|2 1 0 key_track_t
2 1 0 key_centre_offset_x|2 1 0 key_centre_offset_y"""
"""Columns of the table of a Tracker4 node: type, whether shown, width, name and label (the name if missing)."""


def write_tapvid3d(scene: Scene, path: str | Path, *, max_tracks: int = 1024) -> None:
    """Write images and the tracks of a grid of anchor pixels, as `bench` and the tools of these data sets read them.

    Tracks are in the camera frame of each frame, `queries_xyt` are their pixels in the anchor and its frame index, cameras are
    camera-from-world with OpenCV axes, intrinsics in pixels of the images.

    Args:
        max_tracks: Maximum number of tracks.
    Raises:
        UserError: the scene has no cameras or no tracks.
    """
    camera_from_world = invert_rigid(world_from_cameras(scene, every_frame=True))
    images, pixels = scene_images(scene), choose_pixels(scene, max_tracks)
    tracks, visibility = (np.stack(part) for part in zip(*follow(scene, pixels)))
    query_px = images.image_map.source_from_network(pixels.centre_px)
    write_worldtrack(
        Path(path),
        images_jpeg=map(encode_jpeg, images.frames(range(len(scene)))),
        fx_fy_cx_cy=anchor_pinhole(scene, images.image_map),
        camera_from_world=camera_from_world,
        visibility=visibility,
        tracks_camera=transform_points(camera_from_world, tracks.astype(np.float64)),
        queries_xyt=np.column_stack([query_px, np.full(len(pixels), scene.anchor_index)]),
    )


@dataclass(frozen=True)
class Tracks2D:
    """2D tracks in source pixels."""

    pixels_px: np.ndarray  # [time, tracks, 2] (u, v); NaN where left out
    visible: np.ndarray  # [time, tracks] bool, visible and inside the image
    time_s: np.ndarray  # [time] seconds
    rate: float  # frames per second
    size: tuple[int, int]  # (height, width) of the image
    first_frame: int  # number of the first frame

    def curves(self) -> Iterator[tuple[str, list[tuple[int, float, float]]]]:
        """Name of each track, and frame number, u and v where it is visible."""
        for track in range(self.pixels_px.shape[1]):
            frames = np.flatnonzero(self.visible[:, track]).tolist()
            yield f"track_{track:04d}", [(self.first_frame + t, *self.pixels_px[t, track].tolist()) for t in frames]


def tracks_2d(scene: Scene, queries: Path | None, max_tracks: int, first_frame: int = 0) -> Tracks2D:
    """2D tracks of query points of a file, or of a grid of at most `max_tracks` anchor pixels.

    Raises:
        UserError: the scene has no cameras or no tracks, or a query is outside the image.
    """
    output, shown, rate = at_constant_rate(scene)
    if queries is None:
        points, visible = (np.stack(part) for part in zip(*follow(output, choose_pixels(output, max_tracks))))
    else:
        tracks, _ = tracks_of_queries(scene, read_queries(Path(queries)))
        points, visible = tracks.points_world[shown], tracks.visible[shown]
    solved = np.isin(np.arange(len(output)), camera_frames(output))
    poses, intrinsics = (np.asarray(a, np.float64) for a in (output.cameras.world_from_camera, output.cameras.intrinsics))
    network_px, _ = project_world(points, poses, intrinsics)
    pixels_px = np.where(solved[:, None, None], output.pixel_map.source_from_network(network_px), np.nan)
    visible = visible & inside_image(pixels_px, *output.source_size)
    return Tracks2D(pixels_px, visible, np.asarray(output.time_s, np.float64), rate, output.source_size, first_frame)


def _csv(tracks: Tracks2D, path: Path) -> None:
    """Write a row per track and frame."""
    with path.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "time", "track", "u", "v", "visible"])
        for track, frame in np.argwhere(np.isfinite(tracks.pixels_px[..., 0]).T).tolist():
            (u, v), visible = tracks.pixels_px[frame, track], int(tracks.visible[frame, track])
            number, time = tracks.first_frame + frame, f"{tracks.time_s[frame]:.6f}"
            writer.writerow([number, time, track, f"{u:.4f}", f"{v:.4f}", visible])


def _after_effects(tracks: Tracks2D, folder: Path) -> None:
    """Write a text file per track with keyframes of Transform > Position, as After Effects copies them to the clipboard."""
    height, width = tracks.size
    head = ["Adobe After Effects 8.0 Keyframe Data", "", f"\tUnits Per Second\t{tracks.rate:.6g}"]
    head += [f"\tSource Width\t{width}", f"\tSource Height\t{height}"]
    head += ["\tSource Pixel Aspect Ratio\t1", "\tComp Pixel Aspect Ratio\t1", "", "Transform\tPosition"]
    head += ["\tFrame\tX pixels\tY pixels\tZ pixels\t"]
    for name, curve in tracks.curves():
        rows = [f"\t{frame}\t{u:.4f}\t{v:.4f}\t0\t" for frame, u, v in curve]
        text = "\r\n".join([*head, *rows, "", "End of Keyframe Data", ""])
        (folder / f"{name}.txt").write_text(text, encoding="ascii", newline="")


def _nuke(tracks: Tracks2D, path: Path) -> None:
    """Write a Nuke script with a Tracker4 node, to paste or to open with File > Insert Comp Nodes."""
    columns = [entry.split() for line in _TRACKER_COLUMNS.splitlines() for entry in line.split("|")]
    table = [f"{{ {' '.join(column[:4])} {column[-1]} 1 }}" for column in columns]
    rows = []
    for name, curve in tracks.curves():
        if not curve:
            continue
        x = " ".join(f"x{frame} {u:.4f}" for frame, u, _ in curve)
        y = " ".join(f"x{frame} {tracks.size[0] - v:.4f}" for frame, _, v in curve)  # the origin is bottom left
        first, boxes = f"x{curve[0][0]}", "-15 -15 15 15 -10 -10 10 10"
        rows.append(
            f'{{ {{curve K {first} 1}} "{name}" {{curve {x}}} {{curve {y}}} {{curve K {first} 0}} {{curve K {first} 0}} '
            f"1 0 0 {{curve {first} 0}} 1 0 {boxes} {' '.join(['{}'] * 11)} }}"
        )
    lines = ["Tracker4 {", " inputs 0", f" tracks {{ {{ 1 {len(table)} {len(rows)} }}", "{ " + "\n".join(table), "}", "{ "]
    lines += [*rows, "}", "}", f" reference_frame {tracks.first_frame}", " name st4rtrack", "}", ""]
    path.write_text("\n".join(lines), encoding="ascii", newline="\n")


def _3de(tracks: Tracks2D, path: Path) -> None:
    """Write the text of 3DEqualizer's 2D track exporter, which mmSolver also reads: name, colour, number of frames, positions."""
    curves = list(tracks.curves())
    lines = [str(len(curves))]
    for name, curve in curves:
        positions = [f"{frame} {u:.4f} {tracks.size[0] - v:.4f}" for frame, u, v in curve]
        lines += [name, "0", str(len(curve)), *positions]
    path.write_text("\n".join([*lines, ""]), encoding="ascii", newline="\n")


def _writer(write: Callable[[Tracks2D, Path], None], max_tracks: int, first_frame: int = 1) -> Callable[..., None]:
    """Writer of a format of 2D tracks, with the options of all such formats."""

    def writer(
        scene: Scene,
        path: str | Path,
        *,
        queries: Path | None = None,
        max_tracks: int = max_tracks,
        first_frame: int = first_frame,
    ) -> None:
        """Write 2D tracks.

        Args:
            queries: CSV or npz file of query points, u,v[,frame] in source pixels. Default: a grid of anchor pixels.
            max_tracks: Maximum number of tracks of the grid.
            first_frame: Number of the first frame.
        Raises:
            UserError: the scene has no cameras or no tracks, or a query is outside the image.
        """
        write(tracks_2d(scene, queries, max_tracks, first_frame), Path(path))

    return writer


write_csv = _writer(_csv, 400)
write_after_effects = _writer(_after_effects, 20, first_frame=0)
write_nuke = _writer(_nuke, 100)
write_3de = _writer(_3de, 400)
