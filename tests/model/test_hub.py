"""Models of the hub that cannot be fetched: the message has the cause and a fix, not the class of the error."""

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from st4rtrack.model.checkpoint import load_model
from st4rtrack.types import UserError


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
    def snapshot_download(repository: str, **_: object) -> str:
        raise error

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError) as raised:
        load_model("org/name", device="cpu")
    return str(raised.value)


def test_repository_without_a_model_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = SimpleNamespace(snapshot_download=lambda *_, **__: str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        UserError, match=r"org/name on the hub has no config\.json and model\.safetensors at its top level; for a"
    ):
        load_model("org/name", device="cpu")
    with pytest.raises(UserError, match="in the folder sub"):
        load_model("org/name:sub", device="cpu")


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub on this machine that refuses everything, as the real one refuses gated repositories."""

    def do_GET(self) -> None:
        self.send_response(403 if "gated" in self.path else 404)
        self.send_header("X-Error-Code", "GatedRepo" if "gated" in self.path else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words"), [("org/gated", "access is restricted"), ("org/none", "there is no such repository")])
def test_answers_of_a_hub_are_understood(tmp_path: Path, name: str, words: str) -> None:
    pytest.importorskip("huggingface_hub")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said = load_from(f"http://127.0.0.1:{server.server_address[1]}", name, tmp_path)
        server.shutdown()
    assert words in said


@pytest.mark.slow
def test_no_hub_at_the_address_is_understood(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    assert "the hub cannot be reached" in load_from("http://127.0.0.1:9", "org/name", tmp_path)


def load_from(endpoint: str, name: str, cache: Path) -> str:
    code = (
        f"import st4rtrack\ntry: st4rtrack.load_model({name!r}, device='cpu')\nexcept st4rtrack.UserError as error: print(error)"
    )
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    environment = {key: value for key, value in environment.items() if key != "HF_HUB_OFFLINE"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
