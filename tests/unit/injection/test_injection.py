"""`lumos inject`: places, fluxes and catalogue of the galaxies, the measured runs, figures, bad input."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from lumos.catalogs.parent import read_parent, write_parent
from lumos.errors import LumosConfigError, LumosDataError
from lumos.images.reader import read_exposure
from lumos.images.wcs import pixel_to_sky
from lumos.injection.plan import join_catalogs, plan_rounds
from lumos.injection.run import InjectInputs, inject_run
from lumos.injection.settings import InjectSettings
from lumos.photometry.injected import inject_table
from lumos.photometry.objects import on_image, place_objects
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.surveys import load_survey
from lumos.validate.evidence.known import read_known
from lumos.validate.evidence.pulls import figures_by_kind, format_figures

SMALL = Path(__file__).parents[2] / "small_survey.yaml"
FEW = InjectSettings(rounds=2, n_per_ccd=60, distance=35)
PLAIN = MeasureSettings(estimators=("optimal",))


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(load_simulation(str(SMALL)), folder)
    return folder


def files(survey):
    return sorted((survey / "exposures").glob("*.fits"))


def run(survey, out, settings=FEW, measure=PLAIN, exposures=None, **options):
    some = exposures or files(survey)
    inputs = InjectInputs(some, survey / "parent.parquet", load_survey("generic"), measure)
    return inject_run(inputs, out, settings, **options)


@pytest.fixture(scope="module")
def made(survey, tmp_path_factory):
    out = tmp_path_factory.mktemp("injected") / "out"
    return run(survey, out)


def injected_figures(runs, truth):
    return figures_by_kind(read_known(runs, truth))


def exposures(survey):
    return [one for path in files(survey) for one in read_exposure(path, load_survey("generic"))]


def test_places_keep_their_distances(survey):
    catalog, images = read_parent(survey / "parent.parquet"), exposures(survey)
    rounds = plan_rounds(images, catalog, FEW, PLAIN)
    assert len(rounds) == 2
    seeing = [float(place_objects(image, catalog, PLAIN).psf_fwhm.mean()) for image in images]
    for image in images:
        objects = place_objects(image, catalog, PLAIN)
        for one in rounds:
            whole = one.all
            numbered = replace(whole.true, object_id=np.arange(len(whole.true)))
            placed = place_objects(image, numbered, PLAIN)
            assert 50 <= len(placed) <= 75
            apart = np.hypot(placed.x[:, None] - placed.x, placed.y[:, None] - placed.y)
            # The other exposure's galaxies were placed on its own pixels, whose scale is the same.
            assert apart[~np.eye(len(placed), dtype=bool)].min() > 34.5
            away = np.hypot(placed.x[:, None] - objects.x, placed.y[:, None] - objects.y) / objects.psf_fwhm
            place, stated = whole.place[numbered.object_id[placed.catalog.object_id]], whole.neighbour_distance
            nearest = away.min(axis=1)
            # Four times the seeing of the exposure that they were placed on, which may be the sharper one.
            assert (nearest[(place == 1) | (place == 3)] > 3.98 * min(seeing) / max(seeing)).all()
            beside = place == 2
            expected = stated[placed.catalog.object_id][beside]
            # Seeing differs between the two exposures; another object may be nearer.
            assert (nearest[beside] < 1.3 * expected + 0.1).all()
            assert {0, 1, 2, 3} <= set(place.tolist())
    first, second = (one.all.true for one in rounds)
    assert not set(first.object_id) & (set(second.object_id) | set(catalog.object_id))
    assert not np.isin(first.ra, second.ra).any()


def test_the_catalogue_states_the_errors_that_it_has(survey):
    catalog = read_parent(survey / "parent.parquet")
    many = InjectSettings(rounds=8, n_per_ccd=60, distance=35)
    rounds = [one.all for one in plan_rounds(exposures(survey)[:1], catalog, many, PLAIN)]
    radius = np.concatenate([np.log(one.seen.half_light_radius / one.true.half_light_radius) for one in rounds])
    stated = np.concatenate([one.seen.half_light_radius_err / one.true.half_light_radius for one in rounds])
    # 480 galaxies: an error of 3 %.
    assert np.std(radius / stated) == pytest.approx(1, abs=0.12)
    joined = join_catalogs(catalog, rounds[0].seen)
    assert len(joined) == len(catalog) + len(rounds[0].seen)
    assert np.isnan(joined.half_light_radius_err[: len(catalog)]).all()
    named = replace(
        catalog, object_name=np.array([f"n{i}" for i in range(len(catalog))]), flags=np.ones(len(catalog), int)
    )
    more = join_catalogs(named, rounds[0].seen)
    assert more.object_name[-1] == f"injected {rounds[0].seen.object_id[-1]}"
    assert more.flags[-1] == 0


def test_runs_hold_the_galaxies_and_what_is_true(survey, made):
    truth = pq.read_table(made.truth).to_pydict()
    assert made.n_injected == len(truth["object_id"]) > 110
    assert made.failed == {}
    image = exposures(survey)[0]
    full = inject_table(image, made.truth.parent / "round_00" / "injected.parquet", PLAIN)
    again = inject_table(image, made.truth.parent / "round_00" / "injected.parquet", PLAIN)
    np.testing.assert_array_equal(full.data, again.data)
    # The light that came in is that of the table, in the image's unit.
    light = (full.data.astype(float) - image.data).sum()
    table = pq.read_table(made.truth.parent / "round_00" / "injected.parquet").to_pydict()
    catalog = read_parent(made.truth.parent / "round_00" / "parent.parquet")
    placed = place_objects(image, catalog.take(np.isin(catalog.object_id, table["object_id"])), PLAIN)
    flux = dict(zip(table["object_id"], table["flux"], strict=True))
    expected = sum(flux[i] for i in placed.catalog.object_id[on_image(placed, image)].tolist())
    expected /= 10 ** (0.4 * (31.4 - image.zeropoint))
    # Light at the edges leaves the image or enters it.
    assert light == pytest.approx(expected, rel=0.03)
    figures = injected_figures(made.runs, made.truth)["optimal"]
    assert figures["all"].n > 200
    assert abs(figures["all"].bias) < 0.3
    assert 0.85 < figures["all"].pull < 1.4
    kinds = [*(f"place: {one}" for one in ("anywhere", "empty", "beside")), "true flux 0"]
    assert sum(figures[kind].n for kind in kinds) == figures["all"].n
    # The rows of sky are in the catalogue without light.
    assert {one for one, flux in zip(truth["place"], truth["flux"], strict=True) if flux == 0} == {"sky"}
    assert min(flux for one, flux in zip(truth["place"], truth["flux"], strict=True) if one != "sky") > 0
    nothing = read_known(made.runs, made.truth)
    pull = nothing.estimators["optimal"].pull[nothing.truth == 0]
    assert len(pull) > 10
    assert abs(np.nanmean(pull)) < 4 / np.sqrt(len(pull))
    text = format_figures({"optimal": figures})
    assert text.splitlines()[1].split()[:2] == ["optimal", "all"]


def test_a_killed_run_goes_on(survey, made, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(survey, out, progress=lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    run(survey, out)
    for number in (0, 1):
        first, second = (read_shards(root / f"round_{number:02d}" / "run") for root in (out, made.truth.parent))
        np.testing.assert_array_equal(first["flux"].to_numpy(), second["flux"].to_numpy())
    with pytest.raises(LumosConfigError, match="inject"):
        run(survey, out, FEW.model_copy(update={"n_per_ccd": 61}))


def test_images_without_zero_point_have_fluxes_in_their_own_unit(survey, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(survey, bare)
    for path in files(bare):
        with fits.open(path, mode="update") as hdus:
            for hdu in hdus:
                hdu.header.remove("ZEROPT", ignore_missing=True)
    images = exposures(bare)
    assert not np.isfinite(images[0].zeropoint)
    report = run(bare, tmp_path / "out", InjectSettings(rounds=1, n_per_ccd=60, distance=35))
    figures = injected_figures(report.runs, report.truth)["optimal"]["all"]
    assert abs(figures.bias) < 0.4
    mixed = [replace(images[0], zeropoint=25.0), images[1]]
    with pytest.raises(LumosDataError, match="band 'r' has exposures with and without a zero point"):
        plan_rounds(mixed, read_parent(bare / "parent.parquet"), FEW, PLAIN)


def test_images_without_gain_get_no_photon_noise(survey, made):
    image = replace(exposures(survey)[0], gain=float("nan"))
    path = made.truth.parent / "round_00" / "injected.parquet"
    one, two = inject_table(image, path, PLAIN), inject_table(replace(image, exposure_id="other"), path, PLAIN)
    np.testing.assert_array_equal(one.data, two.data)


def test_a_mask_over_everything_leaves_no_room(survey):
    image = exposures(survey)[0]
    full = replace(image, mask=np.ones_like(image.mask))
    with pytest.raises(LumosDataError, match="no exposure has room for a galaxy"):
        plan_rounds([full], read_parent(survey / "parent.parquet"), FEW, PLAIN)


def test_an_image_without_room_is_left_out(survey):
    image, other = exposures(survey)
    catalog = read_parent(survey / "parent.parquet")
    settings = InjectSettings(rounds=1, n_per_ccd=60, distance=35, empty=0.5, beside=0.0, sky=0.5)
    # Objects everywhere: no place is empty.
    objects = place_objects(image, catalog, PLAIN)
    y, x = np.mgrid[0 : image.shape[0] : 8, 0 : image.shape[1] : 8]
    ra, dec = pixel_to_sky(image.wcs, x.ravel().astype(float), y.ravel().astype(float))
    n = len(ra)
    one = objects.catalog.take(np.zeros(n, dtype=int))
    crowd = replace(one, object_id=np.arange(n), ra=ra, dec=dec)
    with pytest.raises(LumosDataError, match="no exposure has room for a galaxy"):
        plan_rounds([image], crowd, settings, PLAIN)
    # A mask over one image leaves the other's galaxies.
    full = replace(image, mask=np.ones_like(image.mask))
    (made,) = plan_rounds([full, other], catalog, InjectSettings(rounds=1, n_per_ccd=60, distance=35), PLAIN)
    assert len(made.all) > 40


def test_images_without_gain_are_measured(survey, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(survey, bare)
    for path in files(bare):
        with fits.open(path, mode="update") as hdus:
            for hdu in hdus:
                hdu.header.remove("GAIN", ignore_missing=True)
    assert not np.isfinite(exposures(bare)[0].gain)
    report = run(bare, tmp_path / "out", InjectSettings(rounds=1, n_per_ccd=60, distance=35))
    figures = injected_figures(report.runs, report.truth)["optimal"]["all"]
    assert abs(figures.bias) < 0.4
    assert 0.8 < figures.pull < 1.5


def test_an_unreadable_file_does_not_stop_the_others(survey, tmp_path):
    bad = tmp_path / "bad.fits"
    bad.write_bytes(b"nothing")
    report = run(survey, tmp_path / "out", InjectSettings(rounds=1, n_per_ccd=20), exposures=[bad, *files(survey)])
    assert list(report.failed) == [str(bad)]
    assert report.n_injected > 15
    with pytest.raises(LumosDataError, match="none of 1 exposures can be read"):
        run(survey, tmp_path / "none", exposures=[bad])


def test_few_galaxies_give_no_figures(survey, made, tmp_path):
    report = run(survey, tmp_path / "out", InjectSettings(rounds=1, n_per_ccd=8))
    figures = injected_figures(report.runs, report.truth)
    assert np.isnan(figures["optimal"]["all"].pull)
    assert "       -" in format_figures(figures)
    catalog = read_parent(survey / "parent.parquet")
    write_parent(catalog, tmp_path / "parent.parquet")
    plain = tmp_path / "plain"
    measure_run(files(survey), tmp_path / "parent.parquet", plain, load_survey("generic"), PLAIN)
    with pytest.raises(LumosDataError, match="none of its objects was measured"):
        injected_figures([plain], made.truth)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"empty": 0.7, "beside": 0.5}, "shares of one whole"),
        ({"empty": 0.5, "beside": 0.45}, r"sky=0\.1 are shares of one whole"),
        ({"snr_range": (10, 1)}, "the smaller first"),
        ({"errors": {"psf_fwhm": 0.1}}, "the PSF is the exposure's"),
    ],
)
def test_settings_that_contradict_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        InjectSettings(**changes)
