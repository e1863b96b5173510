"""The shipped models on stamps that they were not trained on: true PDFs, no worse than optimal weights, bfloat16."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.background_pools import new_stamps, write_pool
from lumos.nets.checkpoint import load_model, shipped_models
from lumos.pdf import GaussianMixture
from lumos.pools.pool import BackgroundPool
from lumos.simulate.population import load_population
from lumos.teahupoo.draws import FluxProposal
from lumos.teahupoo.settings import StampSettings
from lumos.teahupoo.simulator import StampSimulator
from lumos.training.data import describe_inputs
from lumos.training.score import score_model

pytestmark = pytest.mark.science

N = 1536
LIKELIHOODS = [name for name in shipped_models() if load_model(name).config.kind == "likelihood"]


def flat_sky(path, model, seed=1):
    """Return a pool of a flat sky with white noise in a band and state that the model knows."""
    rng = np.random.default_rng(seed)
    facts = {"band": model.config.bands[10] if model.config.bands else "r"}
    facts["state"] = model.config.states[0] if model.config.states else ""
    stamps = [new_stamps(rng.normal(150, 11, (200, 92, 92)), sky_variance=121.0, psf_fwhm=fwhm) for fwhm in (3.5, 5.0)]
    ccds = [({**facts, "exposure_id": str(number)}, stamp) for number, stamp in enumerate(stamps)]
    return BackgroundPool.open(write_pool(path, *ccds))


@cache
def measured(name, folder):
    """Return model, labelled inputs, its mixtures, and those in bfloat16; galaxies from 3 to 100 sigma."""
    model = load_model(name)
    pool = flat_sky(Path(folder), model)
    settings = StampSettings(batch_size=N, flux_from="proposal", proposal={"low": 3, "high": 100})
    labelled = describe_inputs(StampSimulator(pool, load_population(), settings, 2).batch(0), model, pool)
    mixtures = []
    for bfloat16 in (False, True):
        log_weights, means, stds = (
            part.double().numpy() for part in model.predict(labelled.inputs, bfloat16=bfloat16).parameters
        )
        mixtures.append(GaussianMixture(np.exp(log_weights), means, stds))
    return model, labelled, *mixtures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("pool"))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_clean_galaxies_are_measured_as_well_as_can_be(name, folder):
    """On white noise and a flat sky optimal weights are the bound; the network, used to worse, may lose a little."""
    _, labelled, mixture, _ = measured(name, f"{folder}/{name}")
    truth = labelled.flux.double().numpy()
    unit = labelled.inputs.unit.double().numpy()
    pull = (mixture.quantile(0.5) - truth) / unit
    spread = np.subtract(*np.quantile(pull, [0.84, 0.16])) / 2
    best = (labelled.inputs.centre.double().numpy() - truth) / unit
    best_spread = np.subtract(*np.quantile(best, [0.84, 0.16])) / 2
    # The spreads are known to 1.2 / sqrt(N) = 3 % each, and are of the same noise.
    assert spread < 1.12 * best_spread
    assert abs(np.median(pull)) < 4 * 1.25 / np.sqrt(N) + 0.05
    own = (mixture.quantile(0.5) - truth) / mixture.sigma68()
    assert np.subtract(*np.quantile(own, [0.84, 0.16])) / 2 == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("name", shipped_models())
def test_bfloat16_moves_fluxes_by_a_small_part_of_their_errors(name, folder):
    _, _, plain, half = measured(name, f"{folder}/{name}")
    shift = (half.quantile(0.5) - plain.quantile(0.5)) / plain.sigma68()
    assert abs(np.mean(shift)) < 0.01
    assert np.std(shift) < 0.05
    assert np.median(np.abs(half.sigma68() / plain.sigma68() - 1)) < 0.02


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_pdfs_with_the_proposal_are_uniform_in_pit(name, folder):
    model, labelled, _, _ = measured(name, f"{folder}/{name}")
    score = score_model(model, [labelled], FluxProposal(low=3, high=100))
    # 1.95 / sqrt(N) = 0.05 by chance in 1 of 1000; the sky here is cleaner than that of the training.
    assert score.pit_ks < 0.09
    assert torch.isfinite(torch.tensor(score.loss))
