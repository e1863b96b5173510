"""The network among the estimators of `measure`: its columns, units, bands, and stamps of other sizes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.estimator_batches import gaussian_batch
from lumos.errors import LumosConfigError, LumosDataError, LumosShapeError, LumosValueError
from lumos.estimators import StampContext, optimal
from lumos.flags import Flag
from lumos.nets.checkpoint import load_model, save_model
from lumos.nets.estimator import bin_stamps, network_estimator, network_fluxes, side_inputs
from lumos.nets.inputs import SideInputs
from lumos.nets.model import FluxModel, ModelConfig
from lumos.pdf import GaussianMixture, TruncatedMixture
from lumos.photometry.columns import summarise
from lumos.photometry.exposure import estimators_of
from lumos.photometry.network import model_facts
from lumos.photometry.settings import MeasureSettings
from lumos.statistics import LEVELS_68

SMALL = {"channels": [4, 6, 8], "hidden": 16}


def new_model(**changes):
    torch.manual_seed(6)
    config = {"name": "small", "architecture": "residual", "kind": "likelihood", "network": SMALL, **changes}
    return FluxModel.create(ModelConfig(**config))


def context(**changes):
    """What is known of two objects of an exposure in band r without a zero point or a gain."""
    place, nothing = torch.full((2,), 0.5), torch.full((2,), torch.nan)
    known = {"band": "r", "state": "", "ccd_x": place, "ccd_y": place, "ref_mag": 20 * place, "ref_flux": nothing}
    return StampContext(**(known | {"rate": nothing, "psf_fwhm": 3 * place.double(), "noise_factor": None} | changes))


def test_a_model_for_other_bands_is_refused():
    model = new_model(bands=("NB455", "NB465"), states=("before", "after"))
    with pytest.raises(LumosDataError, match=r"model 'small' does not know band 'r', allowed: NB455, NB465"):
        side_inputs(model, context())
    assert side_inputs(new_model(), context()).band is None


def test_what_a_model_needs_of_an_exposure_is_named():
    model = new_model(network={**SMALL, "reference": True})
    with pytest.raises(LumosDataError, match=r"no zeropoint, which model 'small' needs"):
        side_inputs(model, context())
    # An object without a magnitude is none without a zero point.
    side_inputs(model, context(ref_mag=torch.full((2,), torch.nan)))
    paper = ModelConfig(name="paper", architecture="paper", kind="posterior", bands=("r",), states=("",))
    with pytest.raises(LumosDataError, match="no gain or exposure time, which"):
        side_inputs(FluxModel.create(paper), context(ref_flux=torch.ones(2)))


def test_a_model_is_an_estimator():
    batch, _ = gaussian_batch(2)
    model = new_model(domain={"psf_fwhm": (1.0, 2.0)})
    estimator = network_estimator(model, "lumos")
    with pytest.raises(LumosValueError, match="context of the stamps: got None"):
        estimator(batch)
    measured = estimator(replace(batch, context=context(psf_fwhm=torch.tensor([1.5, 9.0], dtype=torch.float64))))
    assert measured.pdf.means.shape == (2, estimator.n_components)
    torch.testing.assert_close(measured.flux, (measured.pdf.weights * measured.pdf.means).sum(1))
    assert measured.columns["ood_score"][1] > 1
    assert int(measured.flags[1]) == int(Flag.OUT_OF_DOMAIN) == int(estimator.notes)


@pytest.mark.parametrize("size", [48, 90])
def test_stamps_of_another_size_are_refused(size):
    batch, _ = gaussian_batch(4, size=size)
    with pytest.raises(LumosShapeError, match=f"stamps: got .{size}, {size}.*60 x 60 px or a multiple"):
        network_fluxes(new_model(), batch, SideInputs())


def test_binned_stamps_are_the_same_sky():
    batch, _ = gaussian_batch(32, size=120, gain=2.0, noise=False)
    binned = bin_stamps(batch, 2)
    assert binned.data.shape == (32, 60, 60)
    assert torch.allclose(binned.data.sum((1, 2)), batch.data.sum((1, 2)), rtol=1e-6)
    # The centre of light of profile and position move together.
    pixels = torch.arange(60.0)
    for axis, place in ((1, binned.x), (2, binned.y)):
        light = binned.profile.sum(axis)
        assert torch.allclose((light * pixels).sum(1) / light.sum(1), place, atol=2e-3)
    fine, coarse = optimal(batch), optimal(binned)
    assert torch.allclose(fine.flux, coarse.flux, rtol=1e-3)
    # Larger pixels lose a little of the profile's shape: never less error, and not 10 % more.
    ratio = coarse.flux_err / fine.flux_err
    assert (ratio > 0.999).all()
    assert (ratio < 1.1).all()


def test_large_stamps_are_binned():
    batch, _ = gaussian_batch(8, size=120)
    fluxes = network_fluxes(new_model(), batch, SideInputs(), np.ones_like)
    reference = optimal(batch)
    mean = fluxes.flux.numpy()
    # An untrained network stays within an error of the optimal flux.
    assert (np.abs(mean - reference.flux.numpy()) < 2 * reference.flux_err.numpy()).all()


def test_summary_is_that_of_the_pdfs():
    rng = np.random.default_rng(7)
    weights = rng.dirichlet(np.ones(3), 6)
    means, stds = rng.normal(2, 3, (6, 3)), rng.uniform(0.5, 2, (6, 3))
    weights[4] = np.nan
    is_cut = np.array([True, False, True, False, False, True])
    found = summarise(weights, means, stds, is_cut)
    for row in (0, 1, 2, 3, 5):
        kind = TruncatedMixture if is_cut[row] else GaussianMixture
        pdf = kind(weights[row : row + 1], means[row : row + 1], stds[row : row + 1])
        assert found["flux_q16"][row] == pytest.approx(pdf.quantile(LEVELS_68[0])[0])
        assert found["flux_q84"][row] == pytest.approx(pdf.quantile(LEVELS_68[1])[0])
        assert found["flux_peak"][row] == pytest.approx(pdf.peak()[0])
    assert all(np.isnan(values[4]) for values in found.values())


def test_saved_model_knows_its_facts(tmp_path):
    save_model(new_model(cut_from=20.5), tmp_path / "small", "# small\n")
    facts = model_facts(str(tmp_path / "small"))
    stored = json.loads((tmp_path / "small" / "config.json").read_text())
    assert facts == {"name": "small", "kind": "likelihood", "sha256": stored["sha256"], "cut_from": 20.5}
    assert model_facts(None) is None


def test_a_model_on_scenes_is_for_cleaned_stamps(tmp_path):
    model = new_model(network={**SMALL, "scene": True}, input_version=2)
    save_model(model, tmp_path / "m", "card")
    assert "lumos" in estimators_of(MeasureSettings(model=str(tmp_path / "m")))
    with pytest.raises(LumosConfigError, match=r"model 'small' .*measure\.scene=off is not for it, allowed: joint"):
        estimators_of(MeasureSettings(model=str(tmp_path / "m"), scene="off"))


def test_a_model_of_another_input_version_is_refused_by_name(tmp_path):
    save_model(new_model(), tmp_path, "card")
    path = tmp_path / "config.json"
    content = json.loads(path.read_text()) | {"input_version": 7}
    path.write_text(json.dumps(content))
    with pytest.raises(LumosDataError, match=r"config\.json.*input_version.*7"):
        load_model(str(tmp_path))
