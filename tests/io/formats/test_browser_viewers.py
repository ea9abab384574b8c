"""Splats in SuperSplat's viewer and animated glTF in three.js, in a browser.

NODE_MODULES names a folder with the packages: npm install --prefix DIR @playcanvas/supersplat-viewer three, NODE_MODULES=DIR/node_modules
"""

import functools
import http.server
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from st4rtrack.geometry.camera import pixel_grid, unproject
from st4rtrack.io.formats.content import choose_pixels
from st4rtrack.io.formats.glb import write_glb
from st4rtrack.io.formats.ply import write_splat
from st4rtrack.scene import Scene
from tests.io.formats.exact_scene import exact_scene
from tests.synthetic_scene import synthetic_scene
from tests.view.browser import chromium, picture_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

HEIGHT, WIDTH, FOCAL = 54, 72, 60.0


def package(name: str) -> Path:
    folder = Path(os.environ.get("NODE_MODULES", "/nonexistent")) / name
    if not folder.is_dir():
        pytest.skip(f"NODE_MODULES has no {name}")
    return folder


@pytest.fixture
def served(tmp_path) -> Iterator[tuple[Path, str]]:
    """A folder and its address."""
    folder = tmp_path / "www"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def wall_scene() -> Scene:
    """A slanted wall with coloured waves before a camera that moves sideways."""
    scene = synthetic_scene(4, HEIGHT, WIDTH)
    scene.anchor_index = 0
    scene.cameras.intrinsics[:] = [[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]
    scene.cameras.world_from_camera[:] = np.eye(4)
    scene.cameras.solved = np.ones(4, bool)
    rays = unproject(pixel_grid(HEIGHT, WIDTH), np.ones((HEIGHT, WIDTH)), scene.cameras.intrinsics[0])
    for frame in range(4):
        centre = np.array([0.05 * frame, 0, 0])
        scene.cameras.world_from_camera[frame, :3, 3] = centre
        wall = centre + rays * (3 / (1 - 0.3 * rays[..., :1]))
        scene.reconstruction.points_world[frame] = wall
        waves = [np.sin(4 * wall[..., 0]), np.sin(5 * wall[..., 1]), np.sin(3 * (wall[..., 0] + wall[..., 1]))]
        scene.rgb[frame] = (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)
    scene.reconstruction.moving = scene.tracking.moving = None
    return scene


def still_picture(page: "Page") -> np.ndarray:
    """The picture [height, width, 3], once it is lit and no longer changes."""
    last, end_s = picture_of(page).astype(int), time.monotonic() + 120
    while time.monotonic() < end_s:
        time.sleep(2)
        picture = picture_of(page).astype(int)
        if picture.std() > 20 and np.abs(picture - last).max() < 8:
            return picture
        last = picture
    raise AssertionError("the viewer shows nothing after 120 s")


def test_splat_in_supersplat_looks_like_the_frame(served) -> None:
    scene, (folder, address) = wall_scene(), served
    shutil.copytree(package("@playcanvas/supersplat-viewer") / "public", folder, dirs_exist_ok=True)
    write_splat(scene, folder / "scene.ply")
    horizontal_deg = float(np.degrees(2 * np.arctan(WIDTH / 2 / FOCAL)))  # the viewer's angle is that of the longer side
    camera = {"initial": {"position": [0, 0, 0], "target": [0, 0, 1], "fov": horizontal_deg}}
    settings = {
        "version": 2,
        "tonemapping": "none",
        "highPrecisionRendering": False,
        "background": {"color": [0, 0, 0]},
        "postEffectSettings": {},
        "animTracks": [],
        "cameras": [camera],
        "annotations": [],
        "startMode": "default",
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 10 * WIDTH, "height": 10 * HEIGHT})
        page.goto(f"{address}/?webgl&noui&noanim&nofx&content=scene.ply&settings=settings.json")
        picture = still_picture(page)
    frame = np.asarray(scene.rgb[0]).repeat(10, axis=0).repeat(10, axis=1).astype(float)
    inner = (slice(30, -30), slice(30, -30))
    error = (picture - frame)[inner]
    psnr = 10 * np.log10(255**2 / (error**2).mean())
    assert (picture[inner].max(axis=-1) > 12).mean() > 0.99
    assert psnr > 22, psnr
    assert psnr > 6 + 10 * np.log10(255**2 / ((picture[:, ::-1] - frame)[inner] ** 2).mean())  # not mirrored


PAGE = """<script type="importmap">{"imports": {"three": "./three/build/three.module.js"}}</script>
<script type="module">
import * as THREE from "three"
import { GLTFLoader } from "./three/examples/jsm/loaders/GLTFLoader.js"
const gltf = await new GLTFLoader().loadAsync("scene.glb")
const mixer = new THREE.AnimationMixer(gltf.scene)
mixer.clipAction(gltf.animations[0]).play()
window.at = (time, names) => {
  mixer.setTime(time)
  gltf.scene.updateMatrixWorld(true)
  return names.map(name => gltf.scene.getObjectByName(name).matrixWorld.toArray())
}
</script>"""


def test_glb_in_three_js_plays_camera_and_tracks(tmp_path, served) -> None:
    scene, (folder, address) = exact_scene(tmp_path), served
    shutil.copytree(package("three"), folder / "three", ignore=shutil.ignore_patterns("src"))
    write_glb(scene, folder / "scene.glb", max_markers=10)
    (folder / "index.html").write_text(PAGE)
    pixels, upright = choose_pixels(scene, 10), np.array([1.0, -1.0, -1.0])
    names = ["camera", *(f"track_{number:06d}" for number in range(len(pixels)))]
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{address}/index.html")
        page.wait_for_function("window.at !== undefined")
        for frame in range(len(scene)):
            time_s = float(scene.time_s[frame] - scene.time_s[0])
            found = page.evaluate("([time, names]) => at(time, names)", [max(time_s - 1e-6, 0), names])
            matrices = np.reshape(found, (-1, 4, 4)).swapaxes(1, 2)
            pose = np.diag([*upright, 1]) @ scene.cameras.world_from_camera[frame] @ np.diag([*upright, 1])
            np.testing.assert_allclose(matrices[0], pose, atol=1e-4)
            tracks = scene.tracking.points_world[frame, pixels.row, pixels.column]
            np.testing.assert_allclose(matrices[1:, :3, 3], tracks * upright, atol=1e-4)
