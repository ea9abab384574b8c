"""`st4rtrack view`: interactive viewer of scenes or videos in the browser."""

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from st4rtrack.scene import Scene


def view(
    scenes: tyro.conf.Positional[tuple[str, ...]],
    /,
    host: str = "127.0.0.1",
    port: int = 8080,
    model: str = "tiny",
    uploads: bool = True,
    play: bool = True,
) -> None:
    """View scenes in the browser: points, tracks and cameras over time. Several scenes are shown side by side.

    Args:
        scenes: Scene folders, or a folder of joined scenes; a video file, folder or glob of images is reconstructed first.
        host: Address to listen on; 0.0.0.0 allows other machines.
        port: Port to listen on; 0: any free port.
        model: Model for videos: name (st4rtrack models), checkpoint, model folder or hub id.
        uploads: Accept videos on the page; always off with a public --host.
        play: Start playing at once.
    """
    import tempfile

    from st4rtrack.cli.reporter import answer
    from st4rtrack.types import UserError

    if not scenes:
        raise UserError("name at least one scene folder or video: st4rtrack view SCENE")
    from st4rtrack.view.server import check_can_serve, where_to_look

    check_can_serve(host, port)
    with tempfile.TemporaryDirectory(prefix="st4rtrack_view_") as folder:
        opened = {name: _open(source, Path(folder) / f"{k}", model) for k, (name, source) in enumerate(_named(scenes).items())}

        from st4rtrack.view.viewer import Viewer

        viewer = Viewer(opened, host=host, port=port, playing=play, uploads=uploads, model=model)
        answer(where_to_look(host, viewer.port))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on Ctrl-C is the normal exit
        viewer.wait()


def _named(sources: tuple[str, ...]) -> dict[str, str]:
    """Names of the scenes in the viewer: folder names, or longer parts of the path where those are equal."""
    opened: list[str] = []
    for source in sources:
        inside = [] if (Path(source) / "scene.json").exists() else sorted(Path(source).glob("*/scene.json"))
        opened += [str(file.parent) for file in inside] or [source]
    paths = [Path(source).resolve() for source in opened]
    paths = [path.parent if path.name in ("scene.json", "scene.zarr") else path for path in paths]
    from st4rtrack.render.draw import printable

    names = [printable(path.name) for path in paths]
    if len(set(names)) < len(names):
        names = [printable(f"{path.parent.name}/{path.name}") for path in paths]
    return {f"{name} ({k + 1})" if names.count(name) > 1 else name: source for k, (name, source) in enumerate(zip(names, opened))}


def _open(source: str, folder: Path, model: str) -> "Scene":
    """Open a scene, or reconstruct a video into `folder`."""
    from st4rtrack.cli.progress import Progress
    from st4rtrack.cli.reporter import say
    from st4rtrack.io.images import IMAGE_SUFFIXES
    from st4rtrack.io.scene import load_scene

    path = Path(source)
    is_scene = (path / "scene.json").is_file() or path.name in ("scene.json", "scene.zarr")
    has_images = path.is_dir() and any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.iterdir())
    if is_scene or (not path.is_file() and not has_images and "*" not in source):
        return load_scene(path)  # raises the error for what is neither

    from st4rtrack.view.upload import reconstruct_to_scene

    say(f"reconstructing {source} into a temporary folder; to keep it: st4rtrack run {source}")
    folder.mkdir()
    with Progress() as progress:
        return reconstruct_to_scene(source, folder, model=model, progress=progress, preparation=progress.preparation)
