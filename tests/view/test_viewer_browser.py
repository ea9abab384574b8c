"""The viewer in a real browser: something is drawn, nothing is fetched from elsewhere, play moves it, a click follows a point."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from tests.synthetic_scene import synthetic_scene
from tests.view.browser import Watch, chromium, picture_of

pytest.importorskip("viser", reason="viser is not installed")

from st4rtrack.geometry.camera import pixel_grid, unproject
from st4rtrack.scene import Scene
from st4rtrack.view.viewer import Viewer

PANEL_PX = 380
VISERS_OWN = ("THREE.Clock", "ERR_FILE_NOT_FOUND", "WebGL", "GPU stall")
"""Warnings of the client that viser ships: a deprecated clock, a picture replaced while it loads, software rendering."""


def ball_scene() -> Scene:
    """A striped wall at depth 2, with a square patch of it that comes nearer and goes across."""
    height, width, frames = 36, 48, 6
    scene = synthetic_scene(frames, height, width)
    scene.anchor_index = 0
    scene.cameras.world_from_camera = np.tile(np.eye(4), (frames, 1, 1))
    scene.cameras.solved = np.ones(frames, bool)
    wall = unproject(pixel_grid(height, width), np.full((height, width), 2.0), scene.cameras.intrinsics[0])
    patch = np.zeros((height, width), bool)
    patch[12:24, 8:20] = True
    way = np.arange(frames)[:, None, None, None] * patch[..., None] * np.array([0.15, 0.0, -0.1])
    scene.tracking.points_world = (wall + way).astype(np.float32)
    scene.reconstruction.points_world = np.tile(wall, (frames, 1, 1, 1)).astype(np.float32)
    scene.tracking.moving = patch
    scene.rgb = np.broadcast_to(np.where(patch[..., None], [250, 120, 0], [90, 110, 160]), (frames, height, width, 3)).astype(
        np.uint8
    )
    return scene


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = 40.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"waited {limit_s} s for {what}"
        time.sleep(0.2)


def test_a_page_that_is_drawn_plays_and_is_clicked() -> None:
    viewer = Viewer({"ball": ball_scene()}, port=0, playing=False)
    try:
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1100, "height": 640})
            watch = Watch(page)

            def canvas() -> np.ndarray:
                return picture_of(page)[120:, : 1100 - PANEL_PX].astype(int)

            def orange() -> np.ndarray:
                """[height, width] bool: the moving patch."""
                red, green, blue = np.moveaxis(canvas(), -1, 0)
                return (red > 180) & (green > 70) & (green < 170) & (blue < 60)

            page.goto(f"http://127.0.0.1:{viewer.port}")
            wait_for(lambda: orange().sum() > 500, "the scene")
            assert (canvas().max(axis=-1) > 60).mean() > 0.1
            viewer.state.set(tracking=True, reconstruction=False, cameras=False, tracks=False)
            time.sleep(1.0)
            before = np.argwhere(orange()).mean(axis=0)

            page.get_by_text("Play", exact=True).click()
            wait_for(lambda: viewer.state.timeline.playing and viewer.state.timeline.frame > 0, "play")
            page.get_by_text("Pause", exact=True).click()
            wait_for(lambda: not viewer.state.timeline.playing, "pause")
            viewer.state.seek(4)
            wait_for(lambda: np.argwhere(orange()).mean(axis=0)[1] > before[1] + 20, "the patch to have gone right")

            row, column = np.median(np.argwhere(orange()), axis=0)
            page.mouse.click(column, row + 120)
            wait_for(lambda: len(viewer.state.paths[0]) == 1, "the click")
            path = viewer.state.paths[0][0]
            assert path.length == pytest.approx(5 * np.hypot(0.15, 0.1), rel=1e-3)
            wait_for(lambda: page.get_by_text("max. speed").count() == 1, "the table")

            own = f"http://127.0.0.1:{viewer.port}"
            assert all(address.startswith((own, "data:", "blob:")) for address in watch.requests), watch.requests
            bad = [text for text in watch.messages if text.startswith(("error", "warning", "pageerror"))]
            assert not [text for text in bad if not any(known in text for known in VISERS_OWN)], bad
    finally:
        viewer.stop()
