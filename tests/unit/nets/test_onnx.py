"""The exported network gives the same mixtures."""

import numpy as np
import pytest
import torch

from lumos.errors import LumosConfigError
from lumos.nets.model import FluxModel, ModelConfig
from lumos.nets.onnx import export_onnx

runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(("bands", "scene"), [((), False), (("g", "r", "i"), False), ((), True)])
def test_exported_network_gives_the_same_mixtures(tmp_path, bands, scene):
    torch.manual_seed(8)
    network = {"channels": [4, 6, 8], "hidden": 16, "position": bool(bands), "scene": scene, "fovea": scene}
    about = {"name": "small", "architecture": "residual", "kind": "likelihood", "input_version": 2 if scene else 1}
    config = ModelConfig(network=network, bands=bands, **about)
    model = FluxModel.create(config)
    torch.nn.init.normal_(model.network.head.linear.weight, std=0.1)
    export_onnx(model, tmp_path / "small.onnx")
    session = runtime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(9)
    images = rng.normal(size=(7, model.network.n_channels, 60, 60)).astype(np.float32)
    scalars = rng.normal(size=(7, model.network.n_scalars)).astype(np.float32)
    index = np.stack([rng.integers(max(1, len(bands)), size=7), np.zeros(7, dtype=np.int64)], axis=1)
    feed = {"images": images, "scalars": scalars, "index": index}
    known = {entry.name for entry in session.get_inputs()}
    names = ["log_weights", "means", "stds"] + ["share"] * scene
    found = session.run(names, {name: value for name, value in feed.items() if name in known})
    with torch.no_grad():
        expected = model.network.eval()(*(torch.from_numpy(value) for value in feed.values()))
    both = (*expected.parameters, expected.share) if scene else expected.parameters
    for ours, theirs in zip(both, found, strict=True):
        # Sums of a few thousand products in single precision, in another order.
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


def test_the_papers_network_is_not_exported(tmp_path):
    config = ModelConfig(name="paper", architecture="paper", kind="posterior")
    with pytest.raises(LumosConfigError, match="architecture paper is not exported"):
        export_onnx(FluxModel.create(config), tmp_path / "paper.onnx")
