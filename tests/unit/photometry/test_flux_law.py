"""The law of every run: flux and PDF are NaN if and only if a flag says why, whoever measures, whatever is masked."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS

from helpers.fits_files import wcs_cards
from lumos.catalogs.parent import ParentCatalog
from lumos.estimators import ESTIMATORS
from lumos.flags import FLAG_TEXT, NAN_FLUX, Flag, MaskPlane
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.nets.checkpoint import read_config, shipped_models
from lumos.nets.domain_box import psf_score
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.settings import MeasureSettings
from lumos.profiles import Shapes, render

SHAPE, STEP, FWHM = (480, 480), 120, 3.6
#: One object each, in cells of 120 pixels; `edge` and `corner` are moved to the border of the image.
PATTERNS = (
    "none", "centre", "half", "all", "annulus", "edge", "corner", "bad variance", "some variance",
    "shape", "psf", "no magnitude", "tenth", "thirty percent", "faint", "negative",
)  # fmt: skip
CAMERA = {"generic": ("r", ""), "paucam-mock": ("NB685", "after"), "paucam-mock-posterior": ("NB685", "after")}


class _HolePsf(MoffatModel):
    """A PSF that is unknown around the object of the pattern `psf`."""

    def fwhm_at(self, x, y):
        column, row = places()
        number = PATTERNS.index("psf")
        return np.where(np.hypot(x - column[number], y - row[number]) < 10, np.nan, super().fwhm_at(x, y))


def places():
    """Return where the objects are, x and y."""
    row, column = np.divmod(np.arange(len(PATTERNS)), SHAPE[1] // STEP)
    x, y = column * STEP + STEP / 2.0, row * STEP + STEP / 2.0
    x[PATTERNS.index("edge")] = 4.0
    x[PATTERNS.index("corner")], y[PATTERNS.index("corner")] = 479.2, 479.3
    return x, y


def exposure_of_patterns(rng, *, band="r", state="", with_variance=True, includes_sources=False, zeropoint=27.0):
    """Return an exposure with a galaxy for each pattern, and the catalogue of them."""
    x, y = places()
    n, one = len(x), np.ones(len(x))
    flux = np.full(n, 3000.0)
    flux[PATTERNS.index("faint")], flux[PATTERNS.index("negative")] = 0.0, -2000.0
    psf = _HolePsf(FWHM, 4.765)
    data = rng.normal(100, 5, SHAPE).astype(np.float32)
    shapes = Shapes(x, y, 2.5 * one, one, 0.7 * one, 0 * one)
    light = render(shapes, MoffatModel(FWHM, 4.765).at(x, y), size=SHAPE)
    data += (light.numpy() * flux[:, None, None]).sum(0)
    mask = np.zeros(SHAPE, dtype=np.int32)
    variance = np.full(SHAPE, 25.0, dtype=np.float32)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]

    def at(pattern):
        number = PATTERNS.index(pattern)
        return columns - x[number], rows - y[number]

    bad, none = int(MaskPlane.BAD), int(MaskPlane.NO_VARIANCE)
    dx, dy = at("centre")
    mask[(np.abs(dx) < 0.6) & (np.abs(dy) < 0.6)] = bad
    for pattern, left in (("half", 0), ("tenth", -3.2), ("thirty percent", -1.2)):
        dx, dy = at(pattern)
        mask[(dx < left) & (np.abs(dx) < 25) & (np.abs(dy) < 25)] = bad
    dx, dy = at("all")
    mask[np.maximum(np.abs(dx), np.abs(dy)) < 31] = bad
    radius = np.hypot(*at("annulus"))
    mask[(radius > 28) & (radius < 47)] = bad
    dx, dy = at("bad variance")
    variance[np.maximum(np.abs(dx), np.abs(dy)) < 50] = np.nan
    dx, dy = at("some variance")
    variance[(dx > 1) & (dx < 3) & (np.abs(dy) < 25)] = 0
    # A map that a reader has not cleaned counts as well as one that it has.
    mask[:, : SHAPE[1] // 2][~(variance > 0)[:, : SHAPE[1] // 2]] |= none
    made = Exposure(
        exposure_id="e",
        detector="1",
        survey="test",
        band=band,
        state=state,
        data=data,
        mask=mask,
        wcs=WCS(Header(wcs_cards())),
        pixel_scale=0.25,
        psf=psf,
        variance=variance if with_variance else None,
        variance_includes_sources=includes_sources,
        gain=4.0,
        sky_subtracted=True,
        exposure_time=100.0,
        zeropoint=zeropoint,
    )
    ra, dec = made.wcs.all_pix2world(x, y, 0)
    catalog = ParentCatalog(
        object_id=np.arange(n),
        ra=ra,
        dec=dec,
        half_light_radius=np.full(n, 2.5 * 0.25),
        sersic_n=one.copy(),
        axis_ratio=0.7 * one,
        position_angle=90 * one,
        ref_mag=np.full(n, 18.3),
    )
    catalog.sersic_n[PATTERNS.index("shape")] = np.nan
    catalog.ref_mag[PATTERNS.index("no magnitude")] = np.nan
    return made, catalog


def check_law(table):
    """Assert the law for a table; return flags and fluxes."""
    flags, flux, error = (table[name].to_numpy() for name in ("flags", "flux", "flux_err"))
    said = (flags & int(NAN_FLUX)) != 0
    np.testing.assert_array_equal(np.isnan(flux), said)
    np.testing.assert_array_equal(np.isnan(error), said)
    assert np.isfinite(flux[~said]).all()
    assert np.isfinite(error[~said]).all()
    assert (error[~said] > 0).all()
    for name in ("pdf_weights", "pdf_means", "pdf_stds"):
        values = np.stack(table[name].to_numpy())
        np.testing.assert_array_equal(np.isnan(values).all(axis=1), said)
        assert np.isfinite(values[~said]).all()
    for name in ("flux_q16", "flux_q50", "flux_q84", "flux_peak"):
        np.testing.assert_array_equal(np.isnan(table[name].to_numpy()), said)
    for name in table.column_names:
        if name.endswith(("_flux", "_flux_err")):
            assert not np.isinf(table[name].to_numpy()).any()
    return flags, flux


@pytest.mark.parametrize("noise", ["variance", "sources", "scatter"])
@pytest.mark.parametrize("default", [*ESTIMATORS, *shipped_models()])
def test_flux_is_nan_if_and_only_if_a_flag_says_why(rng, default, noise):
    model = None if default in ESTIMATORS else default
    band, state = CAMERA[model or "generic"]
    exposure, catalog = exposure_of_patterns(
        rng, band=band, state=state, with_variance=noise != "scatter", includes_sources=noise == "sources"
    )
    # A model runs without `optimal`, and every estimator without the others.
    settings = MeasureSettings(
        estimators=("aperture",) if model else (default,), model=model, noise={"correlation": "none"}
    )
    flags, flux = check_law(measure_exposure(exposure, catalog, settings))

    def of(pattern):
        return Flag(int(flags[PATTERNS.index(pattern)]))

    masked, too_masked, centre = Flag.MASKED, Flag.TOO_MASKED, Flag.MASKED_CENTRE
    assert of("none") & ~Flag.OUT_OF_DOMAIN == 0
    assert of("centre") & (masked | centre | too_masked) == masked | centre
    assert of("tenth") & (masked | centre | NAN_FLUX) == masked
    for pattern in ("half", "all", "thirty percent", "corner"):
        assert of(pattern) & (masked | too_masked) == masked | too_masked, pattern
    assert of("edge") & Flag.EDGE
    assert of("shape") & NAN_FLUX == Flag.BAD_SHAPE
    assert of("psf") & NAN_FLUX == Flag.NO_PSF
    # What needs no annulus goes on without one, if its noise is known.
    free = default == "optimal_free" and noise != "scatter"
    assert bool(of("annulus") & Flag.BAD_BACKGROUND) == (default != "optimal_free")
    assert bool(of("annulus") & NAN_FLUX) != free
    if noise == "variance":
        assert of("bad variance") & Flag.BAD_NOISE
    if noise != "scatter":
        assert of("some variance") & masked
    # A network that is told the magnitude cannot do without.
    assert of("no magnitude") & NAN_FLUX == (Flag.FIT_FAILED if default == "paucam-mock-posterior" else 0)
    assert np.isfinite(flux[[PATTERNS.index(name) for name in ("none", "centre", "tenth", "faint", "negative")]]).all()


def test_a_higher_limit_of_masked_light_is_no_models(rng):
    exposure, catalog = exposure_of_patterns(rng)
    number = PATTERNS.index("thirty percent")
    for model, measured in ((None, True), ("generic", False)):
        settings = MeasureSettings(max_masked=0.6, model=model, estimators=("optimal",), noise={"correlation": "none"})
        flags, flux = check_law(measure_exposure(exposure, catalog, settings))
        assert np.isfinite(flux[number]) == measured
        assert bool(flags[number] & Flag.TOO_MASKED) != measured


@pytest.mark.parametrize("zeropoint", [np.nan, -99.0, 99.0, -999.0, 50.0, -10.0])
@pytest.mark.parametrize("model", [None, "generic"])
def test_no_zeropoint_gives_infinite_or_vanishing_fluxes(rng, caplog, zeropoint, model):
    exposure, catalog = exposure_of_patterns(rng, zeropoint=zeropoint)
    settings = MeasureSettings(model=model, noise={"correlation": "none"})
    flags, flux = check_law(measure_exposure(exposure, catalog, settings))
    assert np.isfinite(flux[0])
    known = -10 <= zeropoint <= 50
    assert ((flags & int(Flag.NO_ZEROPOINT)) != 0).all() != known
    assert (f"zero point {zeropoint:g} counts as unknown, allowed: -10 to 50" in caplog.text) == (abs(zeropoint) > 50)


def test_an_exposure_without_fluxes_is_told(rng, caplog):
    exposure, catalog = exposure_of_patterns(rng)
    exposure.mask[:, :] |= int(MaskPlane.BAD)
    measure_exposure(exposure, catalog, MeasureSettings())
    assert "16 of 16 fluxes are NaN (TOO_MASKED 14, BAD_SHAPE 1, NO_PSF 1, BAD_BACKGROUND 14)" in caplog.text


@pytest.mark.parametrize(("fwhm", "outside"), [(1.3, True), (2.0, False), (7.5, False), (12.0, True), (50.0, True)])
def test_a_psf_far_from_the_training_is_out_of_domain(rng, fwhm, outside):
    exposure, catalog = exposure_of_patterns(rng)
    table = measure_exposure(
        replace(exposure, psf=MoffatModel(fwhm, 4.765)),
        catalog.take(slice(1)),
        MeasureSettings(model="generic", estimators=()),
    )
    assert (table["ood_score"][0].as_py() > 1) >= outside
    # The score of the PSF alone, without what the network for such faults says.
    assert (psf_score(np.array([fwhm]), 1, read_config("generic").domain)[0] > 1) == outside


def test_the_text_of_a_flag_says_that_fluxes_are_nan():
    measured = [flag for flag in Flag if not FLAG_TEXT[flag].startswith("coadd")]
    said = [flag for flag in measured if "fluxes are NaN" in FLAG_TEXT[flag]]
    assert sorted(said) == sorted(flag for flag in measured if flag & NAN_FLUX)
