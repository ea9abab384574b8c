"""Commands for pip in messages: they work as they are printed, whatever is activated and wherever st4rtrack came from."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from st4rtrack.io import installation
from st4rtrack.io.installation import install_extra, pip_install, requirements


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Current folder with a virtual environment in .venv that is not activated."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in ("python", "pip"):
        (tmp_path / ".venv/bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    monkeypatch.setattr(installation, "find_spec", lambda _: object())
    monkeypatch.setenv("PATH", "/nowhere")
    return tmp_path


def test_pip_install_not_activated_names_the_python_of_this_process(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pip_install("usd-core>=24") == '.venv/bin/python -m pip install "usd-core>=24"'
    (environment / "elsewhere").mkdir()
    monkeypatch.chdir(environment / "elsewhere")
    assert pip_install("a") == f'{environment}/.venv/bin/python -m pip install "a"'
    monkeypatch.setenv("PATH", str(environment / ".venv/bin"))
    assert pip_install("a", "b") == 'pip install "a" "b"'


def test_pip_install_without_pip_uses_uv(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda _: None)
    assert pip_install("a") == 'uv pip install --python .venv/bin/python "a"'


def test_pip_install_path_with_blanks_is_quoted(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(environment / "my env/bin/python"))
    assert shlex.split(pip_install("a")) == ["my env/bin/python", "-m", "pip", "install", "a"]


def test_install_extra_names_the_clone_or_the_packages(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_CLONE", environment)
    (environment / "pyproject.toml").touch()
    assert install_extra("usd") == '.venv/bin/python -m pip install ".[usd]"'
    (environment / "pyproject.toml").unlink()
    packages = shlex.split(install_extra("usd"))[4:]
    assert packages == requirements("usd") and packages[0].startswith("usd-core")


def test_install_command_is_accepted_by_pip() -> None:
    done = subprocess.run([*shlex.split(pip_install("st4rtrack")), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "Usage" in done.stdout
