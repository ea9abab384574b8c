"""Models of the hub that cannot be fetched: the message has the cause and a fix, not the class of the error."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import save_file

from st4rtrack.io.video import write_video
from st4rtrack.model.checkpoint import load_model
from st4rtrack.types import UserError
from tests.formula import formula_weights
from tests.loopback_hub import LoopbackHub
from tests.shared_data import shared


class HfHubHTTPError(OSError):
    def __init__(self, status: int | None = None) -> None:
        super().__init__("https://user:secret@hub says no")
        self.response = None if status is None else SimpleNamespace(status_code=status)


class RepositoryNotFoundError(HfHubHTTPError):
    pass


class GatedRepoError(RepositoryNotFoundError):
    pass


class LocalEntryNotFoundError(FileNotFoundError):
    pass


def wrapped(cause: Exception) -> Exception:
    error = LocalEntryNotFoundError("an appropriate snapshot folder")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (GatedRepoError(403), "access is restricted; accept the terms at huggingface.co/org/name, then log in"),
        (RepositoryNotFoundError(401), "there is no such repository, or it is private; check the name"),
        (HfHubHTTPError(404), "there is no such repository"),
        (wrapped(GatedRepoError(401)), "access is restricted"),
        (HfHubHTTPError(403), "access was denied; check the permissions of your token"),
        (HfHubHTTPError(429), "limits the number of requests; wait"),
        (wrapped(HfHubHTTPError(503)), "the hub has a problem; try again later"),
        (wrapped(ConnectionError("refused")), "the hub cannot be reached and the model is not in the cache; check the network"),
        (OSError(28, "No space left on device", "/cache"), "no space is left on the disk at /cache"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_failed_download_names_cause_and_fix(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    message = failure(monkeypatch, error)
    assert message.startswith("could not fetch org/name") and words in message
    assert "secret" not in message and "Error" not in message


def test_offline_mode_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in failure(monkeypatch, wrapped(ConnectionError("offline mode")))


def failure(monkeypatch: pytest.MonkeyPatch, error: Exception) -> str:
    def get_hf_file_metadata(url: str, token: object) -> object:
        raise error

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", get_hf_file_metadata)
    with pytest.raises(UserError) as raised:
        load_model("org/name", device="cpu")
    return str(raised.value)


@pytest.mark.slow
def test_run_with_a_named_model_downloads_resumes_and_runs_offline(tmp_path: Path) -> None:
    """The whole command, against a hub with official names and the config.json of the released DUSt3R, small."""
    config = {"conf_mode": ["exp", 1, float("inf")], "depth_mode": ["exp", -float("inf"), float("inf")], "head_type": "dpt"}
    config |= {"enc_num_heads": 4, "dec_num_heads": 3, "enc_depth": 3, "dec_depth": 10, "img_size": [512, 512], "freeze": "none"}
    config |= {"landscape_only": False, "output_mode": "pts3d", "patch_embed_cls": "PatchEmbedDust3R", "pos_embed": "RoPE100"}
    weights = {k: v for k, v in formula_weights(shared("oracle/model_small_keys.json")).items() if ".layer_rn." not in k}
    save_file(weights, tmp_path / "model.safetensors")
    write_video(tmp_path / "clip.mp4", (np.full((48, 64, 3), 30 * k, np.uint8) for k in range(3)), fps=10)
    hub = LoopbackHub()
    hub.files["yupengchengg147/St4RTrack/config.json"] = json.dumps(config).encode()
    hub.files["yupengchengg147/St4RTrack/model.safetensors"] = (tmp_path / "model.safetensors").read_bytes()

    def run(endpoint: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "st4rtrack", "run", "clip.mp4", "--model", "st4rtrack", "--size", "64", "--overwrite"]
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub")}
        return subprocess.run([*command, "--device", "cpu"], cwd=tmp_path, env=environment, capture_output=True, text=True)

    with hub.serving():
        hub.cuts = [40_000_000, *[0] * 19]
        first = run(hub.url)
        assert first.returncode == 2 and "interrupted at 31.5 MB of 157.0 MB" in first.stderr, (
            first.stderr
        )  # three chunks of 10 MiB
        hub.cuts = []
        second = run(hub.url)
        assert second.returncode == 0 and "non-commercial" in second.stderr and "resuming" in second.stderr, second.stderr
        assert hub.downloads()[-1][1] != ""
    third = run("http://127.0.0.1:9")
    assert third.returncode == 0 and "from the cache: non-commercial" in third.stderr and "loading" not in third.stderr, (
        third.stderr
    )
    assert json.loads((tmp_path / "clip_st4rtrack" / "scene.json").read_text())["info"]["model"]["name"] == "st4rtrack"
