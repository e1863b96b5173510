"""Neighbours: what the joint fit subtracts, tells and flags."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.io.fits import Header
from astropy.wcs import WCS

from helpers.fits_files import wcs_cards
from lumos.catalogs.parent import ParentCatalog
from lumos.flags import Flag, MaskPlane
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.photometry.batches import stamp_batch
from lumos.photometry.ccd import prepare_ccd
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.objects import place_objects
from lumos.photometry.settings import MeasureSettings
from lumos.profiles import Shapes, render
from lumos.statistics import sigma68

SETTINGS = MeasureSettings(noise={"correlation": "none"})
FWHM, BETA, ZEROPOINT, SHAPE = 3.8, 3.5, 27.0, (200, 200)
#: Flux in image units of one nJy.
UNIT = 10 ** (0.4 * (ZEROPOINT - 31.4))


def scene(rng, x, y, flux, *, radius=3.0, scatter=2.0, listed=None):
    """Return an exposure with galaxies drawn onto noise, and its catalogue."""
    x, y, flux = (np.asarray(v, dtype=float) for v in (x, y, flux))
    one, psf = np.ones(len(x)), MoffatModel(FWHM, BETA)
    radius = radius * one
    light = render(Shapes(x, y, radius, one, one, 0 * one), psf.at(x, y), size=SHAPE).numpy()
    data = (rng.normal(0, scatter, SHAPE) + (light * flux[:, None, None]).sum(0)).astype(np.float32)
    wcs = WCS(Header(wcs_cards()))
    made = Exposure(
        "e", "1", "test", "r", "", data, np.zeros(SHAPE, np.int32), wcs, 0.25, psf,
        variance=np.full(SHAPE, scatter**2, np.float32), zeropoint=ZEROPOINT,
    )  # fmt: skip
    ra, dec = wcs.all_pix2world(x, y, 0)
    catalog = ParentCatalog(10 + np.arange(len(x)), ra, dec, radius * 0.25, one, one, 0 * one, np.nan * one)
    return made, catalog if listed is None else catalog.take(np.asarray(listed))


def measured(exposure, catalog, settings=SETTINGS):
    table = measure_exposure(exposure, catalog, settings)
    arrays = {name: table[name].to_numpy() for name in table.column_names if not name.startswith("pdf")}
    return {name: v.astype(float) if v.dtype.kind == "f" else v for name, v in arrays.items()}


def has(columns, flag):
    return (columns["flags"] & int(flag)) != 0


@pytest.mark.parametrize("estimator", SETTINGS.estimators)
def test_every_estimator_is_free_of_a_neighbour_with_a_true_error(estimator):
    rng = np.random.default_rng(3)
    settings = replace_settings(estimators=(estimator,))
    distances = (3.0, 5.0, 8.0)
    pulls = {mode: [] for mode in ("joint", "off")}
    for _ in range(12):
        # Sixteen pairs to an image: a galaxy, and one four times as bright beside it.
        x, y = (v.ravel() for v in np.meshgrid(np.arange(30, 190, 45.0), np.arange(30, 190, 45.0)))
        distance = rng.choice(distances, 16)
        x, y = np.concatenate([x, x + distance]) + rng.uniform(-0.5, 0.5, 32), np.concatenate([y, y])
        made = scene(rng, x, y, np.repeat([500.0, 2000.0], 16), radius=2.0)
        for mode, found in pulls.items():
            columns = measured(*made, settings.model_copy(update={"scene": mode}))
            found.append(((columns["flux"] / 500 * UNIT - 1) * 500 / UNIT / columns["flux_err"])[:16])
            assert not has(columns, Flag.INSEPARABLE).any()
    joint, off = (np.concatenate(pulls[mode]) for mode in ("joint", "off"))
    # A profile fit moves its centre onto noise, and is high by some tenths of an error for any faint galaxy.
    least = 0.45 if estimator == "profile_fit" else 4 / np.sqrt(len(joint))
    assert abs(np.median(joint)) < least
    assert 0.85 < sigma68(joint) < 1.2
    assert np.median(off) > 3


def replace_settings(**changes):
    return MeasureSettings.model_validate({"noise": {"correlation": "none"}, **changes})


def test_columns_tell_of_the_neighbour(rng):
    columns = measured(*scene(rng, [90.0, 97.0, 150.0], [100.0, 100.0, 150.0], [800.0, 3000.0, 3000.0]))
    assert columns["neighbour_id"][:2].tolist() == [11, 10]
    np.testing.assert_allclose(columns["neighbour_distance"][:2], 7 * 0.25, rtol=0.01)
    assert columns["contamination"][0] > 5
    assert abs(columns["contamination"][2]) < 2
    assert 0.3 < columns["blendedness"][0] < 0.9
    assert columns["blendedness"][2] < 0.05
    assert -0.6 < columns["neighbour_correlation"][0] < -0.1
    assert has(columns, Flag.NEIGHBOUR).tolist() == [True, True, False]
    alone = measured(*scene(rng, [100.0], [100.0], [800.0]))
    assert alone["neighbour_id"].tolist() == [-1]
    assert np.isnan(alone["neighbour_distance"]).all()
    assert (alone["blendedness"], alone["contamination"], alone["neighbour_correlation"]) == (0, 0, 0)


def test_without_subtraction_the_same_is_told(rng):
    made = scene(rng, [90.0, 97.0], [100.0, 100.0], [800.0, 3000.0])
    joint, off = (measured(*made, replace_settings(scene=mode)) for mode in ("joint", "off"))
    for name in ("blendedness", "contamination", "neighbour_id", "neighbour_correlation"):
        np.testing.assert_array_equal(joint[name], off[name])
    assert off["flux"][0] > 1.5 * joint["flux"][0]
    assert off["flux_err"][0] < joint["flux_err"][0]


def test_a_neighbour_just_off_the_image_is_subtracted(rng):
    made = scene(rng, [190.0, 203.0], [100.0, 100.0], [600.0, 30000.0])
    joint, off = (measured(*made, replace_settings(scene=mode)) for mode in ("joint", "off"))
    assert joint["object_id"].tolist() == [10]
    assert has(joint, Flag.NEIGHBOUR).tolist() == [True]
    assert joint["flux"][0] * UNIT == pytest.approx(600, abs=4 * joint["flux_err"][0] * UNIT)
    assert off["flux"][0] * UNIT > 1000


def test_two_objects_at_one_place_are_flagged(rng):
    made = scene(rng, [100.0, 100.0], [100.0, 100.0], [800.0, 800.0])
    columns = measured(*made)
    assert has(columns, Flag.INSEPARABLE).all()
    assert (columns["flux_err"] > 50 * measured(*scene(rng, [100.0], [100.0], [800.0]))["flux_err"]).all()
    assert columns["flux"].sum() * UNIT == pytest.approx(1600, abs=200)


def test_a_neighbour_without_a_shape_counts_as_a_small_source(rng):
    exposure, catalog = scene(rng, [90.0, 99.0], [100.0, 100.0], [800.0, 2000.0], radius=np.array([3.0, 0.5]))
    catalog.sersic_n[1] = np.nan
    columns = measured(exposure, catalog)
    assert has(columns, Flag.BAD_SHAPE).tolist() == [False, True]
    assert np.isnan(columns["flux"]).tolist() == [False, True]
    assert has(columns, Flag.NEIGHBOUR)[0]
    assert columns["flux"][0] * UNIT == pytest.approx(800, abs=5 * columns["flux_err"][0] * UNIT)


def test_a_saturated_star_is_known_by_its_wings(rng):
    exposure, catalog = scene(rng, [80.0, 100.0], [100.0, 100.0], [1500.0, 2e6], radius=np.array([2.0, 0.0]))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    core = np.hypot(x - 100, y - 100) < 8
    mask = np.where(core, int(MaskPlane.SATURATED), 0).astype(np.int32)
    exposure = replace(exposure, mask=mask, data=np.where(core, 5e4, exposure.data).astype(np.float32))
    joint, off = (measured(exposure, catalog, replace_settings(scene=mode)) for mode in ("joint", "off"))
    assert has(joint, Flag.SATURATED)[1]
    true = 1500 / UNIT
    assert abs(joint["flux"][0] - true) < 0.05 * abs(off["flux"][0] - true)
    assert abs(joint["flux"][0] - true) < 5 * joint["flux_err"][0]


def test_stamps_of_any_rows_have_their_own_profiles(rng):
    exposure, catalog = scene(rng, [50.0, 100.0, 150.0], [100.0] * 3, [800.0] * 3, radius=np.array([1.0, 4.0, 8.0]))
    around = place_objects(exposure, catalog, SETTINGS)
    ccd = prepare_ccd(exposure, 1.0, around, np.arange(3), SETTINGS)
    whole = stamp_batch(ccd, np.arange(3))[0]
    for rows in ([0, 2], [2, 0, 1], [0, 2, 1]):
        assert torch.equal(stamp_batch(ccd, np.array(rows))[0].profile, whole.profile[rows])
    assert torch.equal(stamp_batch(ccd.take(np.array([2, 0])), np.arange(2))[0].data, whole.data[[2, 0]])
