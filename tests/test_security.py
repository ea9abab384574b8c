"""No file runs code, nothing is fetched that was not named, nothing is said that is nobody's business. See SECURITY.md."""

import ast
import contextlib
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import st4rtrack
from st4rtrack.batch.jobs import Job, Outcome, write_batch_json
from st4rtrack.io.scene import SceneHeader
from st4rtrack.io.scene.description import write_json
from st4rtrack.io.video import write_video
from st4rtrack.types import UserError
from tests.conftest import Run

ROOT = Path(st4rtrack.__file__).parent
TREES = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}

RUNS_CODE = {"eval", "exec", "compile", "__import__"}
"""Functions that make a text a program."""
UNPICKLES = {
    "pickle.load",
    "pickle.loads",
    "dill.load",
    "joblib.load",
    "marshal.load",
    "marshal.loads",
    "shelve.open",
    "torch.hub.load",
}
STARTS = {"os.system", "os.popen", "subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_output"}
NETWORK = {"urllib.request", "http.client", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "gdown", "wget"}
SHOWN = {"https://pytorch.org/get-started/locally"}
"""Addresses that users are told."""
UNPICKLER = Path("io/npz.py")
"""The one file with an unpickler of its own, of an allow-list."""
HUB = {Path("model/hub.py"), Path("model/hub_model.py")}
"""The files that fetch and upload, by the hub's library."""


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Where, what is called ("torch.load"), and the call."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield f"{path}:{node.lineno}", ast.unparse(node.func), node


def imports() -> Iterator[tuple[Path, str]]:
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from ((path, f"{node.module}.{alias.name}") for alias in node.names)


def test_no_text_becomes_a_program_and_no_program_is_started() -> None:
    wrong = [f"{place} calls {name}" for place, name, _ in calls() if name in RUNS_CODE | UNPICKLES | STARTS]
    assert not wrong


def test_checkpoints_and_arrays_are_read_without_unpickling() -> None:
    loads = 0
    for place, name, call in calls():
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name == "torch.load":
            assert keywords.get("weights_only") == "True", place
            loads += 1
        elif name in ("np.load", "numpy.load"):
            assert keywords.get("allow_pickle", "False") == "False", place
            loads += 1
        else:
            assert keywords.get("allow_pickle", "False") == "False", place
    assert loads >= 5


def test_only_the_allow_list_unpickles() -> None:
    for path, tree in TREES.items():
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"}
        assert used <= ({"Unpickler"} if path == UNPICKLER else set()) | {"UnpicklingError"}, path


def test_only_the_hub_library_fetches_and_only_in_one_place() -> None:
    for path, name in imports():
        assert not any(name == module or name.startswith(f"{module}.") for module in NETWORK), f"{path} imports {name}"
        assert not name.startswith("huggingface_hub") or path in HUB, f"{path} imports {name}"
    texts = {text for tree in TREES.values() for text in _texts(tree) if re.match(r"https?://\w", text)}
    assert texts <= SHOWN, "an address that could be fetched"


def _texts(tree: ast.AST) -> Iterator[str]:
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


class Evil:
    """Leaves a file when it is unpickled."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("owned"),))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("model.pth", ["run", "clip.mp4", "--model"]),
        ("model.pth", ["convert", "{}", "out"]),
        ("points.npz", ["run", "clip.mp4", "--queries"]),
        ("video.npz", ["run"]),
        ("state.pt", ["train", "overfit", "--device", "cpu", "--no-compile", "-o", "folder"]),
    ],
)
def test_a_file_with_code_in_it_is_refused_and_nothing_runs(run: Run, tmp_path: Path, name: str, command: list[str]) -> None:
    write_video(Path("clip.mp4"), (np.full((32, 48, 3), 40 * k, np.uint8) for k in range(3)), fps=10)
    Path("folder").mkdir()
    place = Path("folder") / name if "folder" in command else Path(name)
    if place.suffix == ".npz":
        np.savez(place, queries=np.array([Evil()], object), rgb=np.array([Evil()], object))
    else:
        torch.save({"model": Evil(), "version": 1}, place)
    named = [str(place) if part == "{}" else part for part in command]
    code, said = run(*named, *([] if "{}" in command or "folder" in command else [place]))
    assert code == 2 and "Traceback" not in said, said
    assert not Path("owned").exists()
    pickle.loads(pickle.dumps(Evil()))
    assert Path("owned").exists(), "the trap works"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hub's library, replaced by one that remembers what is asked of it and has nothing."""
    asked: list[str] = []

    def get_hf_file_metadata(url: str, token: object) -> str:
        asked.append(url)
        raise OSError("no network https://user:secret@hub hf_abcdefghijklmnopqrst")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", get_hf_file_metadata)
    return asked


@pytest.mark.parametrize(
    "source", ["tiny", "missing.safetensors", "folder/missing.pth", "./org/name", "../x", "https://host/org/name"]
)
def test_nothing_is_fetched_for_what_is_no_hub_id(hub: list[str], source: str) -> None:
    with contextlib.suppress(UserError):
        st4rtrack.load_model(source, device="cpu")
    assert not hub


def test_a_hub_id_is_fetched_by_the_hub_library_and_its_secrets_stay_there(hub: list[str]) -> None:
    with pytest.raises(UserError, match="org/name") as error:
        st4rtrack.load_model("org/name", device="cpu")
    assert [url.rpartition("/resolve/")[0][-9:] for url in hub] == ["/org/name"]
    assert "secret" not in str(error.value) and "hf_" not in str(error.value)


ADDRESS = "https://ann:geheim@host/cat.mp4?token=geheim"


def test_addresses_are_written_without_credentials(run: Run, tmp_path: Path) -> None:
    write_json(tmp_path, SceneHeader(2, 4, 4, info={"source": {"video": ADDRESS}}), complete=False)
    job = Job("cat", ADDRESS, tmp_path)
    write_batch_json(tmp_path, [Outcome.of(job, "failed", reason=f"{ADDRESS} does not exist")])
    for name in ("scene.json", "batch.json"):
        text = (tmp_path / name).read_text()
        assert "host/cat.mp4" in text and "geheim" not in text and "ann" not in text, name
    code, said = run("run", ADDRESS)
    assert code == 2 and "geheim" not in said and "host/cat.mp4" in said


def test_names_out_of_files_cannot_order_the_terminal_about() -> None:
    sentence = str(UserError("array asks to run os\nsystem\x1b[2J, größer; do not trust this file"))
    assert sentence == "array asks to run os\\nsystem\\x1b[2J, größer; do not trust this file"
