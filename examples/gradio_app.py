"""Web app: upload a video, reconstruct it with progress, look at the scene in 3D, download it.

pip install ".[app]"                          (in a clone)
python examples/gradio_app.py [--model MODEL] [--host 127.0.0.1] [--port 7860]
"""

import argparse
import html
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import gradio as gr  # pyright: ignore[reportMissingImports]
import numpy as np

import st4rtrack
from st4rtrack.io.queries import write_tracks
from st4rtrack.io.system_errors import explain
from st4rtrack.view.server import LARGEST_UPLOAD_BYTES
from st4rtrack.view.upload import VIDEO_ENDINGS

DOWNLOADS = ("ply", "glb", "html")
PAGE_MEGABYTES = 10.0
ANCHOR_WIDTH_PX = 768
GRID = (16, 9)
"""Columns and rows of the query points whose tracks are in `tracks.csv`."""


class Callbacks:
    """What the app does, with a network and a folder for scenes and exports."""

    def __init__(self, folder: Path, model: st4rtrack.St4RTrack) -> None:
        self.folder, self.model = folder, model

    def reconstruct(self, video: str | None, seconds: float, fps: float, previous: str | None, progress=gr.Progress()):  # noqa: B008
        """Reconstruct a video: quality report, page, anchor image, exports, and the folder of the session."""
        made = Path(tempfile.mkdtemp(dir=self.folder))
        progress(0.0, desc="Preparing")
        with errors_as_one_sentence(made, video):
            scene = st4rtrack.reconstruct(
                checked(video),
                model=self.model,
                output=made / "scene",
                stop=f"{seconds}s",
                fps=fps,
                progress=lambda done, total: progress((done, total), desc="Reconstructing", unit="frames"),
                preparation=lambda share: progress(share, desc="Preparing"),
            )
            progress(1.0, desc="Writing exports")
            exports = [write_export(scene, made / f"scene.{suffix}") for suffix in DOWNLOADS]
            grid = (np.indices(GRID).reshape(2, -1).T + 0.5) / GRID
            exports.append(tracks_csv(scene, grid, made))
        remove(previous)
        return quality_text(scene), embedded(made / "scene.html"), anchor_image(scene), exports, str(made)

    def track(self, session: str | None, event: gr.SelectData):
        """Track the clicked pixel of the anchor image: a sentence, the track as CSV, and the image with the point."""
        if session is None or not Path(session).is_dir():
            raise gr.Error("the scene was deleted after an hour; reconstruct the video again", print_exception=False)
        made = Path(tempfile.mkdtemp(dir=session))
        with errors_as_one_sentence(made):
            scene = st4rtrack.load_scene(Path(session) / "scene")
            image = anchor_image(scene)
            fraction = (np.array([event.index]) + 0.5) / (image.shape[1], image.shape[0])
            path = tracks_csv(scene, fraction, made)
        for radius, colour in ((7, (0, 0, 0)), (5, (255, 255, 255))):
            cv2.circle(image, event.index, radius, colour, thickness=2, lineType=cv2.LINE_AA)
        return track_text(scene, fraction), path, image


def build_app(folder: Path, model: st4rtrack.St4RTrack | None = None) -> gr.Blocks:
    """Build the app.

    Args:
        folder: folder for scenes and exports; the scene of a session is deleted with the session.
        model: the network; default: the embedded one.
    """
    callbacks = Callbacks(folder, model or st4rtrack.load_model())
    with gr.Blocks(title="st4rtrack", analytics_enabled=False, delete_cache=(600, 3600)) as app:
        gr.Markdown("# st4rtrack\nA video in; dense 3D tracks, geometry and cameras in one world frame out.")
        session = gr.State(None, time_to_live=3600, delete_callback=remove)
        with gr.Row():
            with gr.Column(scale=1):
                video = gr.Video(label="Video", sources=["upload"], height=240)
                seconds = gr.Slider(1, 60, value=10, step=1, label="Seconds to process")
                fps = gr.Slider(1, 60, value=10, step=1, label="Frames per second; surplus frames are dropped")
                start = gr.Button("Reconstruct", variant="primary", elem_id="start")
                quality = gr.Textbox(label="Quality report", lines=3, elem_id="quality")
                downloads = gr.File(label="Downloads", file_count="multiple", interactive=False, elem_id="downloads")
            with gr.Column(scale=2):
                page = gr.HTML(elem_id="page")
                anchor = gr.Image(
                    label="Anchor frame: click a point to track it", interactive=False, height=300, buttons=[], elem_id="anchor"
                )
                answer = gr.Textbox(label="Track of the clicked point", elem_id="track")
                track_file = gr.File(label="Its track", interactive=False)
        start.click(
            callbacks.reconstruct,
            inputs=[video, seconds, fps, session],
            outputs=[quality, page, anchor, downloads, session],
            show_progress_on=[quality],
            api_name="reconstruct",
        )
        anchor.select(callbacks.track, inputs=[session], outputs=[answer, track_file, anchor], api_visibility="private")
    return app.queue(max_size=16)


@contextmanager
def errors_as_one_sentence(made: Path, video: str | None = None) -> Iterator[None]:
    """Show invalid input and errors of the operating system as one sentence without the server's folders; delete the output."""
    try:
        yield
    except Exception as error:
        shutil.rmtree(made, ignore_errors=True)
        sentence = str(error) if isinstance(error, st4rtrack.UserError) else explain(error)
        if sentence is None:
            raise
        for folder in (made, *([Path(video).parent] if video else [])):
            sentence = sentence.replace(f"{folder}{os.sep}", "")
        raise gr.Error(html.escape(sentence, quote=False), duration=None, print_exception=False) from error


def checked(video: str | None) -> Path:
    """The uploaded video, if its suffix is that of a video."""
    if video is None:
        raise st4rtrack.UserError("there is no video; upload one first")
    if not video.lower().endswith(VIDEO_ENDINGS):
        raise st4rtrack.UserError(f"{Path(video).name} must end in one of {', '.join(VIDEO_ENDINGS)}")
    return Path(video)


def write_export(scene: st4rtrack.Scene, path: Path) -> str:
    """Write an export; the page is limited in size because it is also shown."""
    page = path.suffix == ".html"
    return str(st4rtrack.export(scene, path, megabytes=PAGE_MEGABYTES) if page else st4rtrack.export(scene, path))


def anchor_image(scene: st4rtrack.Scene) -> np.ndarray:
    """The anchor frame, enlarged by a whole number: the browser shows a small image small, and it is hard to click."""
    image = np.asarray(scene.rgb[scene.anchor_index])
    factor = max(1, round(ANCHOR_WIDTH_PX / image.shape[1]))
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def tracks_csv(scene: st4rtrack.Scene, fractions: np.ndarray, folder: Path) -> str:
    """Write the tracks of points of the anchor image, [points, 2] as fractions of its width and height."""
    return str(write_tracks(scene, source_px(scene, fractions), folder)[0])


def source_px(scene: st4rtrack.Scene, fractions: np.ndarray) -> np.ndarray:
    """Pixels of the source video, from fractions of the width and height of the processed image."""
    height, width = scene.rgb.shape[1:3]
    return scene.pixel_map.source_from_network(fractions * (width, height))


def track_text(scene: st4rtrack.Scene, fraction: np.ndarray) -> str:
    """One sentence about the track of a point."""
    (u, v), tracks = source_px(scene, fraction)[0], scene.tracks(source_px(scene, fraction))
    length = np.linalg.norm(np.diff(tracks.points_world[:, 0], axis=0), axis=1).sum()
    return (
        f"Pixel ({u:.1f}, {v:.1f}): path of {length:.3f} world units, visible in {tracks.visible.sum()} of {len(scene)} frames."
    )


def quality_text(scene: st4rtrack.Scene) -> str:
    """The quality line and one line per warning."""
    report = scene.quality
    if report is None:
        return "quality: unknown"
    return "\n".join([report.summary(len(scene)), *(f"{warning.code}: {warning.sentence}" for warning in report.warnings)])


def embedded(page: Path) -> str:
    """The page as an element that can run nothing outside itself."""
    content = html.escape(page.read_text(encoding="utf-8"))
    return f'<iframe srcdoc="{content}" sandbox="allow-scripts" style="width: 100%; height: 560px; border: 0"></iframe>'


def remove(folder: str | None) -> None:
    """Delete the files of a session."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def launch(app: gr.Blocks, **options) -> str:
    """Serve the app and return its address; nothing is shared, reported or recorded."""
    return app.launch(
        share=False, run_history=False, ssr_mode=False, footer_links=[], max_file_size=LARGEST_UPLOAD_BYTES, **options
    )[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Web app of st4rtrack.")
    parser.add_argument("--model", help="name, checkpoint, model folder or hub id; default: the embedded model")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all")
    parser.add_argument("--port", type=int, default=7860)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="st4rtrack_app_") as scenes:
        app = build_app(Path(scenes), st4rtrack.load_model(arguments.model))
        print(f"http://{arguments.host}:{arguments.port} (Ctrl+C ends it)", flush=True)
        launch(app, server_name=arguments.host, server_port=arguments.port, quiet=True)
