"""2D tracks in pixels of the source video: CSV, keyframes for After Effects, a Tracker node for Nuke, and 3DEqualizer text.

The tracks are those of a grid of anchor pixels, or of query points, projected by the cameras of the scene. Positions in unsolved
frames and behind the camera are left out.

After Effects: keyframe data as the program copies it to the clipboard. 3DEqualizer: the text of its 2D track exporter, which
mmSolver also reads. Nuke: a script with a Tracker4 node, pasted or opened with File > Insert Comp Nodes.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.geometry.camera import project_world
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.io.formats.cameras import camera_frames
from st4rtrack.io.formats.content import choose_pixels, follow
from st4rtrack.io.formats.frames import at_constant_rate
from st4rtrack.io.queries import read_queries, tracks_of_queries
from st4rtrack.scene import Scene

_TRACKER_COLUMNS = """5 1 20 enable e|3 1 75 name name|2 1 58 track_x|2 1 58 track_y|2 1 63 offset_x|2 1 63 offset_y|4 1 27 T|4 1 27 R
4 1 27 S|2 0 45 error|1 1 0 error_min|1 1 0 error_max|1 1 0 pattern_x|1 1 0 pattern_y|1 1 0 pattern_r|1 1 0 pattern_t
1 1 0 search_x|1 1 0 search_y|1 1 0 search_r|1 1 0 search_t|2 1 0 key_track|2 1 0 key_search_x|2 1 0 key_search_y
2 1 0 key_search_r|2 1 0 key_search_t|2 1 0 key_track_x|2 1 0 key_track_y|2 1 0 key_track_r|2 1 0 key_track_t
2 1 0 key_centre_offset_x|2 1 0 key_centre_offset_y"""
"""Columns of the table of a Tracker4 node: type, whether shown, width, name and label (the name if missing)."""


@dataclass(frozen=True)
class Tracks2D:
    """2D tracks in source pixels.

    Attributes:
        pixels_px: [time, tracks, 2] (u, v); NaN where left out.
        visible: [time, tracks] bool, visible and inside the image.
        time_s: [time] seconds.
        rate: frames per second.
        size: (height, width) of the image.
    """

    pixels_px: np.ndarray
    visible: np.ndarray
    time_s: np.ndarray
    rate: float
    size: tuple[int, int]

    @property
    def names(self) -> list[str]:
        """Names of the tracks."""
        return [f"track_{k:04d}" for k in range(self.pixels_px.shape[1])]

    def curve(self, track: int) -> Iterator[tuple[int, float, float]]:
        """Frame, u and v where a track is visible."""
        for frame in np.flatnonzero(self.visible[:, track]).tolist():
            yield frame, *self.pixels_px[frame, track].tolist()


def tracks_2d(scene: Scene, queries: Path | None, max_tracks: int) -> Tracks2D:
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
    return Tracks2D(pixels_px, visible, np.asarray(output.time_s, np.float64), rate, output.source_size)


def write_csv(
    scene: Scene, path: str | Path, *, queries: Path | None = None, max_tracks: int = 400, first_frame: int = 1
) -> None:
    """Write one row per track and frame: frame, time in seconds, track, u, v, visible (1 or 0).

    Args:
        scene: in memory or on disk.
        path: path of the file; replaced if it exists.
        queries: CSV or npz of u,v[,frame] in source pixels; frame 0 is the first exported one. Default: a grid of anchor pixels.
        max_tracks: Maximum number of tracks of the grid.
        first_frame: Number of the first frame.
    Raises:
        UserError: the scene has no cameras or no tracks, or a query is outside the image.
    """
    tracks = tracks_2d(scene, queries, max_tracks)
    with Path(path).open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "time", "track", "u", "v", "visible"])
        for track in range(len(tracks.names)):
            for frame in np.flatnonzero(np.isfinite(tracks.pixels_px[:, track, 0])).tolist():
                u, v = tracks.pixels_px[frame, track]
                visible = int(tracks.visible[frame, track])
                writer.writerow([first_frame + frame, f"{tracks.time_s[frame]:.6f}", track, f"{u:.4f}", f"{v:.4f}", visible])


def write_after_effects(scene: Scene, folder: str | Path, *, queries: Path | None = None, max_tracks: int = 20) -> None:
    """Write one text file per track with keyframes of Transform > Position; the first frame is at 0.

    Args:
        scene: in memory or on disk.
        folder: existing folder; files of these names are replaced.
        queries: CSV or npz of u,v[,frame] in source pixels; frame 0 is the first exported one. Default: a grid of anchor pixels.
        max_tracks: Maximum number of tracks of the grid.
    """
    tracks = tracks_2d(scene, queries, max_tracks)
    height, width = tracks.size
    head = ["Adobe After Effects 8.0 Keyframe Data", "", f"\tUnits Per Second\t{tracks.rate:.6g}"]
    head += [f"\tSource Width\t{width}", f"\tSource Height\t{height}"]
    head += ["\tSource Pixel Aspect Ratio\t1", "\tComp Pixel Aspect Ratio\t1", "", "Transform\tPosition"]
    head += ["\tFrame\tX pixels\tY pixels\tZ pixels\t"]
    for track, name in enumerate(tracks.names):
        rows = [f"\t{frame}\t{u:.4f}\t{v:.4f}\t0\t" for frame, u, v in tracks.curve(track)]
        text = "\r\n".join([*head, *rows, "", "End of Keyframe Data", ""])
        (Path(folder) / f"{name}.txt").write_text(text, encoding="ascii", newline="")


def write_nuke(
    scene: Scene, path: str | Path, *, queries: Path | None = None, max_tracks: int = 100, first_frame: int = 1
) -> None:
    """Write a Nuke script with a Tracker4 node.

    Args:
        scene: in memory or on disk.
        path: path of the file; replaced if it exists.
        queries: CSV or npz of u,v[,frame] in source pixels; frame 0 is the first exported one. Default: a grid of anchor pixels.
        max_tracks: Maximum number of tracks of the grid.
        first_frame: Number of the first frame.
    """
    tracks = tracks_2d(scene, queries, max_tracks)
    height = tracks.size[0]
    columns = [entry.split() for line in _TRACKER_COLUMNS.splitlines() for entry in line.split("|")]
    table = [f"{{ {' '.join(column[:4])} {column[-1]} 1 }}" for column in columns]
    rows = []
    for track, name in enumerate(tracks.names):
        curve = [(first_frame + frame, u, height - v) for frame, u, v in tracks.curve(track)]  # the origin is bottom left
        if not curve:
            continue
        x = " ".join(f"x{frame} {x:.4f}" for frame, x, _ in curve)
        y = " ".join(f"x{frame} {y:.4f}" for frame, _, y in curve)
        first = f"x{curve[0][0]}"
        boxes = "-15 -15 15 15 -10 -10 10 10"
        rows.append(
            f'{{ {{curve K {first} 1}} "{name}" {{curve {x}}} {{curve {y}}} {{curve K {first} 0}} {{curve K {first} 0}} '
            f"1 0 0 {{curve {first} 0}} 1 0 {boxes} {' '.join(['{}'] * 11)} }}"
        )
    lines = ["Tracker4 {", " inputs 0", f" tracks {{ {{ 1 {len(table)} {len(rows)} }}", "{ " + "\n".join(table), "}", "{ "]
    lines += [*rows, "}", "}", f" reference_frame {first_frame}", " name st4rtrack", "}", ""]
    Path(path).write_text("\n".join(lines), encoding="ascii", newline="\n")


def write_3de(
    scene: Scene, path: str | Path, *, queries: Path | None = None, max_tracks: int = 400, first_frame: int = 1
) -> None:
    """Write 2D tracks as 3DEqualizer exports them: per track the name, colour, number of frames, and lines `frame x y`.

    Args:
        scene: in memory or on disk.
        path: path of the file; replaced if it exists.
        queries: CSV or npz of u,v[,frame] in source pixels; frame 0 is the first exported one. Default: a grid of anchor pixels.
        max_tracks: Maximum number of tracks of the grid.
        first_frame: Number of the first frame.
    """
    tracks = tracks_2d(scene, queries, max_tracks)
    height = tracks.size[0]
    lines = [str(len(tracks.names))]
    for track, name in enumerate(tracks.names):
        curve = [f"{first_frame + frame} {u:.4f} {height - v:.4f}" for frame, u, v in tracks.curve(track)]
        lines += [name, "0", str(len(curve)), *curve]
    Path(path).write_text("\n".join([*lines, ""]), encoding="ascii", newline="\n")
