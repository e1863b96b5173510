"""Injected galaxies as inputs of a model: units, fluxes, errors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.wcs import WCS
from scipy import stats

from lumos.adaptation.injected import InjectedStamps, inject_round, training_stamps
from lumos.adaptation.inputs import ScaledCcd, prepare
from lumos.background.noise import ExposureNoise
from lumos.catalogs.parent import ParentCatalog
from lumos.errors import LumosDataError
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.nets.model import FluxModel, ModelConfig
from lumos.photometry.ccd import prepare_ccd
from lumos.photometry.objects import place_objects
from lumos.photometry.settings import MeasureSettings
from lumos.teahupoo.draws import FluxProposal
from lumos.teahupoo.settings import CatalogScatter, StampSettings

SETTINGS = MeasureSettings()
STAMPS = StampSettings(flux_from="proposal", mag_range=(19.0, 23.0))


def new_model(**changes):
    torch.manual_seed(6)
    network = {"channels": [4, 6, 8], "hidden": 16}
    return FluxModel.create(
        ModelConfig(
            **{"name": "small", "architecture": "residual", "kind": "likelihood", "network": network, **changes}
        )
    )


def catalogue(ra, dec):
    one = np.ones(len(ra))
    shape = (0.8 * one, one, 0.7 * one, 30 * one, 20 * one)
    return ParentCatalog(np.arange(len(ra), dtype=np.int64), np.asarray(ra), np.asarray(dec), *shape)


def new_ccd(rng, scale=1.0, unit=1.0, **changes):
    """White noise of 3 image units with two objects of the catalogue; ``unit`` as for pixels of awkward size."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [359.99, 2.0], [250, 250]
    wcs.wcs.cdelt = [-0.3 / 3600, 0.3 / 3600]
    exposure = Exposure(
        exposure_id="a",
        detector="1",
        survey="generic",
        band="r",
        state="",
        data=(rng.normal(40, 3, (700, 700)) / unit).astype(np.float32),
        mask=np.zeros((700, 700), dtype=np.int32),
        wcs=wcs,
        pixel_scale=0.3,
        psf=MoffatModel(3.2, 3.5),
        gain=2.0 * unit,
        zeropoint=26.0,
        path=Path("a.fits"),
    )
    exposure = replace(exposure, **changes)
    ra, dec = wcs.all_pix2world([200.0, 400.0], [300.0, 350.0], 0)
    objects = place_objects(exposure, catalogue(ra, dec), SETTINGS)
    ccd = prepare_ccd(exposure, unit, objects, np.arange(len(objects)), SETTINGS)
    return ScaledCcd(replace(ccd, noise=ExposureNoise("scatter", None)), scale)


def rounds(ccd, settings, n_rounds, model=None):
    model = model or new_model()
    parts = [
        inject_round(model, ccd, settings, 100, 80.0, np.random.default_rng([4, turn]), lambda inputs: inputs)
        for turn in range(n_rounds)
    ]
    return InjectedStamps.concatenate(parts)


def test_optimal_fluxes_are_those_injected(rng):
    exact = STAMPS.model_copy(update={"catalog_scatter": CatalogScatter()})
    found = rounds(new_ccd(rng), exact, 5)
    inputs = found.stamps.inputs
    fine = inputs.usable.numpy()
    # Stamps that leave the image are not used: of 700 px 640 are left in each direction.
    assert 0.6 < fine.mean() < 0.95
    pull = ((inputs.centre - found.flux) / inputs.unit).numpy()[fine]
    n = len(pull)
    assert n > 100
    assert abs(pull.mean()) < 4 / np.sqrt(n)
    # Errors hold the background's; the variance itself is known to a few per cent from the annulus.
    assert abs(pull.std() - 1) < 4 / np.sqrt(2 * n) + 0.03
    # Fluxes over their errors are draws of the proposal, evenly spread in asinh.
    s = (found.flux / found.stamps.flux_scale).double().numpy()
    t = np.arcsinh(s / 5)
    low, high = np.arcsinh(-10 / 5), np.arcsinh(2000 / 5)
    assert stats.kstest(t, "uniform", (low, high - low)).pvalue > 1e-3
    assert (s < 0).any()


def test_units_are_those_that_exposures_share():
    plain = rounds(new_ccd(np.random.default_rng(1)), STAMPS, 1)
    # The same pixels in units of 50, and an exposure whose image unit is 3 of the common ones.
    other = rounds(new_ccd(np.random.default_rng(1), scale=3.0, unit=50.0), STAMPS, 1)
    fine = plain.stamps.inputs.usable & other.stamps.inputs.usable
    assert fine.sum() > 20
    # Single precision of pixels that hold a sky of 13 times their noise; photons are drawn for the same electrons.
    assert torch.allclose(3 * plain.flux, other.flux, rtol=1e-3, atol=1e-2)
    assert torch.allclose(3 * plain.stamps.flux_scale, other.stamps.flux_scale, rtol=1e-3)
    assert torch.allclose(3 * plain.stamps.inputs.unit[fine], other.stamps.inputs.unit[fine], rtol=2e-2)
    assert torch.allclose(plain.stamps.inputs.images[fine], other.stamps.inputs.images[fine], atol=0.2)
    assert np.array_equal(plain.ra, other.ra)


def test_the_catalogue_errs_as_in_training():
    wrong = STAMPS.model_copy(update={"catalog_scatter": CatalogScatter(half_light_radius=0.3, centre=0.5)})
    exact = rounds(new_ccd(np.random.default_rng(1)), STAMPS, 2)
    found = rounds(new_ccd(np.random.default_rng(1)), wrong, 2)
    pulls = [
        ((one.stamps.inputs.centre - one.flux) / one.stamps.inputs.unit)[one.stamps.inputs.usable]
        for one in (exact, found)
    ]
    assert pulls[1].std() > 2 * pulls[0].std()


def test_fluxes_of_posteriors_are_those_of_galaxies(rng):
    model = new_model(kind="posterior")
    settings = StampSettings(mag_range=(19.0, 23.0))
    found = rounds(new_ccd(rng), settings, 2, model)
    # In a band near the reference band, magnitudes differ by colours: two magnitudes at most.
    magnitude = 26.0 - 2.5 * np.log10(found.flux.numpy())
    assert np.abs(magnitude - found.stamps.ref_mag.numpy()).max() < 2
    with pytest.raises(LumosDataError, match=r"a\.fits: no zeropoint, which fluxes of the population need"):
        rounds(new_ccd(rng, zeropoint=float("nan")), settings, 1, model)


def test_no_room_and_no_shape(rng):
    ccd = new_ccd(rng, mask=np.ones((700, 700), dtype=np.int32))
    model = new_model()
    assert inject_round(model, ccd, STAMPS, 10, 60.0, rng, lambda inputs: inputs) is None
    scaled = new_ccd(rng)
    objects = scaled.ccd.objects

    def prepared(ccd):
        return prepare(model, replace(scaled, ccd=ccd), lambda inputs: inputs)

    two, one = (prepared(scaled.ccd.take(np.array(rows))) for rows in ([1, 0], [0]))
    assert torch.equal(two.inputs.centre[1:], one.inputs.centre)
    bad = replace(objects, flags=np.array([128, 0]))
    with pytest.raises(LumosDataError, match="an object has no shape or no PSF"):
        prepared(replace(scaled.ccd, objects=bad))


def test_stamps_are_those_of_the_training():
    assert training_stamps({}) == StampSettings()
    stored = STAMPS.model_dump(mode="json")
    assert training_stamps({"settings": {"stamps": stored}}) == STAMPS
    assert FluxProposal(**STAMPS.proposal.model_dump()) == FluxProposal()
