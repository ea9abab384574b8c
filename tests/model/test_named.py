"""Named models against a hub on this machine: download, resume, hashes, refusals, no disk, offline."""

import json
import logging
import resource
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from st4rtrack.cli.main import main
from st4rtrack.model import hub as hub_module
from st4rtrack.model.checkpoint import find_base, load_model, save_changes, save_model
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.named import NAMED
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import UserError
from tests.loopback_hub import LoopbackHub, use_hub

SMALL = ModelConfig(
    encoder_width=256, encoder_depth=1, encoder_heads=4, decoder_width=64, decoder_depth=2, decoder_heads=2, head="conv"
)
REPOSITORY = "yupengchengg147/St4RTrack"
WEIGHTS = f"{REPOSITORY}/model.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small model in the root of the repository of St4RTrack, and another one in Pair/."""
    found = {}
    for seed, folder in enumerate(("", "Pair/")):
        torch.manual_seed(seed)
        path = tmp_path_factory.mktemp("model") / "model.safetensors"
        save_model(St4RTrack(SMALL), path)
        found[f"{REPOSITORY}/{folder}model.safetensors"] = path.read_bytes()
        found[f"{REPOSITORY}/{folder}config.json"] = json.dumps(SMALL.to_dict()).encode()
    assert len(found[WEIGHTS]) > hub_module.LARGE_BYTES
    return found


@pytest.fixture
def hub(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub().serving() as served:
        served.files |= files
        use_hub(monkeypatch, served.url, tmp_path / "cache")
        monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda _: None, time=lambda: 0.0))
        yield served


def load(name: str = "st4rtrack") -> St4RTrack:
    return load_model(name, device="cpu", dtype="float32")


def test_named_model_first_use_downloads_and_names_the_licence(
    hub: LoopbackHub, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("st4rtrack").mkdir()  # as in a clone of this project
    model = load()
    assert model.name == "st4rtrack" and model.config == SMALL
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1 and "non-commercial" in told[0] and REPOSITORY in told[0] and "MB" in told[0]
    pair = load("st4rtrack-pair")
    assert pair.weights_hash != model.weights_hash
    assert [path for path, _ in hub.downloads()] == [f"cdn/{REPOSITORY}/{f}model.safetensors" for f in ("", "Pair/")]


def test_download_token_stays_with_the_hub(hub: LoopbackHub) -> None:
    hub.gated.add(REPOSITORY)
    hub.accepted.add("hf_" + "x" * 34)
    load()
    assert hub.cdn_tokens == [""]


def test_named_model_second_use_needs_no_network(hub: LoopbackHub, caplog: pytest.LogCaptureFixture) -> None:
    first = load()
    hub.asked.clear()
    caplog.clear()
    with caplog.at_level(logging.INFO, "st4rtrack"):
        assert load().weights_hash == first.weights_hash
    assert not hub.asked
    assert len(caplog.messages) == 1 and "from the cache" in caplog.text and "non-commercial" in caplog.text


def test_download_connection_cut_resumes_within_the_call(hub: LoopbackHub, files: dict[str, bytes]) -> None:
    hub.cuts = [300_000, 200_000]
    load()
    assert [span for _, span in hub.downloads()] == ["", "bytes=300000-", "bytes=500000-"]


def test_download_interrupted_resumes_in_the_next_call(
    hub: LoopbackHub, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    hub.cuts = [400_000, *[0] * 19]
    with pytest.raises(UserError, match=r"was interrupted at 0\.4 MB of .* MB; run the same command again to resume"):
        load()
    hub.cuts.clear()
    hub.asked.clear()
    load()
    assert [span for _, span in hub.downloads()] == ["bytes=400000-"]
    assert f"resuming {REPOSITORY}" in caplog.text
    assert not list((tmp_path / "cache").rglob("*.incomplete"))


def test_download_damaged_is_refused_and_fetched_again(hub: LoopbackHub, files: dict[str, bytes]) -> None:
    hub.files[WEIGHTS] = files[WEIGHTS][:-1] + bytes([files[WEIGHTS][-1] ^ 1])
    hub.sha256[WEIGHTS] = "ab" * 32
    with pytest.raises(UserError, match=r"was damaged in the download: SHA-256 is .* must be abababababab"):
        load()
    hub.files[WEIGHTS], hub.sha256 = files[WEIGHTS], {}
    load()


def test_known_hash_other_file_on_the_hub_is_refused_before_the_download(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NAMED, "st4rtrack", replace(NAMED["st4rtrack"], sha256="cd" * 32))
    with pytest.raises(UserError, match="has changed"):
        load()
    assert not hub.downloads()


def test_gated_missing_and_incomplete_repositories_are_named(hub: LoopbackHub) -> None:
    hub.gated.add("naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt")
    with pytest.raises(UserError, match=r"access is restricted; accept the terms at huggingface\.co/naver/DUSt3R"):
        load("dust3r")
    with pytest.raises(UserError, match="there is no such repository"):
        load("monst3r")
    del hub.files[f"{REPOSITORY}/Pair/config.json"]
    with pytest.raises(UserError, match=r"has no config\.json and model\.safetensors in the folder Pair"):
        load("st4rtrack-pair")


def test_no_space_is_named_before_the_download(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"needs .* MB in .*cache, which has 0\.0 MB free; .*HF_HOME"):
        load()
    assert not hub.downloads()


def test_disk_full_during_the_download_resumes(hub: LoopbackHub, files: dict[str, bytes]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, hard))
    try:
        with pytest.raises(UserError, match="may not become larger"):
            load()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    load()
    assert hub.downloads()[-1][1].startswith("bytes=")


def test_unreachable_hub_without_cache_is_named(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    with pytest.raises(UserError, match="the hub cannot be reached"):
        load()


def test_changes_of_a_named_model_load_while_it_is_cached(hub: LoopbackHub, tmp_path: Path) -> None:
    model = load()
    save_changes(model, tmp_path / "changes.safetensors", base=find_base(model, "st4rtrack"), names=[])
    assert load_model(tmp_path / "changes.safetensors", device="cpu").weights_hash == model.weights_hash
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(UserError, match="which is not downloaded; run: st4rtrack models st4rtrack"):
        load_model(tmp_path / "changes.safetensors", device="cpu")


def test_models_command_lists_licences_and_what_is_downloaded(hub: LoopbackHub, capsys: pytest.CaptureFixture) -> None:
    main(["models"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(NAMED) <= set(lines)
    assert all("non-commercial" in lines[name] for name in NAMED if name != "tiny")
    assert " no " in lines["st4rtrack"] and "embedded" in lines["tiny"]
    assert not hub.asked


def test_models_command_names_downloads_them_with_progress_events(hub: LoopbackHub, capsys: pytest.CaptureFixture) -> None:
    main(["models", "st4rtrack", "--json"])
    printed = capsys.readouterr()
    events = [json.loads(line) for line in printed.out.splitlines()]
    assert "Downloading" not in printed.err and "%" not in printed.err
    progress = [event for event in events if event["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] == len(hub.files[WEIGHTS]) and progress[-1]["unit"] == "byte"
    assert any(event["event"] == "warning" and "non-commercial" in event["text"] for event in events)
    main(["models", "--json"])
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    cached = {event["name"]: event["cached"] for event in listed if event["event"] == "model"}
    assert cached["st4rtrack"] and cached["tiny"] and not cached["dust3r"]


def test_models_command_unknown_name_lists_the_names(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["models", "st4rtack"])
    printed = capsys.readouterr().err
    assert end.value.code == 2 and "did you mean st4rtrack?" in printed and "choose from: tiny, st4rtrack" in printed


@pytest.mark.parametrize(("name", "meant"), [("Dust3R", "dust3r"), ("st4rtrack_pair", "st4rtrack-pair"), ("monster", "monst3r")])
def test_load_model_of_a_similar_name_asks_what_was_meant(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"no model '{name}': did you mean {meant}?"):
        load(name)


def test_load_model_of_another_name_suggests_nothing() -> None:
    with pytest.raises(UserError, match="no model 'segment': pass a name"):
        load("segment")


@pytest.mark.parametrize(
    "source", ["org/name:../other", "../name/model", "org/..:a", "org/name:a/../../b", "org/na me", "org/name:"]
)
def test_load_model_of_a_source_that_is_no_hub_id_asks_no_hub(hub: LoopbackHub, source: str) -> None:
    with pytest.raises(UserError, match="no model "):
        load(source)
    assert not hub.asked


@pytest.mark.parametrize("source", ["naïve/modèle", "a--b/c", "org/name-.."])
def test_load_model_of_an_invalid_repository_name_is_one_sentence(hub: LoopbackHub, source: str) -> None:
    with pytest.raises(UserError, match="there is no such repository"):
        load(source)


def test_cache_that_cannot_be_written_is_named(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    use_hub(monkeypatch, hub.url, tmp_path / "file" / "cache")
    with pytest.raises(UserError, match=r"the cache cannot be used at .*file/cache.*HF_HOME"):
        load()
    assert not hub.downloads()


def test_hub_that_answers_with_a_page_is_named_and_nothing_is_cached(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = b"<html>sign in to this network</html>"
    monkeypatch.setattr("tests.loopback_hub._Handler.do_GET", lambda self: self.answer(200, page, {"Content-Type": "text/html"}))
    with pytest.raises(UserError, match="the hub cannot be reached"):
        load()
    assert not list((tmp_path / "cache").rglob("model.safetensors"))


@pytest.mark.parametrize("status", [500, 503, 429, 403])
def test_hub_with_an_error_status_is_named(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr("tests.loopback_hub._Handler.do_GET", lambda self: self.answer(status, b""))
    expected = {429: "limits the number of requests", 403: "access was denied"}.get(status, "the hub has a problem")
    with pytest.raises(UserError, match=expected):
        load()
