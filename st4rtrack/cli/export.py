"""`st4rtrack export`: a scene in the formats of other tools."""

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


def export(
    scene: tyro.conf.Positional[Path],
    format: tyro.conf.Positional[str],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    stride: int | None = None,
    max_points: int | None = None,
    max_tracks: int | None = None,
    frame: int | None = None,
    branch: Literal["reconstruction", "tracking"] | None = None,
    fps: float | None = None,
    width: int | None = None,
    turn_deg: float | None = None,
    rows: int | None = None,
    dpi: int | None = None,
    title: str | None = None,
    megabytes: float | None = None,
) -> None:
    """Write a scene in another tool's format. Options that are not given are the format's own choice.

    Args:
        scene: Scene folder, as `st4rtrack run` writes it.
        format: ply, ply-sequence, glb, colmap, colmap-text, tum, transforms (nerfstudio), tapvid3d, usd, rerun, html, video, figure.
        output: File or folder to write. Default: beside the scene, with the format's usual ending.
        overwrite: Replace what is there.
        stride: Only every n-th frame.
        max_points: At most so many points: in all (ply, glb, colmap, transforms) or in a frame (ply-sequence, usd, rerun, html).
        max_tracks: At most so many tracks of anchor pixels (glb, tapvid3d, usd, rerun, html).
        frame: Only this frame (ply).
        branch: What each frame shows, or what the anchor shows, as it moves (ply-sequence).
        fps: Pictures per second (video).
        width: Of the picture in pixels (video).
        turn_deg: How far the view turns (video), or from how far beside the cameras it looks (figure).
        rows: How many moments are shown (figure).
        dpi: Pixels per inch (figure).
        title: Of the page (html).
        megabytes: About the largest the page may become (html).
    """
    from st4rtrack.cli.progress import Progress, log_to_stderr
    from st4rtrack.cli.voice import say, wrote
    from st4rtrack.formats import FORMATS, options_of
    from st4rtrack.formats import export as write_export
    from st4rtrack.io.formats.units import lengths
    from st4rtrack.io.scene import load_scene

    log_to_stderr()
    known = options_of(format) if format in FORMATS else []
    asked = {"frame": frame, "branch": branch, "fps": fps, "width": width, "turn_deg": turn_deg}
    asked |= {"rows": rows, "dpi": dpi, "title": title, "megabytes": megabytes}
    asked |= {"max_points": max_points, "max_tracks": max_tracks}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    with Progress("picture") as progress:
        if "progress" in known:
            options["progress"] = progress
        path = write_export(scene, output, format=format, overwrite=overwrite, stride=stride, **options)
    wrote(path)
    say(lengths(load_scene(scene).info))
