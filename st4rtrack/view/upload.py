"""A video given to the viewer: reconstructed into a temporary folder, with progress, one at a time."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from st4rtrack.types import Scene, UserError
from st4rtrack.view.server import LARGEST_UPLOAD_BYTES, limit_uploads

if TYPE_CHECKING:
    from viser import ViserServer

logger = logging.getLogger(__name__)

VIDEO_ENDINGS = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
_LARGEST = f"{LARGEST_UPLOAD_BYTES // 2**20} MB"


class Cancelled(Exception):
    """The user does not want this reconstruction any more."""


def reconstruct_to_scene(
    video: str | Path, folder: Path, *, model: str | None, progress: Callable[[int, int], None] | None = None
) -> Scene:
    """Reconstructs a video into a scene folder within `folder`.

    Args:
        video: file, folder or glob of images.
        folder: where the scene may be written; it must outlive the scene.
        model: checkpoint, folder or hub id; default the embedded one.
        progress: called with (frames done, frames in all).
    Raises:
        UserError: the video or the model cannot be read.
    """
    from st4rtrack.io.video import open_video

    opened = open_video(str(video))

    from st4rtrack.model.checkpoint import load_model  # PyTorch comes only after the cheap mistakes
    from st4rtrack.pipeline.reconstruct import reconstruct

    return reconstruct(opened, model=load_model(model), output=folder / "scene", progress=progress)


def remaining(done: int, total: int, passed_s: float) -> str:
    """Progress in words, with the time left."""
    left_s = passed_s / max(done, 1) * (total - done)
    left = f"{left_s:.0f} s" if left_s < 90 else f"{left_s / 60:.0f} min"
    return f"{done} of {total} frames, {left} left"


class Uploads:
    """The page's way to bring a video.

    Args:
        server: where the controls appear.
        folder: where videos and their scenes are written; it must outlive the scenes.
        finished: called with {name: scene} when a video is reconstructed.
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
        """Adds the controls to the panel."""
        with self._gui.add_folder("Another video", expand_by_default=False):
            self._button = self._gui.add_upload_button(
                "Reconstruct a video", mime_type="video/*", hint=f"A file of at most {_LARGEST}; kept until the viewer ends."
            )
            self._bar = self._gui.add_progress_bar(0.0, visible=False)
            self._words = self._gui.add_markdown("", visible=False)
            self._stop = self._gui.add_button("Cancel", visible=False)
        self._button.on_upload(lambda _: self.bring(self._button.value.name, self._button.value.content))
        self._stop.on_click(lambda _: self.cancel())

    def cancel(self) -> None:
        """Gives up the reconstruction that is under way, if any."""
        self._cancelled.set()

    def bring(self, name: str, content: bytes) -> None:
        """Reconstructs an uploaded file; returns when that is done. While one is under way, others are refused."""
        if not self._busy.acquire(blocking=False):
            self._say("One video at a time: the one before is still being reconstructed.")
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
            self._end("This video could not be reconstructed; the terminal says why.")
        finally:
            self._busy.release()

    def _reconstruct(self, name: str, content: bytes) -> Scene:
        ending = Path(name).suffix.lower()
        if ending not in VIDEO_ENDINGS:
            raise UserError(f"{name} does not end in one of {', '.join(VIDEO_ENDINGS)}")
        self._count += 1
        # The name a page sends is only words; what is written has a name of ours.
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
