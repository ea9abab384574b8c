"""Uploaded videos: reconstructed into a temporary folder one at a time, with progress."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from st4rtrack.scene import Scene
from st4rtrack.types import UserError
from st4rtrack.view.server import LARGEST_UPLOAD_BYTES, limit_uploads

if TYPE_CHECKING:
    from viser import ViserServer

logger = logging.getLogger(__name__)

VIDEO_ENDINGS = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
_LARGEST = f"{LARGEST_UPLOAD_BYTES // 2**20} MB"


class Cancelled(Exception):
    """The user cancelled the reconstruction."""


def reconstruct_to_scene(
    video: str | Path,
    folder: Path,
    *,
    model: str | None,
    progress: Callable[[int, int], None] | None = None,
    preparation: Callable[[float], None] | None = None,
) -> Scene:
    """Reconstruct a video into a scene folder inside `folder`.

    Args:
        video: file, folder or glob of images.
        folder: output folder; it must outlive the scene.
        model: checkpoint, folder or hub id. Default: the embedded model.
        progress, preparation: see `reconstruct`.
    Raises:
        UserError: the video or the model cannot be read.
    """
    from st4rtrack.io.video import open_video

    opened = open_video(str(video))

    from st4rtrack.model.checkpoint import load_model  # import PyTorch only after the cheap checks
    from st4rtrack.pipeline.reconstruct import reconstruct

    network = load_model(model)
    return reconstruct(opened, model=network, output=folder / "scene", progress=progress, preparation=preparation)


def remaining(done: int, total: int, passed_s: float) -> str:
    """Format progress with the remaining time."""
    left_s = passed_s / max(done, 1) * (total - done)
    left = f"{left_s:.0f} s" if left_s < 90 else f"{left_s / 60:.0f} min"
    return f"{done} of {total} frames, {left} left"


class Uploads:
    """Upload controls of the page.

    Args:
        server: server on which they appear.
        folder: folder for videos and their scenes; it must outlive the scenes.
        finished: called with {name: scene} after a reconstruction.
        model: see `reconstruct_to_scene`.
    """

    def __init__(
        self, server: "ViserServer", folder: Path, finished: Callable[[dict[str, Scene]], None], *, model: str | None
    ) -> None:
        self._gui, self._folder, self._finished, self._model = server.gui, folder, finished, model
        self._cancelled = threading.Event()
        self._busy = threading.Lock()
        self._count = 0
        limit_uploads(
            server, LARGEST_UPLOAD_BYTES, lambda name: self._say(f"{name} is larger than {_LARGEST}; use: st4rtrack view FILE")
        )

    def add_controls(self) -> None:
        """Add the controls to the panel."""
        with self._gui.add_folder("Another video", expand_by_default=False):
            self._button = self._gui.add_upload_button(
                "Reconstruct a video", mime_type="video/*", hint=f"Video file of at most {_LARGEST}; kept until the viewer ends."
            )
            self._bar = self._gui.add_progress_bar(0.0, visible=False)
            self._words = self._gui.add_markdown("", visible=False)
            self._stop = self._gui.add_button("Cancel", visible=False)
        self._button.on_upload(lambda _: self.bring(self._button.value.name, self._button.value.content))
        self._stop.on_click(lambda _: self.cancel())

    def cancel(self) -> None:
        """Cancel the running reconstruction, if any."""
        self._cancelled.set()

    def bring(self, name: str, content: bytes) -> None:
        """Reconstruct an uploaded file; blocks until done. Others are refused meanwhile."""
        if not self._busy.acquire(blocking=False):
            self._say("One video at a time: the previous one is still being reconstructed.")
            return
        try:
            self._cancelled.clear()
            self._bar.value, self._bar.visible, self._stop.visible = 0.0, True, True
            scene = self._reconstruct(name, content)
            self._finished({Path(name).stem[:40] or "video": scene})
        except Cancelled:
            self._end("Cancelled.")
        except UserError as error:
            self._end(str(error).replace(str(self._folder), "").lstrip("/"))
        except Exception:
            logger.exception("the video could not be reconstructed")
            self._end("This video could not be reconstructed; see the terminal.")
        finally:
            self._busy.release()

    def _reconstruct(self, name: str, content: bytes) -> Scene:
        ending = Path(name).suffix.lower()
        if ending not in VIDEO_ENDINGS:
            raise UserError(f"{name} does not end in one of {', '.join(VIDEO_ENDINGS)}")
        self._count += 1
        # Never use the file name that a page sends as a path; the file gets a generated name.
        folder = self._folder / f"upload{self._count}"
        folder.mkdir()
        video = folder / f"video{ending}"
        video.write_bytes(content)
        start_s = time.monotonic()

        def progress(done: int, total: int) -> None:
            if self._cancelled.is_set():
                raise Cancelled
            self._bar.value = 100 * done / total
            self._say(remaining(done, total, time.monotonic() - start_s))

        self._say("Loading the model …")
        return reconstruct_to_scene(video, folder, model=self._model, progress=progress)

    def _say(self, text: str) -> None:
        self._words.content, self._words.visible = text, True

    def _end(self, text: str) -> None:
        self._bar.visible = self._stop.visible = False
        self._say(text)
