import json
import math
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from st4rtrack.model import checkpoint, device
from st4rtrack.model.checkpoint import convert_checkpoint, load_model, read_info, save_model
from st4rtrack.model.config import EMBEDDED, LARGE, ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.model.official import config_from_official, convert_weights, our_key, read_pickle
from st4rtrack.types import UserError
from tests.formula import ARCHITECTURE, formula_image, formula_weights, save_official
from tests.shared_data import shared

SMALL = ModelConfig(
    encoder_width=32, encoder_depth=1, encoder_heads=2, decoder_width=32, decoder_depth=2, decoder_heads=2, head="conv"
)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = formula_weights(shared("oracle/model_small_keys.json"))
    return save_official(tmp_path_factory.mktemp("official") / "small.pth", weights)


def same_output(a: St4RTrack, b: St4RTrack) -> bool:
    images = formula_image(1, 32, 48), formula_image(2, 32, 48)
    with torch.inference_mode():
        return torch.equal(a(*images).tracking.points_world, b(*images).tracking.points_world)


def test_every_key_of_the_released_checkpoint_is_recognised() -> None:
    shapes = {key: tuple(shape) for key, shape in json.loads(shared("oracle/model_large_keys.json").read_text()).items()}
    assert len(shapes) == 1009
    weights = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    converted, notes = convert_weights(weights)
    with torch.device("meta"):
        expected = {key: tuple(value.shape) for key, value in St4RTrack(LARGE).state_dict().items()}
    assert {key: tuple(value.shape) for key, value in converted.items()} == expected
    assert not notes


def test_both_names_of_an_aliased_tensor_mean_one() -> None:
    assert our_key("downstream_head1.dpt.scratch.layer_rn.2.weight") == our_key("downstream_head1.dpt.scratch.layer3_rn.weight")


def test_official_variants_load_alike(official: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = load_model(official, device="cpu", dtype="float32")
    weights = formula_weights(shared("oracle/model_small_keys.json"))
    one_alias = {key: value for key, value in weights.items() if ".layer_rn." not in key}
    mast3r = {**one_alias, "downstream_head1.head_local_features.fc1.weight": torch.zeros(3, 3)}
    mast3r_architecture = ARCHITECTURE.replace("AsymmetricCroCo3DStereo", "AsymmetricMASt3R").replace("'dpt'", "'catmlp+dpt'")
    mast3r_architecture = mast3r_architecture.replace("'pts3d'", "'pts3d+desc24'").replace(
        ", freeze=", ", two_confs=True, freeze="
    )
    for name, content, architecture in (("alias", one_alias, ARCHITECTURE), ("mast3r", mast3r, mast3r_architecture)):
        path = save_official(tmp_path / f"{name}.pth", content, architecture, optimizer={"state": {}}, best_so_far=0.5)
        assert same_output(load_model(path, device="cpu", dtype="float32"), model)
    assert "local-feature" in caplog.text
    prefixed = {f"module.{key}": value for key, value in weights.items()}
    assert same_output(load_model(save_official(tmp_path / "prefixed.pth", prefixed), device="cpu", dtype="float32"), model)


def test_a_missing_second_decoder_is_copied_from_the_first(tmp_path: Path) -> None:
    weights = {
        k: v for k, v in formula_weights(shared("oracle/model_small_keys.json")).items() if not k.startswith("dec_blocks2.")
    }
    model = load_model(save_official(tmp_path / "one.pth", weights), device="cpu", dtype="float32")
    for a, b in zip(model.decoder.tracking_blocks.parameters(), model.decoder.reconstruction_blocks.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_hub_folder_with_official_names_loads(official: Path, tmp_path: Path) -> None:
    weights = {k: v for k, v in formula_weights(shared("oracle/model_small_keys.json")).items() if ".layer_rn." not in k}
    save_file(weights, tmp_path / "model.safetensors")
    options = {
        "enc_num_heads": 4,
        "dec_num_heads": 3,
        "head_type": "dpt",
        "patch_embed_cls": "ManyAR_PatchEmbed",
        "landscape_only": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(options))
    assert same_output(load_model(tmp_path, device="cpu", dtype="float32"), load_model(official, device="cpu", dtype="float32"))


LITERAL = {
    "conf_mode": ["exp", 1, math.inf],
    "depth_mode": ["exp", -math.inf, math.inf],
    "head_type": "dpt",
    "img_size": [512, 512],
}
LITERAL |= {"enc_num_heads": 4, "dec_num_heads": 3, "pos_embed": "RoPE100", "freeze": "none", "landscape_only": False}
STRINGS = {"conf_mode": ["exp", 1, "Infinity"], "depth_mode": ["exp", "-inf", "inf"]}
MAST3R = {"head_type": "catmlp+dpt", "output_mode": "pts3d+desc24", "two_confs": True, "desc_conf_mode": ["exp", 0, math.inf]}
SQUARE = ARCHITECTURE.replace("(512, 288)", "(512, 512)")


@pytest.mark.parametrize(
    "options",
    [
        LITERAL,
        LITERAL | STRINGS,
        LITERAL | MAST3R,
        LITERAL | {"head_type1": "dpt", "patch_embed_cls": "ManyAR_PatchEmbed", "landscape_only": True, "img_size": 512},
        {"model": SQUARE},
        {"args": SQUARE.replace("AsymmetricCroCo3DStereo", "dust3r.model.AsymmetricCroCo3DStereo").replace(", ", ",")},
        {"model": SQUARE.replace("-inf", "-float('inf')").replace("1, inf", "1.0, np.inf")},
    ],
    ids=["released", "strict JSON", "MASt3R", "St4RTrack", "call", "dotted call", "other infinities"],
)
def test_config_json_every_spelling_is_the_same_architecture(options: dict) -> None:
    shapes = json.loads(shared("oracle/model_small_keys.json").read_text())
    weights = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    options = json.loads(json.dumps(options))
    assert config_from_official(options, weights, Path("config.json")) == ModelConfig(
        encoder_width=64, encoder_depth=3, encoder_heads=4, decoder_width=48, decoder_depth=10, decoder_heads=3
    )


@pytest.mark.parametrize("target", ["file.safetensors", "folder"])
def test_convert_gives_the_same_network(official: Path, tmp_path: Path, target: str) -> None:
    written = convert_checkpoint(official, tmp_path / target)
    assert all(path.is_file() for path in written)
    again = load_model(tmp_path / target, device="cpu", dtype="float32")
    original = load_model(official, device="cpu", dtype="float32")
    assert same_output(again, original)
    assert again.weights_hash == original.weights_hash
    with pytest.raises(UserError, match="exists"):
        convert_checkpoint(official, tmp_path / target)
    convert_checkpoint(official, tmp_path / target, overwrite=True)


def test_our_own_format_round_trips(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = St4RTrack(SMALL).eval()
    save_model(model, tmp_path / "ours.safetensors", info={"licence": "Apache-2.0"})
    assert read_info(tmp_path / "ours.safetensors")["licence"] == "Apache-2.0"
    again = load_model(tmp_path / "ours.safetensors", device="cpu", dtype="float32")
    assert again.config == SMALL and again.name == "ours"
    images = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(again(*images).tracking.points_world, model(*images).tracking.points_world)


def test_the_embedded_model_is_the_default_and_is_small() -> None:
    model = load_model(device="cpu", dtype="float32")
    assert model.name == "tiny" and model.config == EMBEDDED
    folder = Path(checkpoint.__file__).parent / "weights"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6


def test_load_model_monocular_head_computes_in_float32_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_fast_bfloat16", lambda _: True)
    assert load_model(device="cpu").dtype == torch.float32


class Evil:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


def test_code_in_a_pickle_is_refused_and_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"a": torch.zeros(1)}, "args": Evil()}, "evil.pth")
    Path("raw.pth").write_bytes(pickle.dumps({"model": Evil()}))
    for name in ("evil.pth", "raw.pth"):
        with pytest.raises(UserError, match=r"not executed|not a model checkpoint"):
            load_model(name)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "architecture",
    [
        ARCHITECTURE.replace("head_type='dpt'", "head_type='linear'"),
        ARCHITECTURE.replace("('exp', 1, inf)", "('sigmoid', 0, 1)"),
        ARCHITECTURE.replace("RoPE100", "cosine"),
        ARCHITECTURE.replace("enc_num_heads=4", "enc_num_heads=7"),
        ARCHITECTURE.replace("AsymmetricCroCo3DStereo", "os.system"),
        ARCHITECTURE.replace("'dpt'", "__import__('os').mkdir('executed')"),
        "(" * 500,
    ],
)
def test_other_architectures_are_refused(tmp_path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = formula_weights(shared("oracle/model_small_keys.json"))
    with pytest.raises(UserError):
        load_model(save_official(tmp_path / "other.pth", weights, architecture))
    assert not Path("executed").exists()


def test_missing_unknown_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    weights = formula_weights(shared("oracle/model_small_keys.json"))
    changes = {
        "lacks": {k: v for k, v in weights.items() if k != "dec_norm.weight"},
        "unknown": {**weights, "extra.weight": torch.zeros(1)},
        "shape": {**weights, "dec_norm.weight": torch.zeros(5)},
    }
    for message, content in changes.items():
        with pytest.raises(UserError, match=message):
            load_model(save_official(tmp_path / f"{message}.pth", content))


def test_what_is_no_checkpoint_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.safetensors").write_text("hello, this is not a checkpoint")
    (tmp_path / "text.pth").write_text("hello, this is not a checkpoint")
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"model": {"a": 1}}, tmp_path / "numbers.pth")
    (tmp_path / "folder").mkdir()
    for name in (
        "empty.pth",
        "text.safetensors",
        "text.pth",
        "plain.safetensors",
        "list.pth",
        "numbers.pth",
        "folder",
        "missing.pth",
    ):
        with pytest.raises(UserError) as caught:
            load_model(tmp_path / name)
        assert "\n" not in str(caught.value)
    future = {**SMALL.to_dict(), "newer_option": 1}
    save_file({"a": torch.zeros(1)}, tmp_path / "newer.safetensors", metadata={"st4rtrack_config": json.dumps(future)})
    with pytest.raises(UserError, match="newer_option"):
        load_model(tmp_path / "newer.safetensors")


def test_dtype_and_device_are_checked() -> None:
    assert load_model(device="cpu", dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(UserError, match="float16"):
        load_model(device="cpu", dtype="float16")
    with pytest.raises(UserError, match="abacus"):
        load_model(device="abacus")


def test_the_hash_is_that_of_the_values(official: Path, tmp_path: Path) -> None:
    convert_checkpoint(official, tmp_path / "a.safetensors")
    weights = load_file(tmp_path / "a.safetensors")
    first = sorted(weights)[0]
    weights[first] = weights[first] + 1e-3
    config = read_info(tmp_path / "a.safetensors")
    save_file(weights, tmp_path / "b.safetensors", metadata=config)
    hashes = [load_model(tmp_path / f"{name}.safetensors", device="cpu", dtype="float32").weights_hash for name in "ab"]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"], ids=["NumPy 1", "NumPy 2"])
def test_checkpoint_with_numpy_scalars_loads(tmp_path: Path, module: str) -> None:
    values = {"best_so_far": np.float64(0.25), "step": np.int64(7), "ok": np.bool_(True), "small": np.float32(1.5)}
    values |= {"name": np.str_("caf\xe9"), "none": np.str_(""), "bytes": np.bytes_(b"ab")}
    path = save_official(tmp_path / "scalars.pth", {"weight": torch.ones(2)}, **values)
    _rename_in_pickle(path, {b"numpy._core.multiarray": module.encode(), b"numpy.core.multiarray": module.encode()})
    content = read_pickle(path)
    assert {name: content[name] for name in values} == values and isinstance(content["best_so_far"], np.float64)
    assert torch.equal(content["model"]["weight"], torch.ones(2))


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"], ids=["NumPy 1", "NumPy 2"])
def test_checkpoint_with_numpy_arrays_loads(tmp_path: Path, module: str) -> None:
    values = {"losses": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "bcd"]), "empty": np.zeros((0, 2), np.uint8)}
    values |= {
        "columns": np.asfortranarray(np.arange(6, dtype=">i4").reshape(3, 2)),
        "random": np.random.MT19937(0).state["state"]["key"],
    }
    path = save_official(tmp_path / "arrays.pth", {"weight": torch.ones(2)}, **values)
    _rename_in_pickle(path, {b"numpy._core.multiarray": module.encode(), b"numpy.core.multiarray": module.encode()})
    content = read_pickle(path)
    for name, value in values.items():
        np.testing.assert_array_equal(content[name], value)
        assert content[name].dtype == value.dtype.newbyteorder("=")


def test_numpy_array_of_objects_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}, "x": np.array([Evil(), {}], object)}, "objects.pth")
    torch.save({"model": {}, "x": np.array([(1, {})], [("a", "i4"), ("b", "O")])}, "fields.pth")
    for name in ("objects.pth", "fields.pth"):
        with pytest.raises(UserError, match=r"is not a model checkpoint|which no model checkpoint needs"):
            read_pickle(Path(name))
    assert not Path("executed").exists()


@pytest.mark.parametrize("dtype", ["O", "V8", "U3"])
def test_numpy_scalar_of_another_kind_or_size_is_refused(tmp_path: Path, dtype: str) -> None:
    class Scalar:
        def __reduce__(self) -> tuple:
            return (np.float64(0).__reduce__()[0], (np.dtype(dtype), b"12345678"))

    torch.save({"model": {}, "x": Scalar()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth is not a model checkpoint|which no model checkpoint needs"):
        read_pickle(tmp_path / "a.pth")


def _rename_in_pickle(path: Path, names: dict[bytes, bytes]) -> None:
    """Replaces names of modules (GLOBAL of protocol 2: a line of text) in the pickle of a PyTorch container."""
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if name.endswith("data.pkl"):
                for old, new in names.items():
                    content = content.replace(b"c" + old + b"\n", b"c" + new + b"\n")
                assert b"multiarray\n" in content
            archive.writestr(name, content)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "folder/model.safetensors"])
def test_git_lfs_pointer_in_place_of_a_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 3000\n")
    (path.parent / "config.json").write_text(json.dumps(SMALL.to_dict()))
    with pytest.raises(UserError, match="is a Git LFS pointer, not the file itself; fetch it with: git lfs pull"):
        load_model(path if name.startswith("a.") else path.parent, device="cpu")
