"""Interactive viewer in the browser: scenes, control panel, timeline."""

import logging
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from st4rtrack.geometry.sampling import inside_image
from st4rtrack.render.draw import ACCENT
from st4rtrack.scene import Scene
from st4rtrack.types import UserError
from st4rtrack.view.layers import SceneLayers
from st4rtrack.view.panel import PICK_HINT, Panel
from st4rtrack.view.placement import camera_view, read_path
from st4rtrack.view.sampling import FRUSTUM_SHARE, StartView
from st4rtrack.view.server import is_loopback, start_server, stop_server
from st4rtrack.view.stage import Stage
from st4rtrack.view.state import DisplayState, ViewState
from st4rtrack.view.upload import Uploads

if TYPE_CHECKING:
    from viser import ClientHandle, SceneClickEvent

logger = logging.getLogger(__name__)

FASTEST_S = 1 / 24
"""Minimum time between two pictures in seconds: a browser keeps up with this rate."""
IDLE_S = 0.5
PANEL_WIDTH_PX = 340.0


class Viewer:
    """Viewer of scenes in the browser. One thread draws, the panel only changes the state: no backlog behind a slow browser.

    Args:
        scenes: scenes by name, not empty; several are shown side by side.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        playing: whether playback starts at once.
        uploads: whether a page may send a video to be reconstructed; never if others can reach the server.
        model: checkpoint, folder or hub id for uploads. Default: the embedded model.
    Raises:
        UserError: viser is not installed, or the address or port cannot be used.
    """

    def __init__(
        self,
        scenes: dict[str, Scene],
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        playing: bool = True,
        uploads: bool = True,
        model: str | None = None,
    ) -> None:
        self.server = start_server(host, port, title="St4RTrack")
        self._folder = tempfile.TemporaryDirectory(prefix="st4rtrack_view_")
        self._uploads: Uploads | None = None
        if uploads and is_loopback(host):
            self._uploads = Uploads(self.server, Path(self._folder.name), self.show, model=model)
        self._stopped = threading.Event()
        self._stages: list[Stage] = []
        self._drawing = threading.Lock()
        self.server.scene.set_up_direction("-y")
        self.server.scene.world_axes.visible = False
        self.show(scenes, playing=playing)
        self.server.scene.on_click()(self._clicked)
        self._thread = threading.Thread(target=self._draw_all, name="viewer", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Port of the server."""
        return self.server.get_port()

    def show(self, scenes: dict[str, Scene], *, playing: bool = True) -> None:
        """Replace the shown scenes.

        Raises:
            UserError: there is no scene, or one of them has nothing to draw.
        """
        if not scenes:
            raise UserError("the viewer needs at least one scene")
        state = ViewState([SceneLayers(scene, name) for name, scene in scenes.items()])
        with self._drawing:
            for stage in self._stages:
                stage.remove()
            self.server.gui.reset()
            self.server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, brand_color=ACCENT)
            self.server.gui.main_panel.dock_right()
            self.server.gui.main_panel.set_width(PANEL_WIDTH_PX)
            self.state = state
            self._stages = [Stage(self.server, layers, f"scene{k}") for k, layers in enumerate(state.scenes)]
            self._drawn: DisplayState | None = None
            self._panel = Panel(self.server, state, look=self._look, track=self._track_source_pixel)
            if self._uploads is not None:
                self._uploads.add_controls()
        self._set_initial(state.start_view)
        for client in self.server.get_clients().values():
            _aim(client, state.start_view)
        state.play(playing)

    def stop(self) -> None:
        """Stop drawing and the server."""
        self._stopped.set()
        self.state.changed.set()
        self._thread.join(timeout=5)
        if self._uploads is not None:
            self._uploads.cancel()
        stop_server(self.server)
        self._folder.cleanup()

    def wait(self) -> None:
        """Block until Ctrl+C."""
        try:
            while not self._stopped.wait(1.0):
                pass
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def _draw_all(self) -> None:
        """Loop of the drawing thread: draws the latest state; states in between are skipped."""
        while not self._stopped.is_set():
            start_s = time.monotonic()
            try:
                with self._drawing:
                    self._draw(start_s)
            except Exception:
                logger.exception("could not draw the scene")
            pause_s = max(FASTEST_S - (time.monotonic() - start_s), 0.005)
            if self.state.timeline.playing:
                time.sleep(pause_s)
            else:
                self.state.changed.wait(IDLE_S)
            self.state.changed.clear()

    def _draw(self, clock_s: float) -> None:
        state = self.state
        if not self.server.get_clients() and self._drawn is not None:
            return  # no client: pause playback
        moment = state.advance(clock_s)
        if moment == self._drawn:
            self._panel.update()
            return
        with self.server.atomic():
            for which, stage in enumerate(self._stages):
                if which not in state.shown:
                    stage.show(False, stage.placement)
            for which, frame in moment.frames:
                stage = self._stages[which]
                stage.show(True, state.placements[which])
                stage.draw(frame, moment.settings, cameras=not moment.through, paths=state.paths[which])
            self._panel.update()
        if moment.through:
            for client in self.server.get_clients().values():
                self._aim_through(client, moment.frames[0])
        self._drawn = moment

    def _look(self, where: str) -> None:
        """Move all windows to the "start" view, the "anchor"'s camera, or the current frame's "camera"."""
        state = self.state
        state.look_through(where == "camera")
        first = state.shown[0]
        for client in self.server.get_clients().values():
            if where == "start":
                _aim(client, state.start_view)
            elif where == "anchor":
                state.seek(state.scenes[first].scene.anchor_index)
                state.play(False)
                self._aim_through(client, (first, state.scenes[first].scene.anchor_index))

    def _aim_through(self, client: "ClientHandle", camera: tuple[int, int]) -> None:
        which, frame = camera
        view = camera_view(self.state.scenes[which].scene, frame, self.state.placements[which], client.camera.aspect)
        _aim(client, view)

    def _set_initial(self, view: StartView) -> None:
        """Set the initial view of windows opened from now on."""
        camera = self.server.initial_camera
        camera.position, camera.look_at, camera.up, camera.fov = view.eye, view.target, view.up, float(np.deg2rad(view.fov_deg))
        camera.near, camera.far = 0.001, 1000.0

    def _clicked(self, event: "SceneClickEvent") -> None:
        """Follow the point that a click in the scene hits."""
        state = self.state
        depth = FRUSTUM_SHARE if state.settings.cameras and not state.through else 0.0
        hit = state.hit(np.array(event.ray_origin), np.array(event.ray_direction), depth)
        if hit is None:
            self._panel.say("*No point of the anchor here.* " + PICK_HINT)
        else:
            self._track(*hit)

    def _track_source_pixel(self, which: int, source_px: np.ndarray) -> None:
        scene = self.state.scenes[which].scene
        network_px = scene.pixel_map.network_from_source(source_px)
        height, width = scene.rgb.shape[1:3]
        if not inside_image(network_px, height, width):
            self._panel.say("*This pixel is outside the crop that the network processed.*")
            return
        self._track(which, network_px)

    def _track(self, which: int, network_px: np.ndarray) -> None:
        self._panel.say("*Reading the path …*")
        self.state.add_path(which, read_path(self.state.scenes[which].scene, network_px))
        self._panel.say(PICK_HINT)


def _aim(client: "ClientHandle", view: StartView) -> None:
    """Move the camera of one window in a single update."""
    with client.atomic():
        client.camera.position = view.eye
        client.camera.look_at = view.target
        client.camera.up_direction = view.up
        client.camera.fov = float(np.deg2rad(view.fov_deg))
