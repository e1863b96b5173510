"""What libraries do without a word: pickles that run, files that a kill cut off, one NaN that spoils a stamp."""

import os
import pickle
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from helpers.measured_runs import catalog_at, run, write_exposure
from lumos.catalogs.tables import write_table
from lumos.errors import LumosDataError
from lumos.files import file_sha256
from lumos.flags import Flag
from lumos.images import load_psfex
from lumos.nets.checkpoint import load_model, save_model
from lumos.nets.model import FluxModel, ModelConfig
from lumos.photometry.settings import MeasureSettings
from lumos.runs.locks import lock_folder
from lumos.runs.shards import read_shards


class Evil:
    """What runs a command when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_in_the_place_of_weights_never_runs(tmp_path, kind):
    network = {"channels": [4, 6, 8], "hidden": 16}
    config = ModelConfig(name="small", architecture="residual", kind="likelihood", network=network)
    save_model(FluxModel.create(config), tmp_path / "model", "# small\n")
    weights, canary = tmp_path / "model" / "model.safetensors", tmp_path / "canary"
    if kind == "torch":
        torch.save({"a": Evil(canary)}, weights)
    else:
        weights.write_bytes(pickle.dumps(Evil(canary)))
    with pytest.raises(LumosDataError, match=r"model\.safetensors: sha256 differs"):
        load_model(str(tmp_path / "model"))
    # Nor with the digest of what is there.
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace(load_digest(path), file_sha256(weights)))
    with pytest.raises(LumosDataError, match=r"model\.safetensors: does not fit architecture 'residual'"):
        load_model(str(tmp_path / "model"))
    assert not canary.exists()
    # It is no blunt one.
    pickle.loads(pickle.dumps(Evil(canary)))
    assert canary.exists()


def load_digest(path):
    return ModelConfig.model_validate_json(path.read_text()).sha256


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x89HDF\r\n\x1a\n" + bytes(100), b"SIMPLE  =" + b"\xff" * 3000])
def test_garbage_is_named(tmp_path, content):
    path = tmp_path / "a.psf"
    path.write_bytes(content)
    with pytest.raises(LumosDataError, match=r"a\.psf"):
        load_psfex(path, (100, 100))


def test_a_table_that_a_kill_cut_off_is_not_there(tmp_path):
    table = pa.table({"a": np.arange(100_000)})

    def tables():
        for _ in range(3):
            yield table
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        write_table(tables(), tmp_path / "a.parquet")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (part,) = tmp_path.iterdir()
    assert part.name.startswith(".lumos-")
    # What is left is no table, and bears no name under which anyone would read it.
    assert part.stat().st_size > 0
    with pytest.raises(pa.ArrowInvalid):
        pq.read_metadata(part)
    with lock_folder(tmp_path):
        assert write_table([table], tmp_path / "a.parquet") == 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_one_pixel_that_is_nan_spoils_no_flux_of_a_network(tmp_path):
    def spoil(data):
        data[100, 104] = np.nan

    settings = MeasureSettings(estimators=("aperture",), model="generic", noise={"correlation": "none"})
    tables = []
    for name, how in (("a", None), ("b", spoil)):
        path = write_exposure(tmp_path / f"{name}.fits", np.random.default_rng(3), spoil=how)
        run(tmp_path, [path], catalog_at([100, 40], [100, 60]), settings=settings, out=name)
        tables.append(read_shards(tmp_path / name))
    clean, spoiled = tables
    flux = spoiled["lumos_flux"].to_numpy()
    assert np.isfinite(flux).all()
    flags = spoiled["flags"].to_numpy()
    assert flags[0] & Flag.MASKED
    assert not flags[1] & Flag.MASKED
    # The object whose stamp does not hold the pixel hardly knows of it, through the noise of the image.
    pull = np.abs(flux - clean["lumos_flux"].to_numpy()) / spoiled["lumos_flux_err"].to_numpy()
    assert (pull < [1.0, 0.05]).all()
