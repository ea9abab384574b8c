"""What the user knows, on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.io.scene import load_scene
from st4rtrack.io.video import write_video
from tests.conftest import Run


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of four frames with its true depth, cameras and intrinsics beside it."""
    folder = tmp_path_factory.mktemp("known")
    clip = procedural_clip(1, ProceduralConfig(height=64, width=96, num_frames=4))
    write_video(folder / "room.mp4", iter(clip.rgb), fps=10)
    np.savez(folder / "depth.npz", depth=clip.depth)
    np.savez(folder / "cameras.npz", cam_c2w=clip.world_from_camera, intrinsic=clip.intrinsics[0])
    return folder


def test_run_takes_what_is_known_and_says_so(run: Run, clip_folder: Path) -> None:
    given = ["--cameras", clip_folder / "cameras.npz", "--depth", clip_folder / "depth.npz"]
    code, said = run("run", clip_folder / "room.mp4", "--size", 96, "-o", "out", "--device", "cpu", *given)
    assert code == 0, said
    scene, truth = load_scene("out"), np.load(clip_folder / "cameras.npz")
    np.testing.assert_allclose(scene.cameras.world_from_camera, truth["cam_c2w"], atol=1e-6)
    np.testing.assert_allclose(scene.cameras.intrinsics[:], np.tile(truth["intrinsic"], (4, 1, 1)))
    depth = np.load(clip_folder / "depth.npz")["depth"]
    np.testing.assert_allclose(scene.reconstruction.points_world[0][..., 2][depth[0] > 0], depth[0][depth[0] > 0], rtol=1e-5)
    info = json.loads(Path("out/scene.json").read_text())["info"]
    assert info["known"].keys() == {"cameras", "depth"} and info["results"]["units"] == "depth"


@pytest.mark.parametrize(
    "given",
    [
        ["--intrinsics", "wide"],
        ["--cameras", "none.txt"],
        ["--depth", "none.npz"],
        ["--depth-per-unit", "5000"],
        ["--static-mask", "none.png"],
        ["--metres-per-unit", "-1"],
        ["--known-distance", "1,2,3"],
    ],
)
def test_a_mistake_in_what_is_known_ends_in_one_sentence(run: Run, clip_folder: Path, given: list[str]) -> None:
    code, said = run("run", clip_folder / "room.mp4", "--size", 96, "-o", "out", "--device", "cpu", *given)
    assert code == 2 and "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("st4rtrack: ")]) == 1
    assert not Path("out").exists()
