"""`st4rtrack doctor` as a user meets it."""

import re
import tempfile
import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from st4rtrack.doctor import machine, packages, report
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.device import processor
from st4rtrack.model.named import NAMED
from tests.conftest import Run

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
GIB = 2**30


def test_it_says_what_is_here(run: Run) -> None:
    code, said = run("doctor", "--device", "cpu", "--dtype", "float32")
    assert code == 0, said
    for words in (
        "processor",
        "cores",
        "memory",
        "disk",
        "PyTorch",
        "H.264",
        "tiny",
        "2.1 GiB weights (568.8 M, float32)",
        "opencv",
        "st4rtrack-pair",
    ):
        assert words in said, words
    assert processor() in said
    assert re.search(r"^(Problems$|No problems)", said, re.MULTILINE)


def test_what_is_missing_comes_with_its_cure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "unused_nvidia_gpu", lambda: True)
    monkeypatch.setattr(machine, "memory_bytes", lambda: (8 * GIB, GIB // 2))
    monkeypatch.setenv("HF_HUB_CACHE", str(Path(__file__) / "hub"))
    monkeypatch.setattr(machine, "disk_bytes", lambda _: GIB // 10)
    monkeypatch.setattr(packages, "codecs", lambda: {"H.264": True, "AV1": False})
    installed = {"": [packages.Package(Requirement("zarr>=3.0"), "2.18")]}
    installed["view"] = [packages.Package(Requirement("viser>=1.1"), None)]
    monkeypatch.setattr(packages, "packages_of", lambda extra: installed.get(extra, []))
    code, said = run("doctor", "--device", "cpu")
    assert code == 0
    missing = said[said.index("Problems") :]
    for what, fix in (
        ("PyTorch cannot use the NVIDIA GPU", "pytorch.org"),
        ("of memory free", "--size"),
        ("(models of the hub) is not writable", "HF_HOME"),
        ("st4rtrack does not fit", "--size"),
        ("of disk free", "-o"),
        ("AV1", 'install "av" --upgrade'),
        ("zarr>=3.0 is required, installed: 2.18", 'install "zarr>=3.0"'),
    ):
        found = re.search(rf"{re.escape(what)}.*\n    -> .*{re.escape(fix)}", missing)
        assert found, what
    assert re.search(r'missing viser   -> .*pip install ".*\[view\]"', said)


@pytest.mark.parametrize(("difference", "used"), [(0.001, "bfloat16"), (0.3, "float32"), (float("nan"), "float32")])
def test_doctor_reports_the_precision_check(run: Run, monkeypatch: pytest.MonkeyPatch, difference: float, used: str) -> None:
    monkeypatch.setattr(report, "point_difference", lambda *_: difference)
    code, printed = run("doctor", "--device", "cpu", "--dtype", "bfloat16")
    assert code == 0 and f"bfloat16 points differ from float32 points by {difference:.2%}" in printed
    assert f"5.4 M, {used})" in printed and f"568.8 M, {used})" in printed
    assert ("bfloat16 gives wrong points on this machine" in printed) == (used == "float32")


def test_doctor_automatic_precision_of_the_embedded_model_is_float32(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "point_difference", lambda *_: 0.001)
    monkeypatch.setattr("st4rtrack.model.device._fast_bfloat16", lambda _: True)
    assert load_model(device="cpu").dtype == torch.float32
    printed = run("doctor", "--device", "cpu")[1]
    assert re.search(r"tiny .*\n.*weights \(\S+ M, float32\)", printed)
    assert re.search(r"st4rtrack .*\n.*weights \(\S+ M, bfloat16\)", printed)


def test_memory_is_the_same_in_doctor_models_and_documentation(run: Run) -> None:
    listed = {line.split()[0]: line for line in run("models")[1].splitlines()}
    for name, needed in re.findall(r"^  (\S+) +(?:fits|does not fit): needs (\S+ \S+) of", run("doctor")[1], re.MULTILINE):
        assert f"  {needed}  " in listed[name]
    documented = dict(
        re.findall(
            r"^\| `([\w-]+)` \|.* \| ([\d.]+) GiB \|$",
            Path(__file__).parents[2].joinpath("docs/install.md").read_text(),
            re.MULTILINE,
        )
    )
    assert set(documented) == set(NAMED)
    gpu = torch.device("cuda")
    for name, gib in documented.items():
        precision = torch.float32 if name == "tiny" else torch.bfloat16
        assert float(gib) == round(report.MemoryNeed.of(name, gpu, precision).device / GIB, 1)


def test_a_gpu_is_named_and_a_build_without_its_kernels_is_a_lack(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = machine.Gpu("Example 9000", 24 * GIB, 20 * GIB, "13.0", usable=False)
    monkeypatch.setattr(machine, "gpus", lambda: [gpu])
    code, said = run("doctor", "--device", "cpu")
    assert code == 0 and "Example 9000, 20.0 GiB free of 24.0 GiB, capability 13.0" in said
    assert "no kernels for Example 9000" in said


def test_folders_that_others_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "models"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    assert machine.hub_folder() == tmp_path / "models/hub"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert machine.temporary_folder() == tmp_path
    assert not any("writable" in problem for problem, _ in machine.resource_problems())
    (tmp_path / "models").write_text("a file")
    assert any("(models of the hub) is not writable" in problem for problem, _ in machine.resource_problems())


def test_computes_device_without_kernels_false() -> None:
    assert machine.computes("cpu") and not machine.computes("meta")


def test_a_container_has_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"cpu.max": "150000 100000", "memory.max": str(GIB), "memory.current": str(GIB // 4)}
    monkeypatch.setattr(machine, "_text", lambda path: files.get(Path(path).name, ""))
    assert machine.cores() == 1
    assert machine.memory_bytes()[0] == GIB and machine.memory_bytes()[1] <= GIB - GIB // 4


def test_every_extra_for_users_has_a_purpose() -> None:
    assert set(packages.PURPOSES) == set(PROJECT["optional-dependencies"]) - {"all", "export", "dev", "docs"}
    assert {package.name for package in packages.packages_of("")} == {
        re.split("[>=<]", line)[0] for line in PROJECT["dependencies"]
    }


def test_doctor_in_a_deleted_folder_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, said = run("doctor", "--device", "cpu", "--dtype", "float32")
    assert code == 2 and "the current folder was deleted; change to another one" in said


def test_doctor_without_a_home_and_an_installed_package_reports(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(packages, "requirements", lambda _: [])
    code, said = run("doctor", "--device", "cpu", "--dtype", "float32")
    assert code == 0 and "unknown to this installation" in said


def test_mistakes(run: Run) -> None:
    assert run("doctor", "clip.mp4")[0] == 2
    code, said = run("doctor", "--benchmark", "none.mp4", "--device", "cpu")
    assert code == 2 and "none.mp4" in said and not list(Path().iterdir())
    assert run("doctor", "--size", "0")[0] == 2
    assert run("doctor", "--device", "abacus")[0] == 2
