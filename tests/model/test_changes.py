"""Checkpoints that hold only what changed of another."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from st4rtrack.model.checkpoint import BASE_KEY, find_base, load_model, read_info, save_changes, save_model
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import UserError

SMALL = ModelConfig(
    encoder_width=16, encoder_depth=1, encoder_heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2, head="conv"
)
CHANGED = "tracking_head.out.bias"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    (tmp_path / "models").mkdir()
    save_model(St4RTrack(SMALL), tmp_path / "models" / "base.safetensors")
    return tmp_path / "models" / "base.safetensors"


@pytest.fixture
def changes(base: Path, tmp_path: Path) -> Path:
    model = load(base)
    found = find_base(model, base)
    with torch.no_grad():
        model.state_dict()[CHANGED].add_(1.5)
    save_changes(model, tmp_path / "changes.safetensors", base=found, names={CHANGED}, info={"made": "by a test"})
    return tmp_path / "changes.safetensors"


def load(path: Path | str) -> St4RTrack:
    return load_model(path, device="cpu", dtype="float32")


def test_only_what_changed_is_stored_and_the_model_is_whole(base: Path, changes: Path) -> None:
    assert set(load_file(changes)) == {CHANGED}
    assert read_info(changes)["made"] == "by a test"
    before, after = load(base), load(changes)
    assert after.name == "changes" and after.weights_hash != before.weights_hash
    for name, value in after.state_dict().items():
        expected = before.state_dict()[name] + (1.5 if name == CHANGED else 0)
        assert torch.equal(value, expected)


def test_changes_of_the_embedded_model_need_no_file(tmp_path: Path) -> None:
    model = load("tiny")
    save_changes(model, tmp_path / "none.safetensors", base=find_base(model, "tiny"), names=set())
    again = load(tmp_path / "none.safetensors")
    assert again.weights_hash == model.weights_hash


def test_a_base_that_moved_beside_the_changes_is_found(base: Path, changes: Path) -> None:
    base.rename(changes.parent / base.name)
    assert load(changes).config == SMALL


def test_a_missing_base_is_a_sentence(base: Path, changes: Path) -> None:
    base.unlink()
    with pytest.raises(UserError, match=r"only weight changes of base.*not at .*base\.safetensors; put it there"):
        load(changes)


def test_another_base_is_refused(base: Path, changes: Path) -> None:
    torch.manual_seed(1)
    save_model(St4RTrack(SMALL), base)
    with pytest.raises(UserError, match="other weights than"):
        load(changes)


def test_changes_of_changes_are_refused(changes: Path) -> None:
    with pytest.raises(UserError, match="save the whole model"):
        find_base(load(changes), changes)


@pytest.mark.parametrize("source", ["self", "org/name"])
def test_a_header_leads_nowhere_but_to_files(changes: Path, source: str) -> None:
    source = str(changes) if source == "self" else source
    rewrite(changes, json.dumps({"name": "x", "source": source, "hash": "0"}))
    with pytest.raises(UserError, match="only weight changes of"):
        load(changes)


@pytest.mark.parametrize("record", ["{", "[1]", '{"name": "x"}', '{"name": 1, "source": 2, "hash": 3}'])
def test_a_damaged_header_is_a_sentence(changes: Path, record: str) -> None:
    rewrite(changes, record)
    with pytest.raises(UserError, match="is damaged"):
        load(changes)


def rewrite(path: Path, record: str) -> None:
    info = read_info(path)
    save_file(load_file(path), path, metadata={**info, BASE_KEY: record})


def test_a_base_that_is_no_file_is_refused(base: Path) -> None:
    with pytest.raises(UserError, match="not a local file"):
        find_base(load(base), "org/name")
