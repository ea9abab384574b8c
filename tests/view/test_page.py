import base64
import dataclasses
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from st4rtrack.io.scene import load_scene, save_scene
from st4rtrack.scene import Scene
from st4rtrack.types import UserError
from st4rtrack.view.page import write_page
from st4rtrack.view.sampling import Budget, chosen_pixels
from tests.synthetic_scene import synthetic_scene
from tests.view.browser import Watch, chromium, picture_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WINDOW = {"width": 780, "height": 420}
STAGE = np.s_[95:350, 0:490]
"""Rows and columns of the screenshot where nothing but the scene is drawn."""


def wavy_scene(num_frames: int = 6, height: int = 36, width: int = 64) -> Scene:
    """A wall in front of the anchor's camera; a square in its middle comes nearer and moves to the right."""
    scene = synthetic_scene(num_frames, height, width)
    v, u = np.mgrid[0.5:height, 0.5:width]
    middle = (np.abs(u - width / 2) < width / 6) & (np.abs(v - height / 2) < height / 6)
    depth = 2 + 0.2 * np.sin(u / 6) + np.where(middle, -0.4, 0)
    wall = np.stack([(u - width / 2) / width * depth, (v - height / 2) / width * depth, depth], axis=-1)
    way = np.linspace(0, 1, num_frames)[:, None, None, None] * [0.6, -0.2, -0.3]
    points = (wall + np.where(middle[..., None], way, 0)).astype(np.float32)
    random = np.random.default_rng(0)
    rgb = np.clip(80 + 60 * np.sin([u / 5, v / 7, u / 9]).transpose(1, 2, 0) + random.normal(0, 6, (num_frames, 1, 1, 3)), 0, 255)
    return dataclasses.replace(
        scene,
        rgb=np.where(middle[..., None], [230, 190, 60], rgb).astype(np.uint8),
        tracking=dataclasses.replace(scene.tracking, points_world=points, moving=middle),
        reconstruction=dataclasses.replace(scene.reconstruction, points_world=points),
        cameras=dataclasses.replace(scene.cameras, solved=np.ones(num_frames, bool)),
    )


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as running:
        yield running


Opened = tuple["Page", Watch]


@pytest.fixture
def opened(browser: "Browser", tmp_path: Path) -> "Iterator[Callable[..., Opened]]":
    """Writes a scene's page and opens it, paused."""
    pages = []

    def open_page(scene: Scene, **options: Any) -> Opened:
        path = tmp_path / "page.html"
        write_page(scene, path, **options)
        page = browser.new_page(viewport=WINDOW, reduced_motion="reduce")  # pyright: ignore[reportArgumentType]
        pages.append(page)
        watch = Watch(page)
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]")
        assert page.is_visible("#picture")
        page.keyboard.press("7")  # it covers a corner of the scene
        assert page.is_hidden("#picture")
        return page, watch

    yield open_page
    for page in pages:
        page.close()


def settle(page: "Page") -> None:
    """Two frames of the screen: what was asked for is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def stage(page: "Page") -> np.ndarray:
    settle(page)
    return picture_of(page)[STAGE].astype(int)


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """Share of pixels that differ by more than noise of compression could."""
    return float((np.abs(after - before).max(axis=-1) > 12).mean())


def header_of(path: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="scene">(.*?)</script>', path.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_opens_quietly_alone_and_not_empty(opened: "Callable[..., Opened]") -> None:
    page, watch = opened(wavy_scene())
    picture = stage(page)
    assert watch.messages == []
    assert len(watch.requests) == 1 and watch.requests[0].startswith("file:")
    assert picture.max(axis=-1).mean() > 60  # the ground has at most 38
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 300
    assert page.title() == "cat.mp4" and page.inner_text("h1") == "cat.mp4"
    assert "6 frames" in page.inner_text("header") and "all 6 frames" in page.inner_text("aside")


def test_play_moves_time_and_picture_and_pauses(opened: "Callable[..., Opened]") -> None:
    page, watch = opened(wavy_scene(num_frames=12))
    page.keyboard.press("Home")
    before, slow = stage(page), page.locator("#speed")
    slow.select_option("0.25")
    page.click("#play")
    for _ in range(100):
        if page.input_value("#time") != "0":
            break
        page.wait_for_timeout(50)
    page.click("#play")
    assert changed(before, stage(page)) > 0.01
    stopped = page.input_value("#time")
    assert stopped != "0"
    page.wait_for_timeout(150)
    assert page.input_value("#time") == stopped
    assert watch.messages == []


def test_plays_by_itself_unless_less_motion_is_wanted(browser: "Browser", tmp_path: Path) -> None:
    write_page(wavy_scene(), tmp_path / "page.html")
    page = browser.new_page(viewport=WINDOW, reduced_motion="no-preference")  # pyright: ignore[reportArgumentType]
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("#play[aria-label=Pause]")
    page.close()


def test_time_line_steps_and_ends(opened: "Callable[..., Opened]") -> None:
    page, _ = opened(wavy_scene())
    page.keyboard.press("End")
    assert page.input_value("#time") == "5" and "frame 5" in page.inner_text("#clock")
    last = stage(page)
    page.keyboard.press("ArrowRight")
    assert page.input_value("#time") == "5"
    page.keyboard.press("ArrowLeft")
    page.click("#back")
    assert page.input_value("#time") == "3"
    page.click("#on")
    assert page.input_value("#time") == "4"
    page.locator("#time").fill("0")
    assert page.inner_text("#clock").startswith("0.00 s") and changed(last, stage(page)) > 0.01


def test_each_layer_changes_the_picture_and_back(opened: "Callable[..., Opened]") -> None:
    page, _ = opened(wavy_scene())
    layers = ("reconstruction", "tracking", "tracks", "cameras")
    for layer in layers:
        page.locator(f"#layer-{layer}").set_checked(False)
    page.locator("#time").fill("5")
    page.mouse.move(180, 200)
    page.mouse.wheel(0, 700)  # the cameras stand where the start view looks from
    empty = stage(page)
    assert len(np.unique(empty.reshape(-1, 3), axis=0)) < 60  # the ground alone
    for layer in layers:
        page.locator(f"#layer-{layer}").set_checked(True)
        assert changed(empty, stage(page)) > 0.002, layer
        page.locator(f"#layer-{layer}").set_checked(False)
    assert changed(empty, stage(page)) == 0


def test_moving_points_only_leaves_less_and_accumulated_shows_more(opened: "Callable[..., Opened]") -> None:
    scene = wavy_scene()
    shift = np.arange(6)[:, None, None, None] * np.array([0.15, 0, 0], np.float32)
    scene.reconstruction.points_world = scene.reconstruction.points_world + shift
    page, _ = opened(scene)
    page.keyboard.press("End")
    one = stage(page)
    page.keyboard.press("2")
    assert page.is_checked("#layer-accumulated") and not page.is_checked("#layer-reconstruction")
    several = stage(page)
    page.keyboard.press("4")
    few = stage(page)
    covered = [(picture.max(axis=-1) > 50).mean() for picture in (few, one, several)]
    assert 0 < covered[0] < 0.7 * covered[1] and covered[1] < covered[2]


def test_sliders_change_points_tails_and_confidence(opened: "Callable[..., Opened]") -> None:
    page, _ = opened(wavy_scene())
    page.keyboard.press("End")
    before = stage(page)
    page.locator("#size").fill("0.3")
    smaller = stage(page)
    assert (smaller.max(axis=-1) > 50).mean() < (before.max(axis=-1) > 50).mean()
    page.locator("#size").fill("1")
    assert changed(before, stage(page)) == 0
    page.locator("#tail").fill("0")
    assert changed(before, stage(page)) > 0.002
    page.locator("#sure").fill("90")
    assert (stage(page).max(axis=-1) > 50).mean() < 0.8 * (before.max(axis=-1) > 50).mean()


def test_orbit_pan_zoom_and_reset(opened: "Callable[..., Opened]") -> None:
    page, _ = opened(wavy_scene())
    start = stage(page)
    drags: tuple[Literal["left", "right"], ...] = ("left", "right")
    for button in drags:
        page.mouse.move(180, 200)
        page.mouse.down(button=button)
        page.mouse.move(240, 240, steps=3)
        page.mouse.up(button=button)
        assert changed(start, stage(page)) > 0.02
        page.keyboard.press("r")
        assert changed(start, stage(page)) == 0
    page.mouse.wheel(0, -400)
    assert changed(start, stage(page)) > 0.02
    page.click("#reset")
    assert changed(start, stage(page)) == 0


def test_through_the_anchors_camera_one_sees_the_anchor(opened: "Callable[..., Opened]") -> None:
    scene = dataclasses.replace(wavy_scene(), anchor_index=0)
    scene.cameras.world_from_camera[:] = np.eye(4)
    page, _ = opened(scene)
    for name in ("tracks", "cameras"):
        page.locator(f"#layer-{name}").set_checked(False)
    page.keyboard.press("Home")
    page.click("#through")
    settle(page)
    window = picture_of(page).astype(int)
    # the 64 x 36 picture fills the free width of the window, in the middle between title and time line
    right = page.evaluate("document.querySelector('aside').getBoundingClientRect().left")
    top, bottom = page.evaluate(
        "['header', 'footer'].map((name) => document.querySelector(name).getBoundingClientRect())"
        ".map((box, k) => k ? box.top : box.bottom)"
    )
    scale = right / 64
    for u, v in ((20.5, 8.5), (32.5, 18.5), (50.5, 14.5), (12.5, 20.5)):
        x, y = scale * u, (top + bottom) / 2 + scale * (v - 18)
        seen = window[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3].reshape(-1, 3).mean(axis=0)
        assert np.abs(seen - scene.rgb[0, int(v), int(u)]).max() < 30


def test_two_fingers_zoom(browser: "Browser", tmp_path: Path) -> None:
    write_page(wavy_scene(), tmp_path / "page.html")
    context = browser.new_context(viewport=WINDOW, has_touch=True, reduced_motion="reduce")  # pyright: ignore[reportArgumentType]
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    start = stage(page)
    fingers = context.new_cdp_session(page)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 90), ("touchEnd", None)):
        points = [] if apart is None else [{"x": 180 + side * apart, "y": 200, "id": k} for k, side in enumerate((-1, 1))]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert changed(start, stage(page)) > 0.02
    context.close()


def test_a_scene_with_gaps_and_without_what_is_optional(opened: "Callable[..., Opened]") -> None:
    scene = wavy_scene()
    scene.tracking.points_world[2:, :10] = np.nan
    scene.reconstruction.points_world[:, :, :5] = np.inf
    scene.tracking.visible = scene.tracking.confidence = scene.tracking.moving = scene.reconstruction.confidence = None
    page, watch = opened(scene)
    assert watch.messages == []
    assert stage(page).max(axis=-1).mean() > 50
    assert page.is_disabled("#sure")


def test_nothing_known_and_one_frame_still_open(opened: "Callable[..., Opened]") -> None:
    scene = synthetic_scene(1)
    scene.tracking.points_world[:] = scene.reconstruction.points_world[:] = np.nan
    _, watch = opened(scene)
    assert watch.messages == []


def test_names_are_text(opened: "Callable[..., Opened]") -> None:
    name = "</title></script><script>window.ran = 1</script><img src=x onerror='window.ran = 2'>{{frames}}.mp4"
    scene = wavy_scene()
    scene.info["source"] = {"name": name}
    scene.info["model"] = {"name": name}
    page, watch = opened(scene)
    assert page.evaluate("window.ran") is None
    assert page.title() == name and page.inner_text("h1") == name
    assert watch.messages == [] and len(watch.requests) == 1


def test_positions_are_kept_to_a_ten_thousandth_of_the_box(tmp_path: Path) -> None:
    scene = wavy_scene()
    write_page(scene, tmp_path / "page.html")
    header, count = header_of(tmp_path / "page.html"), 36 * 64
    packed = re.search(r'id="frame-3">([^<]*)<', (tmp_path / "page.html").read_text())
    assert packed is not None
    content = np.frombuffer(zlib.decompress(base64.b64decode(packed[1])), np.uint8)
    folded = content[: 3 * count].astype(int) * 256 + content[3 * count : 6 * count]
    steps = np.where(folded % 2, -(folded + 1) // 2, folded // 2).reshape(3, 36, 64)
    share = steps.cumsum(axis=1).cumsum(axis=2) / (2 ** header["bits"] - 1)
    points = np.array(header["box"]["low"]) + share.transpose(1, 2, 0) * header["box"]["size"]
    known = content[6 * count : 7 * count].reshape(36, 64) > 0
    assert known.all()
    assert np.abs(points - scene.reconstruction.points_world[3]).max() < 1e-4 * max(header["box"]["size"])


def test_size_budget_holds_even_for_noise(tmp_path: Path) -> None:
    scene = synthetic_scene(8, 144, 256)  # nothing compresses less than random points under random pictures
    path = tmp_path / "page.html"
    write_page(scene, path, megabytes=2.0)
    assert 1.2e6 < path.stat().st_size < 2.0e6
    shown = len(header_of(path)["pixels"]["rows"]) * len(header_of(path)["pixels"]["columns"])
    assert f"with {shown} of 36864 points" in path.read_text()


def test_a_long_video_is_strided_and_read_from_disk(tmp_path: Path) -> None:
    scene = load_scene(save_scene(synthetic_scene(40), tmp_path / "scene"))
    write_page(scene, tmp_path / "page.html", max_frames=10)
    header = header_of(tmp_path / "page.html")
    numbers = [frame["number"] for frame in header["frames"]]
    assert len(numbers) <= 10 and numbers[header["anchor"]] == scene.anchor_index
    assert "of 40 frames" in (tmp_path / "page.html").read_text()


def test_defaults_show_a_grid_within_the_budget(tmp_path: Path) -> None:
    scene = wavy_scene(2)
    write_page(scene, tmp_path / "page.html", max_points=500, max_tracks=20)
    header = header_of(tmp_path / "page.html")
    shown = len(header["pixels"]["rows"]) * len(header["pixels"]["columns"])
    assert shown == len(chosen_pixels(scene, 500)) and len(header["tracks"]) <= 20
    assert Budget().frames == 64


@pytest.mark.parametrize(
    "options", [{"max_frames": 0}, {"max_points": -3}, {"max_tracks": -1}, {"megabytes": 0.0}, {"megabytes": float("nan")}]
)
def test_impossible_numbers_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        write_page(synthetic_scene(), tmp_path / "page.html", **options)
    assert list(tmp_path.iterdir()) == []
