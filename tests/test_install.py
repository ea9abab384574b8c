"""Installation from a clone: `make demo`, the CPU build of PyTorch, and the command `st4rtrack demo`."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from st4rtrack.cli import run as run_module
from tests.conftest import Run

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "st4rtrack/data/demo.mp4"


def test_demo_calls_run_with_the_packaged_clip(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(run_module, "run", lambda video, output, *, results: calls.append((video, output, results)))
    assert run("demo")[0] == run("demo", "-o", "there", "--overwrite")[0] == 0
    assert [(Path(video).read_bytes() == CLIP.read_bytes(), str(output)) for video, output, _ in calls] == [
        (True, "demo_st4rtrack"),
        (True, "there"),
    ]
    assert [(results.export, results.overwrite) for *_, results in calls] == [("ply", False), ("ply", True)]


def test_demo_into_a_used_folder_is_refused_as_by_run(run: Run) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("of the user")
    refusals = [run(*command, "-o", "mine") for command in (["demo"], ["run", CLIP, "--export", "ply"])]
    (code, said), (_, of_run) = refusals
    assert code == 2 and "mine holds other files" in said and said.splitlines()[-1] == of_run.splitlines()[-1]
    assert [path.name for path in Path("mine").iterdir()] == ["notes.txt"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("variables", "command"),
    [
        ([], ".venv/bin/st4rtrack demo"),
        (["VIDEO=my clip.mp4"], '.venv/bin/st4rtrack run "my clip.mp4" --export ply'),
    ],
)
def test_make_demo_installs_for_users_and_runs(variables: list[str], command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("VIDEO", "MAKEFLAGS")}
    options = ["--dry-run", "--always-make", *variables, "demo"]
    done = subprocess.run(["make", *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert command in done.stdout and '".[view,glb]"' in done.stdout and "dev" not in done.stdout.replace("/dev/", "")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Folder of programs that write what they are called with to `calls`; each is replaced by a test as needed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("python", "nvidia-smi", "uname", "uv"):
        program(folder / name, {"uname": "echo Linux", "nvidia-smi": "exit 1", "python": "exit 1"}.get(name, "exit 0"))
    return folder


def program(path: Path, script: str) -> None:
    path.write_text(f'#!/bin/sh\n[ {path.name} = uname ] || echo "{path.name} $*" >>{path.parent}/calls\n{script}\n')
    path.chmod(0o755)


def cpu_torch(machine: Path, **environment: str) -> tuple[str, list[str]]:
    """Runs scripts/cpu_torch.sh: what it printed, and the calls that install something."""
    done = subprocess.run(
        [ROOT / "scripts/cpu_torch.sh", machine / "python"],
        env={"PATH": f"{machine}:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    calls = (machine / "calls").read_text().splitlines() if (machine / "calls").exists() else []
    return done.stdout + done.stderr, [call for call in calls if " install " in call]


posix = pytest.mark.skipif(os.name == "nt", reason="a shell script")
PINNED = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))


@posix
def test_cpu_torch_without_gpu_asks_pip_then_uv(machine: Path) -> None:
    said, installs = cpu_torch(machine)
    assert [call.split()[0] for call in installs] == ["python", "uv"] and "CPU build" in said
    assert installs[0].endswith(f"{PINNED}+cpu") and "--torch-backend cpu" in installs[1] and installs[1].endswith(PINNED)
    program(machine / "python", "[ $3 != show ]")
    (machine / "calls").unlink()
    assert len(cpu_torch(machine)[1]) == 1  # pip found a CPU build


@posix
def test_cpu_torch_no_build_reachable_warns_and_goes_on(machine: Path) -> None:
    program(machine / "uv", "exit 1")
    said, _ = cpu_torch(machine)
    assert "CUDA build" in said.splitlines()[-1] and "docs/install.md" in said


@posix
@pytest.mark.parametrize("case", ["gpu", "GPU=yes", "installed", "macOS"])
def test_cpu_torch_is_not_installed_where_it_is_not_needed(machine: Path, case: str) -> None:
    scripts = {
        "gpu": ("nvidia-smi", "exit 0"),
        "installed": ("python", f"echo 'Version: {PINNED.partition('==')[2]}+cu130'"),
        "macOS": ("uname", "echo Darwin"),
    }
    if case in scripts:
        program(machine / scripts[case][0], scripts[case][1])
    assert cpu_torch(machine, **({"GPU": "yes"} if case == "GPU=yes" else {}))[1] == []


@posix
def test_cpu_torch_gpu_no_overrides_a_detected_gpu(machine: Path) -> None:
    program(machine / "nvidia-smi", "exit 0")
    assert len(cpu_torch(machine, GPU="no")[1]) == 2


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_with_an_old_or_absent_python_ends_in_one_sentence_and_without_an_environment(tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, clone)
    (tmp_path / "old").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "old").chmod(0o755)
    for python in (str(tmp_path / "old"), "python-not-there"):
        done = subprocess.run(["make", f"PYTHON={python}", "demo"], cwd=clone, capture_output=True, text=True)
        assert done.returncode == 2 and f"{python} is missing or older than Python 3.11; name another one" in done.stderr
        assert not (clone / ".venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_environment_that_failed_halfway_is_removed(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text('#!/bin/sh\n[ "$2" = venv ] || exit 0\nmkdir -p .venv/bin; touch .venv/bin/python; exit 1\n')
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run(["make", f"PYTHON={tmp_path}/python", "demo"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and not (tmp_path / ".venv").exists()
