"""A satellite across an exposure: the pixels of its trail are masked, and fluxes are right without them."""

import numpy as np

from lumos.flags import Flag, has_flag
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.surveys import load_survey
from lumos.validate.accuracy import look_up_truth

SURVEY = (
    *("bands=[NB685]", "exposures_per_band=1", "camera.shape=[420, 420]", "camera.detectors=1", "sky.galaxies=1500"),
    *("artefacts.satellites=1", "artefacts.cosmic_rays=0", "sky.stars=0", "seed=8"),
)


def test_fluxes_on_a_trail_are_told_and_right(tmp_path):
    exposures = simulate_survey(load_simulation("paucam-mini", SURVEY), tmp_path).exposures
    beyond, told = {}, {}
    for trails in (False, True):
        settings, run = MeasureSettings(estimators=("optimal",), trails=trails), tmp_path / f"run_{trails}"
        measure_run(exposures, tmp_path / "parent.parquet", run, load_survey("paucam"), settings)
        table = read_shards(run)
        flux, error = (table[name].to_numpy() for name in ("flux", "flux_err"))
        pull = (flux - look_up_truth(table, tmp_path / "truth.parquet")) / error
        off = np.abs(pull) > 5
        beyond[trails], told[trails] = off.sum(), has_flag(table["flags"].to_numpy()[off], Flag.MASKED)
    assert beyond[False] >= 5
    # Without the satellite some are off too: galaxies with a neighbour that no catalogue has.
    assert beyond[True] <= 0.5 * beyond[False]
    assert told[True].all()
