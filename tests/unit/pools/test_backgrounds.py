"""Pools of background stamps: what they hold, what they refuse, and that they survive being killed."""

import json
import os
import pickle
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from helpers.background_pools import FACTS, flat_pool, new_stamps, write_pool
from helpers.fits_files import header
from lumos.background.correlation import CorrelatedNoise
from lumos.background.settings import NoiseSettings
from lumos.cli import app
from lumos.errors import LumosConfigError, LumosDataError, LumosError, LumosValueError
from lumos.flags import MaskPlane
from lumos.images.reader import read_exposure
from lumos.pools import cut as module
from lumos.pools.cut import make_backgrounds
from lumos.pools.pool import BackgroundPool
from lumos.pools.settings import BackgroundSettings
from lumos.pools.writer import PoolWriter
from lumos.psfs import MoffatPsf, PixelPsf
from lumos.surveys import Survey, load_survey

SHAPE = (200, 260)
FAST = BackgroundSettings(n_per_exposure=12, noise=NoiseSettings(correlation="none"))


def write_exposure(path, rng, *, scatter=5.0, data=None, extensions=None, **cards):
    data = rng.normal(100, scatter, SHAPE) if data is None else data
    primary = fits.PrimaryHDU(data.astype(">f4"), header(CRPIX1=130.5, CRPIX2=100.5, GAIN=4.0, RDNOISE=0.0, **cards))
    hdus = [primary, *(fits.ImageHDU(values, name=name) for name, values in (extensions or {}).items())]
    fits.HDUList(hdus).writeto(path)
    return path


def make(tmp_path, files, settings=FAST, *, out="pool", survey="generic", **options):
    report = make_backgrounds(files, tmp_path / out, load_survey(survey), settings, **options)
    return report, BackgroundPool.open(tmp_path / out)


def test_stamps_are_cutouts_with_all_that_is_known(tmp_path, rng):
    mask = np.zeros(SHAPE, dtype=np.int16)
    mask[50:53, 60:63] = 1
    files = [
        write_exposure(tmp_path / "a.fits", rng, extensions={"MASK": mask}),
        write_exposure(tmp_path / "b.fits", rng, FILTER="g", MAGZPT=26.0, PSF_FWHM=1.0),
    ]
    report, pool = make(tmp_path, files)
    assert (report.n_stamps, report.n_used, report.refused) == (24, 2, ())
    assert len(pool) == 24
    assert (pool.bands, pool.states, pool.side) == (("g", "r"), ("",), 96)
    stamps = pool.take(np.arange(24))
    images = [next(read_exposure(path, load_survey("generic"))) for path in files]
    for i in range(24):
        exposure = images[stamps.exposure[i]]
        x, y = int(stamps.ccd_x[i]), int(stamps.ccd_y[i])
        padded = np.pad(exposure.data, 48)[y : y + 96, x : x + 96]
        np.testing.assert_array_equal(stamps.data[i], padded)
        outside = np.pad(exposure.mask, 48, constant_values=int(MaskPlane.NO_DATA))[y : y + 96, x : x + 96]
        np.testing.assert_array_equal(stamps.mask[i], outside)
        assert (stamps.ccd_x_norm[i], stamps.ccd_y_norm[i]) == ((x + 0.5) / 260, (y + 0.5) / 200)
        assert pool.bands[stamps.band[i]] == exposure.band
    np.testing.assert_array_equal(stamps.good, (stamps.mask & ~np.uint8(MaskPlane.SUSPECT)) == 0)
    np.testing.assert_array_equal(stamps.zeropoint, [27.0] * 12 + [26.0] * 12)
    np.testing.assert_array_equal(stamps.gain, 4.0)
    np.testing.assert_array_equal(stamps.exposure_time, 100.0)
    np.testing.assert_allclose(stamps.pixel_scale, 0.25, rtol=1e-6)
    np.testing.assert_allclose(stamps.psf_fwhm, [3.2] * 12 + [4.0] * 12, rtol=1e-6)
    # Gain and sky are believed: 100 / 4 = 25; the level of an annulus of 3000 pixels is known to 0.1.
    np.testing.assert_allclose(stamps.sky_variance, 25.0, atol=0.2)
    assert {exposure.noise_source for exposure in pool.exposures} == {"gain"}
    (rows, psf) = stamps.psfs[0]
    np.testing.assert_array_equal(rows, np.arange(24))
    np.testing.assert_allclose(psf.fwhm, stamps.psf_fwhm)
    # Places are random over the whole CCD, edges included.
    assert stamps.ccd_x.min() < 60
    assert stamps.ccd_x.max() > 200


def test_stamps_do_not_depend_on_the_other_files_and_a_finished_pool_is_kept(tmp_path, rng):
    files = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "ab"]
    _, both = make(tmp_path, files)
    _, one = make(tmp_path, files[1:], out="one")
    np.testing.assert_array_equal(one.take(np.arange(12)).data, both.take(np.arange(12, 24)).data)
    before = (tmp_path / "pool/pool.json").stat().st_mtime_ns
    again, _ = make(tmp_path, files)
    assert again.n_stamps == 24
    assert (tmp_path / "pool/pool.json").stat().st_mtime_ns == before
    with pytest.raises(LumosConfigError, match=r"pool: holds a pool of other .*settings\.seed: 0 -> 1"):
        make(tmp_path, files, FAST.model_copy(update={"seed": 1}))
    with pytest.raises(LumosConfigError, match=r"files\.b\.fits: .* -> nothing"):
        make(tmp_path, files[:1])
    assert not list(tmp_path.glob(".*"))


def test_a_killed_build_is_continued(tmp_path, rng, monkeypatch):
    files = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "abc"]
    make(tmp_path, files, out="whole")
    cut = module._cut_file
    seen = []

    def dies_at_the_second(path, *arguments):
        seen.append(path.name)
        if path.name == "b.fits" and seen.count("b.fits") == 1:
            raise KeyboardInterrupt
        return cut(path, *arguments)

    monkeypatch.setattr(module, "_cut_file", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, files)
    with pytest.raises(LumosDataError, match="not a pool of backgrounds"):
        BackgroundPool.open(tmp_path / "pool")
    # Half-written pixels and half a line of the journal, as a kill leaves them.
    for name in ("data.npy", "journal.jsonl"):
        with (tmp_path / "pool" / name).open("ab") as stream:
            stream.write(b"{garbage")
    make(tmp_path, files)
    assert seen == ["a.fits", "b.fits", "b.fits", "c.fits"]
    for name in ("data.npy", "mask.npy", "index.parquet", "pool.json"):
        assert (tmp_path / "pool" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_build_killed_at_any_opening_of_a_file_is_continued(tmp_path, rng, monkeypatch):
    stamps = new_stamps(rng.normal(100, 5, (4, 96, 96)))
    whole = write_pool(tmp_path / "whole", ({}, stamps), ({}, stamps))
    with monkeypatch.context() as patch:
        opened = count_openings(patch)
        write_pool(tmp_path / "other", ({}, stamps), ({}, stamps))
    assert opened[0] > 15
    for number in range(1, opened[0] + 1):
        out = tmp_path / str(number)
        with monkeypatch.context() as patch:
            count_openings(patch, last=number)
            with pytest.raises(KeyboardInterrupt):
                write_pool(out, ({}, stamps), ({}, stamps))
        if not (out / "pool.json").exists():
            writer = PoolWriter(out, 96, {})
            for name in (f"{number}.fits" for number in range(len(writer.entries), 2)):
                writer.add(name, [(FACTS, stamps)])
            writer.finish({}, [facts for entry in writer.entries for facts in entry["exposures"]])
        for name in ("data.npy", "mask.npy", "index.parquet", "pool.json"):
            assert (out / name).read_bytes() == (whole / name).read_bytes(), (number, name)


def count_openings(patch, last=None):
    """Count the files that a writer opens; die at the last, and leave everything as a kill does."""
    opened, open_file = [0], os.open

    def counted(path, flags, *arguments, **options):
        opened[0] += 1
        if opened[0] == last:
            patch.setattr(Path, "unlink", lambda *_, **__: None)
            raise KeyboardInterrupt
        return open_file(path, flags, *arguments, **options)

    patch.setattr(os, "open", counted)
    return opened


def test_folders_of_the_user_are_left_alone(tmp_path, rng, monkeypatch):
    files = [write_exposure(tmp_path / "a.fits", rng)]
    for name in (".pool.part", "pool"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious.txt").write_text("mine")
    with pytest.raises(LumosConfigError, match=r"pool: holds something else; give a new --out"):
        make(tmp_path, files)
    make(tmp_path, files, out="other")
    for name in (".pool.part", "pool"):
        assert [path.name for path in (tmp_path / name).iterdir()] == ["precious.txt"]
    # The folder that one is in.
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert make_backgrounds(files, Path(), load_survey("generic"), FAST).n_stamps == 12
    assert sorted(path.name for path in Path().iterdir()) == ["data.npy", "index.parquet", "mask.npy", "pool.json"]


def test_arrays_are_never_written_through_a_link(tmp_path, rng):
    (tmp_path / "victim").write_text("precious")
    writer = PoolWriter(tmp_path / "pool", 96, {})
    (tmp_path / "pool" / "data.npy").unlink()
    (tmp_path / "pool" / "data.npy").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        writer.add("a.fits", [(FACTS, new_stamps(rng.normal(100, 5, (4, 96, 96))))])
    assert (tmp_path / "victim").read_text() == "precious"


def test_two_builds_of_one_pool_are_refused(tmp_path, rng, monkeypatch):
    files = [write_exposure(tmp_path / "a.fits", rng)]
    cut = module._cut_file

    def second_start(*arguments):
        with pytest.raises(LumosError, match=r"pool: another lumos command writes here \(process \d+ on "):
            make(tmp_path, files, FAST.model_copy(update={"seed": 1}))
        return cut(*arguments)

    monkeypatch.setattr(module, "_cut_file", second_start)
    assert make(tmp_path, files)[0].n_stamps == 12


def test_changed_masks_are_noticed(tmp_path, rng, monkeypatch):
    survey = generic_with_masks()
    files = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "ab"]
    for name in "ab":
        fits.PrimaryHDU(np.zeros(SHAPE, dtype=np.int16)).writeto(tmp_path / f"{name}.mask.fits")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_judge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_backgrounds(files, tmp_path / "pool", survey, FAST)
    os.utime(tmp_path / "a.mask.fits", ns=(1, 1))
    seen = []
    cut = module._cut_file
    monkeypatch.setattr(module, "_cut_file", lambda path, *rest: (seen.append(path.name), cut(path, *rest))[1])
    make_backgrounds(files, tmp_path / "pool", survey, FAST)
    assert seen == ["a.fits", "b.fits"]
    os.utime(tmp_path / "b.mask.fits", ns=(1, 1))
    with pytest.raises(LumosConfigError, match=r"b\.mask\.fits has changed since the pool was made"):
        make_backgrounds(files, tmp_path / "pool", survey, FAST)


def generic_with_masks():
    """Return the generic survey with its mask in a file of its own."""
    mask = {"kind": "nonzero", "sidecar": [{"find": r"\.fits$", "replace": ".mask.fits"}]}
    return Survey.model_validate({**load_survey("generic").model_dump(mode="json"), "mask": [mask]})


def test_an_unforeseen_error_refuses_one_file(tmp_path, rng, monkeypatch):
    files = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "ab"]
    read = module.read_exposure

    def fails(path, *arguments, **options):
        if path.name == "a.fits":
            raise AttributeError("no shape")
        return read(path, *arguments, **options)

    monkeypatch.setattr(module, "read_exposure", fails)
    report, _ = make(tmp_path, files)
    assert report.refused == ("a.fits: AttributeError: no shape",)
    assert report.n_stamps == 12


def test_a_begun_build_of_other_settings_is_begun_anew(tmp_path, rng, monkeypatch):
    files = [write_exposure(tmp_path / f"{name}.fits", rng) for name in "ab"]
    with monkeypatch.context() as patch:
        patch.setattr(module, "_judge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path, files)
    _, pool = make(tmp_path, files, FAST.model_copy(update={"n_per_exposure": 5}))
    assert len(pool) == 10


def test_too_masked_stamps_are_drawn_again(tmp_path, rng):
    mask = np.zeros(SHAPE, dtype=np.int16)
    mask[:, 140:] = 1
    path = write_exposure(tmp_path / "a.fits", rng, extensions={"MASK": mask})
    _, pool = make(tmp_path, [path], FAST.model_copy(update={"n_per_exposure": 60, "max_masked": 0.1}))
    stamps = pool.take(np.arange(60))
    share = (~stamps.good[:, 18:78, 18:78]).mean(axis=(1, 2))
    assert share.max() <= 0.1
    assert share.max() > 0  # but some masked pixels are welcome


def test_source_free_stamps(tmp_path, rng):
    data = rng.normal(100, 5, SHAPE)
    y, x = np.mgrid[:200, :260]
    places = rng.uniform(20, 180, (6, 2)) * (1.3, 1)
    for cx, cy in places:
        data += 800 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 2.0**2))
    path = write_exposure(tmp_path / "a.fits", rng, data=data)
    _, free = make(tmp_path, [path], FAST.model_copy(update={"n_per_exposure": 50, "source_free_radius": 12.0}))
    _, any_place = make(tmp_path, [path], FAST.model_copy(update={"n_per_exposure": 50}), out="any")

    def nearest(pool):
        stamps = pool.take(np.arange(50))
        return np.hypot(stamps.ccd_x - places[:, :1], stamps.ccd_y - places[:, 1:]).min()

    # The detected pixels of a source reach further than its middle.
    assert nearest(free) > 12
    assert nearest(any_place) < 12


def test_bad_exposures_are_refused_with_the_reason(tmp_path, rng):
    mask = np.zeros(SHAPE, dtype=np.int16)
    mask[:150] = 1
    damaged = tmp_path / "damaged.fits"
    files = [
        write_exposure(tmp_path / "good.fits", rng),
        write_exposure(tmp_path / "good2.fits", rng),
        write_exposure(tmp_path / "masked.fits", rng, extensions={"MASK": mask}),
        write_exposure(tmp_path / "noisy.fits", rng, scatter=25.0),
        # A deeper zero point makes the same counts a fainter sky.
        write_exposure(tmp_path / "quiet.fits", rng, MAGZPT=29.0),
        write_exposure(tmp_path / "blurred.fits", rng, PSF_FWHM=4.5),
        write_exposure(tmp_path / "nopsf.fits", rng, PSF_FWHM=None),
        write_exposure(tmp_path / "filled.fits", rng, data=np.full(SHAPE, 100.0)),
        damaged,
    ]
    damaged.write_bytes(files[0].read_bytes()[:5000])
    report, pool = make(tmp_path, files)
    assert report.n_used == 2
    assert {pool.exposures[number].exposure_id for number in pool.exposure} == {"good", "good2"}
    facts = {
        entry["exposure_id"]: entry for entry in json.loads((tmp_path / "pool/pool.json").read_text())["exposures"]
    }
    reasons = {
        "masked": r"75.0% of the pixels are masked, allowed: up to 50.0%",
        "noisy": r"scatter is 5\.\d* times the median of band r, allowed: 0.333 to 3",
        "quiet": r"scatter is 0\.1\d* times",
        "blurred": "FWHM is 4.5 arcsec, allowed: 0.1 to 4",
        "nopsf": "no PSF is known",
        "filled": "no scatter .most are 100",
        "damaged": "damaged.fits",
    }
    for name, reason in reasons.items():
        assert facts[name]["status"] == "refused"
        assert re.search(reason, facts[name]["reason"]), facts[name]["reason"]
    assert len(report.refused) == 7


def test_no_exposure_is_fit(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng, PSF_FWHM=7.6)  # 30.4 px of 0.25 arcsec
    wide = FAST.model_copy(update={"max_psf_fwhm": 10.0})
    with pytest.raises(LumosDataError, match=r"every CCD was refused: a.fits 0: .*30.4 px, allowed: up to half"):
        make(tmp_path, [path], wide)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.fits"]
    with pytest.raises(LumosDataError, match=r"b.fits: no such file"):
        make(tmp_path, [tmp_path / "b.fits"])
    with pytest.raises(LumosValueError, match="at least one file"):
        make(tmp_path, [])
    with pytest.raises(LumosDataError, match="names must differ"):
        make(tmp_path, [path, path])


def test_settings_that_do_not_fit():
    with pytest.raises(ValueError, match="does not hold stamp and annulus, allowed: 92 or more"):
        BackgroundSettings(side=80)
    with pytest.raises(ValueError, match="annulus_inner"):
        BackgroundSettings(annulus_inner=50)
    with pytest.raises(ValueError, match="min_psf_fwhm"):
        BackgroundSettings(min_psf_fwhm=5)


def test_variance_maps_are_kept(tmp_path, rng):
    variance = rng.uniform(20, 30, SHAPE).astype(np.float32)
    variance[100, 100] = np.nan
    files = [
        write_exposure(tmp_path / "a.fits", rng, extensions={"VAR": variance}),
        write_exposure(tmp_path / "b.fits", rng),
    ]
    _, pool = make(tmp_path, files)
    stamps = pool.take(np.array([20, 3, 5]))
    assert np.isnan(stamps.variance[0]).all()
    x, y = int(stamps.ccd_x[1]), int(stamps.ccd_y[1])
    expected = np.pad(np.nan_to_num(variance), 48)[y : y + 96, x : x + 96]
    seen = stamps.good[1]
    np.testing.assert_array_equal(stamps.variance[1][seen], expected[seen])
    # Median of about 3000 pixels of a uniform distribution of width 10: 0.1.
    assert abs(stamps.sky_variance[1] - 25) < 0.5
    assert pool.take(np.array([20])).variance is None


def test_psfs_of_any_kind_and_shape_go_with_their_stamps(tmp_path, rng):
    data = np.zeros((3, 96, 96))
    own = rng.uniform(0, 1, (3, 11, 11)).astype(np.float32)
    shared = rng.uniform(0, 1, (1, 15, 13)).astype(np.float32)
    moffat = MoffatPsf(np.array([3.0, 4.0, 5.0]), np.array([2.0, 3.0, 4.0]))
    path = write_pool(
        tmp_path / "pool",
        ({}, new_stamps(data, psf=PixelPsf(own))),
        ({}, new_stamps(data, psf=PixelPsf(shared, 0.5, includes_pixel=False))),
        ({}, new_stamps(data, psf=moffat, psf_fwhm=moffat.fwhm)),
    )
    # A shared image is stored once.
    assert len(np.load(path / "psf.npy")) == 3 * 121 + 195
    stamps = BackgroundPool.open(path).take(np.array([8, 1, 4, 3, 0, 6]))
    found = {int(row): (psf, i) for rows, psf in stamps.psfs for i, row in enumerate(rows)}
    assert sorted(found) == list(range(6))
    for row, number in ((1, 1), (4, 0)):
        psf, i = found[row]
        np.testing.assert_array_equal(psf.images[i], own[number])
        assert (psf.sampling, psf.includes_pixel) == (1.0, True)
    for row in (2, 3):
        psf, i = found[row]
        np.testing.assert_array_equal(psf.images[i], shared[0])
        assert (psf.sampling, psf.includes_pixel) == (0.5, False)
    for row, number in ((0, 2), (5, 0)):
        psf, i = found[row]
        assert (psf.fwhm[i], psf.beta[i]) == (moffat.fwhm[number], moffat.beta[number])


def test_sample_rows_and_selection(tmp_path, rng):
    data = np.arange(6, dtype=np.float64)[:, None, None] * np.ones((96, 96))
    path = write_pool(
        tmp_path / "pool",
        ({"band": "r", "state": "before"}, new_stamps(data)),
        ({"band": "g", "state": "after"}, new_stamps(data + 10)),
        ({"band": "r", "state": "after"}, new_stamps(data + 20)),
        ({"band": "z", "status": "refused"}, None),
    )
    pool = BackgroundPool.open(path)
    assert (pool.bands, pool.states) == (("g", "r"), ("after", "before"))
    np.testing.assert_array_equal(pool.rows(band="r", state="after"), np.arange(12, 18))
    drawn = pool.sample(np.random.default_rng(1), 500, pool.rows(band="r"))
    values, counts = np.unique(drawn.data[:, 0, 0], return_counts=True)
    np.testing.assert_array_equal(values, [*range(6), *range(20, 26)])
    # Each of 12 is drawn 41.7 times, scatter 6.2.
    assert abs(counts - 500 / 12).max() < 4 * 6.2
    np.testing.assert_array_equal(pool.sample(np.random.default_rng(1), 500, pool.rows(band="r")).data, drawn.data)
    with pytest.raises(LumosValueError, match="band of the pool: got 'z', allowed: g, r"):
        pool.rows(band="z")
    with pytest.raises(LumosValueError, match="allowed: 0 to 17"):
        pool.take(np.array([18]))
    with pytest.raises(LumosValueError, match="at least one"):
        pool.sample(rng, 3, pool.rows(band="g", state="before"))


def test_a_pool_is_a_memory_map(tmp_path, rng):
    pool = flat_pool(tmp_path / "pool", rng, 300)  # 11 MB of pixels
    pool.sample(rng, 1)
    tracemalloc.start()
    stamps = pool.sample(rng, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 8 stamps are 0.37 MB with their masks.
    assert peak < 1.5e6
    sent = pickle.dumps(pool)
    assert len(sent) < 2000
    np.testing.assert_array_equal(pickle.loads(sent).take(np.arange(300)).data, pool.take(np.arange(300)).data)
    assert len(stamps) == 8


def test_noise_factors_are_those_of_each_exposure(tmp_path):
    curves = [
        CorrelatedNoise(np.array([3.0, 12.0, 80.0]), np.array([1.2, 1.4, 1.9]), np.array([9, 9, 9])),
        CorrelatedNoise(np.array([5.0]), np.array([1.3]), np.array([9])),
        None,
    ]
    stamps = new_stamps(np.zeros((1, 96, 96)))
    path = write_pool(
        tmp_path / "pool",
        *(({"correlation": None if curve is None else curve.summary()}, stamps) for curve in curves),
    )
    pool = BackgroundPool.open(path)
    areas = np.array([1.0, 3.0, 5.0, 12.0, 40.0, 80.0, 200.0])
    for number, curve in enumerate(curves):
        expected = np.ones(7) if curve is None else curve.factor_at(areas)
        np.testing.assert_allclose(pool.noise_factor(np.full(7, number), areas), expected, rtol=1e-12)


def spoil_format(path):
    content = json.loads((path / "pool.json").read_text())
    (path / "pool.json").write_text(json.dumps({**content, "format": "other"}))


def cut_data(path):
    (path / "data.npy").write_bytes((path / "data.npy").read_bytes()[:-4])


def other_type(path):
    np.save(path / "data.npy", np.zeros((4, 96, 96)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.rename(path.with_name("gone")), "pool: not a pool of backgrounds .no such folder"),
        (lambda path: (path / "pool.json").unlink(), "not a pool of backgrounds .no pool.json"),
        (lambda path: (path / "pool.json").write_text("{"), "pool.json: missing or damaged"),
        (spoil_format, "format 'other', allowed: 'lumos-backgrounds-1'"),
        (lambda path: (path / "index.parquet").unlink(), "index.parquet: missing or damaged"),
        (lambda path: (path / "index.parquet").write_bytes(b"PAR1"), "index.parquet: missing or damaged"),
        (lambda path: (path / "data.npy").unlink(), "data.npy: missing or damaged"),
        (lambda path: (path / "mask.npy").unlink(), "mask.npy: missing or damaged"),
        (cut_data, "data.npy: missing or damaged"),
        (other_type, "data.npy: float64"),
        (lambda path: (path / "psf.npy").unlink(), "psf.npy: no such file"),
        (lambda path: (path / "variance.npy").unlink(), "variance.npy: no such file"),
    ],
)
def test_damaged_pools_are_refused(tmp_path, spoil, message):
    data = np.zeros((4, 96, 96))
    psf = PixelPsf(np.ones((1, 5, 5), dtype=np.float32))
    path = write_pool(tmp_path / "pool", ({}, new_stamps(data, psf=psf, variance=np.ones_like(data))))
    BackgroundPool.open(path)
    spoil(path)
    with pytest.raises(LumosDataError, match=message):
        BackgroundPool.open(path)


def test_an_empty_pool_is_refused(tmp_path):
    stamps = new_stamps(np.zeros((2, 96, 96)))
    path = write_pool(tmp_path / "pool", ({"status": "refused"}, stamps))
    with pytest.raises(LumosDataError, match=r"pool: 0 stamps in the index, 0 in pool.json"):
        BackgroundPool.open(path)


def test_pools_are_merged_only_if_allowed(tmp_path):
    stamps = new_stamps(np.ones((2, 96, 96)))
    one = write_pool(tmp_path / "one", ({}, stamps))
    same = write_pool(tmp_path / "same", ({"band": "g", "pixel_scale": 0.251}, new_stamps(np.full((3, 96, 96), 2.0))))
    other = write_pool(tmp_path / "other", ({"survey": "sdss"}, stamps))
    coarse = write_pool(tmp_path / "coarse", ({"pixel_scale": 0.3}, stamps))
    small = write_pool(tmp_path / "small", ({}, new_stamps(np.ones((2, 92, 92)))))
    both = BackgroundPool.open(one, same)
    assert len(both) == 5
    assert both.bands == ("g", "r")
    np.testing.assert_array_equal(both.take(np.array([4, 0, 2])).data[:, 0, 0], [2, 1, 2])
    np.testing.assert_array_equal(both.take(np.array([4, 0])).pixel_scale, [0.251, 0.25])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(both)).exposure, both.exposure)
    with pytest.raises(LumosDataError, match=r"surveys \['generic', 'sdss'\].* unless mixed=True"):
        BackgroundPool.open(one, other)
    with pytest.raises(LumosDataError, match=r"pixel scales 0.25 to 0.3 arcsec"):
        BackgroundPool.open(one, coarse)
    assert BackgroundPool.open(one, other, coarse, mixed=True).surveys == ("generic", "sdss")
    with pytest.raises(LumosDataError, match="different stamp sides"):
        BackgroundPool.open(one, small, mixed=True)


def test_pool_and_survey_must_go_together(tmp_path):
    stamps = new_stamps(np.ones((2, 96, 96)))
    narrow = {"band": "NB685", "pixel_scale": 0.263, "state": "before"}
    BackgroundPool.open(write_pool(tmp_path / "a", (narrow, stamps))).check_survey(load_survey("paucam"))
    for number, (facts, message) in enumerate(
        [
            ({"band": "r"}, r"bands \['r'\] are not of survey paucam: NB455"),
            ({"pixel_scale": 0.3}, r"pixel scale 0.3 arcsec, allowed: 0.263 within 3 %"),
            ({"state": "later"}, r"states \['later'\] are not of survey paucam"),
        ]
    ):
        pool = BackgroundPool.open(write_pool(tmp_path / str(number), (narrow | facts, stamps)))
        with pytest.raises(LumosDataError, match=message):
            pool.check_survey(load_survey("paucam"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sky_variance": 0.0}, "variance of background stamps"),
        ({"sky_variance": np.nan}, "variance of background stamps"),
        ({"mask": np.full((2, 96, 96), 256)}, "mask of background stamps"),
        ({"mask": np.zeros((2, 95, 96), dtype=int)}, "background stamps and masks"),
        ({"data": np.full((2, 96, 96), np.nan)}, "finite; bad ones masked"),
    ],
)
def test_bad_stamps_are_not_written(change, message):
    with pytest.raises(LumosValueError, match=message):
        new_stamps(**{"data": np.zeros((2, 96, 96))} | change)


def test_command(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng)
    command = ["backgrounds", str(path), "--out", str(tmp_path / "pool"), "--set", "backgrounds.n_per_exposure=4"]
    result = CliRunner().invoke(app, [*command, "--set", "backgrounds.noise.correlation=none"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "4 stamps of 1 CCDs, 0 refused" in result.output
    assert len(BackgroundPool.open(tmp_path / "pool")) == 4
