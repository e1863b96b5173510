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
    *("artefacts.cosmic_rays=0", "sky.stars=0", "seed=8"),
)


def flags_of_wrong_fluxes(folder, *, satellites, trails):
    simulation = load_simulation("paucam-mini", [*SURVEY, f"artefacts.satellites={satellites}"])
    exposures = simulate_survey(simulation, folder / f"survey_{satellites}").exposures
    settings, run = MeasureSettings(estimators=("optimal",), trails=trails), folder / f"run_{satellites}_{trails}"
    home = folder / f"survey_{satellites}"
    measure_run(exposures, home / "parent.parquet", run, load_survey("paucam"), settings)
    table = read_shards(run)
    flux, error = (table[name].to_numpy() for name in ("flux", "flux_err"))
    return table["flags"].to_numpy()[np.abs(flux - look_up_truth(table, home / "truth.parquet")) > 5 * error]


def test_fluxes_on_a_trail_are_told_and_right(tmp_path):
    never = flags_of_wrong_fluxes(tmp_path, satellites=0, trails=True)
    unmasked = flags_of_wrong_fluxes(tmp_path, satellites=1, trails=False)
    masked = flags_of_wrong_fluxes(tmp_path, satellites=1, trails=True)
    # Some are off without a satellite too: galaxies with a neighbour that no catalogue has.
    assert len(unmasked) >= len(never) + 5
    assert len(masked) <= len(never) + 1
    assert has_flag(masked, Flag.MASKED).sum() >= len(masked) - len(never)
