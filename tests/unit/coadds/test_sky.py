"""Empty positions, and what coadds learn from them."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.flux_runs import exposure, write_catalog, write_run
from lumos.catalogs.parent import read_parent
from lumos.coadds.run import coadd_run
from lumos.coadds.settings import CoaddSettings
from lumos.coadds.sky import sky_catalog
from lumos.errors import LumosConfigError, LumosDataError, LumosValueError
from lumos.runs.shards import read_shard

PLAIN = {"prior": "none", "calibrate": {"fit": False}, "repeat_errors": False, "outlier_threshold": 0.0}


def separations(first, second):
    dx = (first.ra[:, None] - second.ra) * np.cos(np.deg2rad(2.0))
    return 3600 * np.hypot(dx, first.dec[:, None] - second.dec)


@pytest.fixture
def parent(tmp_path):
    write_catalog(tmp_path / "objects.parquet", np.linspace(18, 23, 400))
    return read_parent(tmp_path / "objects.parquet")


def test_positions_are_empty_and_near_the_objects(parent, rng):
    sky = sky_catalog(parent, 500, 5.0, rng)
    assert len(sky) == len(set(sky.object_id.tolist())) == 500
    assert (sky.object_id < 0).all()
    nearest = separations(sky, parent).min(axis=1)
    assert nearest.min() > 5.0
    assert nearest.max() < 61
    among = separations(sky, sky)
    assert among[~np.eye(500, dtype=bool)].min() > 5.0
    # Shapes and magnitudes are those of objects.
    assert set(sky.ref_mag.tolist()) <= set(parent.ref_mag.tolist())
    assert sky.shape_ok.all()


def test_positions_that_cannot_be_had(parent, rng):
    with pytest.raises(LumosDataError, match=r"sky: room for \d+ of 5000 positions 50 arcsec from everything else"):
        sky_catalog(parent, 5000, 50.0, rng)
    with pytest.raises(LumosValueError, match="at least 1, and 0 to 60 arcsec"):
        sky_catalog(parent, 0, 5.0, rng)
    shapeless = replace(parent, half_light_radius=np.full(len(parent), np.nan))
    with pytest.raises(LumosDataError, match="no object with a position and a shape"):
        sky_catalog(shapeless, 10, 5.0, rng)


def run_of(folder, rng, truth, n_exposures, **facts):
    """Exposures with independent noise of 100 nJy, and 40 nJy of light below every object that is the same in all."""
    n = len(truth)
    below = 80.0 + 40.0 * rng.standard_normal(n)
    objects = np.arange(n)
    made = [
        exposure(f"e{number}", objects, truth + below + 100 * rng.standard_normal(n), 100.0, zeropoint_err=1e-6)
        for number in range(n_exposures)
    ]
    return write_run(folder, made, n_objects=n, **facts)


def test_what_lies_below_is_taken_off_and_its_scatter_becomes_a_shared_error(tmp_path, rng):
    n, n_exposures = 4000, 16
    truth = 10 ** rng.uniform(3, 4, n)
    run = run_of(tmp_path / "run", rng, truth, n_exposures)
    sky = run_of(tmp_path / "sky", rng, np.zeros(n), n_exposures)
    pulls = {}
    for name, given in (("with", sky), ("without", None)):
        out = tmp_path / f"{name}.parquet"
        coadd_run([run], out, CoaddSettings.model_validate(PLAIN), sky=given)
        table = read_shard(out)
        for flux, error in (("flux_median", "flux_sigma68"), ("optimal_flux", "optimal_flux_err")):
            pulls[name, flux] = (table[flux].to_numpy() - truth) / table[error].to_numpy()
    for flux in ("flux_median", "optimal_flux"):
        # 4000 objects: a standard deviation to 1.1 per cent, twice, and a median to 0.02, twice; three of these.
        assert np.std(pulls["with", flux]) == pytest.approx(1, abs=0.06)
        assert np.median(pulls["with", flux]) == pytest.approx(0, abs=0.09)
        # Without: 25 nJy of independent error, 47 in all, and 80 off.
        assert np.std(pulls["without", flux]) == pytest.approx(47.2 / 25, rel=0.05)
        assert np.median(pulls["without", flux]) == pytest.approx(80 / 25, rel=0.05)


def test_skies_that_do_not_belong(tmp_path, rng):
    run = run_of(tmp_path / "run", rng, np.full(200, 1e4), 2)
    settings = CoaddSettings.model_validate(PLAIN)
    few = run_of(tmp_path / "few", rng, np.zeros(60), 2)
    with pytest.raises(LumosDataError, match="sky: 60 positions in band i, needed: 100"):
        coadd_run([run], tmp_path / "c.parquet", settings, sky=few)
    more = run_of(tmp_path / "more", rng, np.zeros(200), 3)
    with pytest.raises(LumosDataError, match="exposure 'e2', detector '1': not in this calibration"):
        coadd_run([run], tmp_path / "c.parquet", settings, sky=more)
    model = {"name": "m", "kind": "posterior", "sha256": "0", "cut_from": None}
    posteriors = run_of(tmp_path / "p", rng, np.full(200, 1e4), 2, model=model)
    naive = settings.model_copy(update={"product": "naive"})
    with pytest.raises(LumosConfigError, match="the PDFs are posteriors"):
        coadd_run([posteriors], tmp_path / "c.parquet", naive, sky=posteriors)
    with pytest.raises(LumosDataError, match="only runs of one kind can be coadded"):
        coadd_run([run], tmp_path / "c.parquet", settings, sky=posteriors)
