"""The network as a model of the Hugging Face hub: save, push, load again, model cards; `hubconf.py`."""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

import st4rtrack
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.hub_model import CARD
from st4rtrack.model.named import NAMED
from st4rtrack.model.network import St4RTrack
from tests.loopback_hub import LoopbackHub, use_hub

ROOT = Path(__file__).parents[2]
SMALL = ModelConfig(
    encoder_width=32, encoder_depth=1, encoder_heads=2, decoder_width=32, decoder_depth=2, decoder_heads=2, head="conv"
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub().serving() as served:
        use_hub(monkeypatch, served.url, tmp_path / "cache")
        yield served


def small_model() -> St4RTrack:
    torch.manual_seed(0)
    return St4RTrack(SMALL).eval()


def same_weights(a: St4RTrack, b: St4RTrack) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_save_pretrained_writes_safetensors_config_and_card(tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert json.loads((tmp_path / "saved" / "config.json").read_text()) == SMALL.to_dict()
    for again in (St4RTrack.from_pretrained(tmp_path / "saved"), load_model(tmp_path / "saved", device="cpu", dtype="float32")):
        assert again.config == SMALL and same_weights(again, model) and not again.training


def test_push_to_hub_model_loads_by_its_id(hub: LoopbackHub, tmp_path: Path) -> None:
    model = small_model()
    assert "someone/small" in str(model.push_to_hub("someone/small"))
    assert {name.rpartition("/")[2] for name in hub.files} == {"config.json", "model.safetensors", "README.md"}
    again = St4RTrack.from_pretrained("someone/small", revision="main")
    assert again.name == "someone/small" and same_weights(again, model)
    assert same_weights(load_model("someone/small", device="cpu", dtype="float32"), model)


def test_from_pretrained_takes_names_and_is_on_the_cpu_in_float32() -> None:
    model = st4rtrack.St4RTrack.from_pretrained("tiny")
    assert model.name == "tiny" and model.device.type == "cpu" and model.dtype == torch.float32 and not model.training


def test_model_card_of_the_embedded_model_has_the_format_of_the_hub() -> None:
    card = ModelCard(CARD.read_text(encoding="utf-8"))
    assert (card.data.get("license"), card.data.get("library_name")) == ("apache-2.0", "st4rtrack")
    assert card.data.get("model_name") == "tiny" and len(card.data.get("eval_results") or []) >= 2
    pushed = load_model(device="cpu", dtype="float32").generate_model_card()
    assert pushed.data.get("license") == "apache-2.0" and "](.." not in pushed.content and "What it cannot do" in pushed.content


def test_model_card_states_the_licence_only_of_known_weights() -> None:
    model = small_model()
    card = model.generate_model_card()
    assert card.data.get("license") is None and card.data.get("library_name") == "st4rtrack" and "# untrained" in card.content
    model.name = "dust3r"
    assert model.generate_model_card().data.get("license") == "cc-by-nc-sa-4.0"


def test_hubconf_has_every_named_model() -> None:
    entries = {
        name: value for name, value in runpy.run_path(str(ROOT / "hubconf.py")).items() if name[0] != "_" and callable(value)
    }
    assert entries.keys() == {name.replace("-", "_") for name in NAMED}
    assert "Apache-2.0" in str(entries["tiny"].__doc__) and "non-commercial" in str(entries["st4rtrack"].__doc__)
    model = torch.hub.load(str(ROOT), "tiny", source="local", device="cpu")
    assert isinstance(model, torch.nn.Module) and model.name == "tiny"
