"""Model folders: what is written is what is read, and what is damaged is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.estimator_batches import gaussian_batch
from lumos.errors import LumosConfigError, LumosDataError
from lumos.files import file_sha256
from lumos.nets.checkpoint import find_model, load_model, read_config, save_model, shipped_models
from lumos.nets.inputs import SideInputs
from lumos.nets.model import FluxModel, ModelConfig
from lumos.nets.settings import PaperSettings, ResidualSettings
from lumos.settings import load_training

NETWORK = {"channels": [4, 6, 8], "hidden": 16}


def new_model(**changes):
    torch.manual_seed(5)
    config = {"name": "small", "architecture": "residual", "kind": "likelihood", "network": NETWORK, **changes}
    return FluxModel.create(ModelConfig(**config))


@pytest.fixture
def folder(tmp_path):
    save_model(new_model(), tmp_path / "small", "# small\n")
    return tmp_path / "small"


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_saved_is_loaded(folder):
    model, again = new_model(), load_model(str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    batch, _ = gaussian_batch()
    inputs = model.inputs(batch, SideInputs())
    for a, b in zip(model.predict(inputs).parameters, again.predict(inputs).parameters, strict=True):
        assert torch.equal(a, b)
    assert again.config == model.config.model_copy(update={"sha256": file_sha256(folder / "model.safetensors")})


@pytest.mark.parametrize("position", [-1, 200])
def test_a_changed_byte_is_refused(folder, position):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(LumosDataError, match=r"model\.safetensors: sha256 differs"):
        load_model(str(folder))


def test_a_truncated_file_is_refused_even_with_its_own_digest(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LumosDataError, match="sha256 differs"):
        load_model(str(folder))
    edit_config(folder, sha256=file_sha256(path))
    with pytest.raises(LumosDataError, match="does not fit"):
        load_model(str(folder))


def test_an_unknown_architecture_is_named(folder):
    edit_config(folder, architecture="transformer")
    with pytest.raises(LumosDataError, match=r"config\.json: architecture: got 'transformer'.*'residual' or 'paper'"):
        load_model(str(folder))


def test_weights_of_another_network_are_refused(folder):
    edit_config(folder, network={**NETWORK, "hidden": 32})
    with pytest.raises(LumosDataError, match="does not fit architecture 'residual'"):
        load_model(str(folder))


def test_unknown_arguments_of_a_network_are_refused(folder):
    edit_config(folder, network={**NETWORK, "depth": 3})
    with pytest.raises(LumosDataError, match=r"unknown key 'network\.depth', allowed: blocks, channels"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("architecture", "network", "message"),
    [
        ("paper", {"hidden": 8}, r"unknown key 'network\.hidden', allowed: dropout, embedding_dim, n_components$"),
        ("paper", {"position": True}, r"unknown key 'network\.position'"),
        ("residual", {"dropout": 0.1}, r"unknown key 'network\.dropout', allowed: blocks"),
        ("residual", {"hidden": 0}, r"network\.hidden: got 0, Input should be greater than or equal to 1"),
        ("residual", {"architecture": "paper"}, "architecture stands beside network, not in it"),
        ("residual", [1], r"network: got \[1\], Input should be a valid dictionary"),
    ],
)
def test_each_architecture_has_its_own_settings(folder, architecture, network, message):
    edit_config(folder, architecture=architecture, network=network)
    with pytest.raises(LumosDataError, match=message):
        load_model(str(folder))


def test_settings_of_networks_are_written_and_read_as_they_were():
    for name in shipped_models():
        config = read_config(name)
        stored = json.loads((find_model(name) / "config.json").read_text())
        written = json.loads(config.model_dump_json())
        assert written["network"] == ResidualSettings().model_dump(mode="json") | stored["network"]
        assert ModelConfig.model_validate(written) == config
    paper = load_training("paper")
    assert paper.network == PaperSettings(n_components=5)
    assert paper.network.position
    assert paper.network.reference
    with pytest.raises(LumosConfigError, match=r"unknown key 'network\.hidden', allowed: dropout"):
        load_training("paper", ["network.hidden=64"])


def test_weights_that_are_not_finite_are_refused(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["head.linear.bias"][2] = torch.nan
    save_file(tensors, path)
    edit_config(folder, sha256=file_sha256(path))
    with pytest.raises(LumosDataError, match=r"head\.linear\.bias holds values that are not finite"):
        load_model(str(folder))


def test_a_model_that_does_not_exist(tmp_path):
    with pytest.raises(LumosConfigError, match="no model 'none'"):
        find_model("none")
    with pytest.raises(LumosConfigError, match=r"or a folder with config\.json"):
        read_config(str(tmp_path))


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_load_and_have_cards(name):
    model = load_model(name)
    assert model.config.name == name
    assert model.config.metrics["pit_ks"] < 0.1
    assert f"# {name}" in (find_model(name) / "README.md").read_text()


def test_shipped_models_are_small():
    size = sum(path.stat().st_size for name in shipped_models() for path in find_model(name).iterdir())
    assert size <= 10_000_000
