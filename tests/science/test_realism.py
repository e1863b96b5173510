"""Simulated stamps beside the galaxies of exposures: twins, and a classifier that should fail."""

import sys
from pathlib import Path

import numpy as np
import pytest

from lumos.catalogs.parent import read_parent
from lumos.errors import LumosDataError
from lumos.images import read_exposure
from lumos.photometry.objects import place_objects
from lumos.photometry.settings import MeasureSettings
from lumos.pools.cut import make_backgrounds
from lumos.pools.pool import BackgroundPool
from lumos.pools.settings import BackgroundSettings
from lumos.surveys import load_survey
from lumos.validate.twins import Twins, central_rows, compare_twins, make_twins

pytestmark = pytest.mark.science
ROOT = Path(__file__).parents[2]


@pytest.fixture
def examples(monkeypatch):
    for folder in ("examples", "benchmarks"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    yield
    for name in ("twins", "realism", "sdss_stripe82", "exposure_pulls"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("examples")
def test_twins_of_mock_galaxies(tmp_path):
    from twins import mock_twins  # noqa: PLC0415 - from the examples' folder

    twins = mock_twins(tmp_path)
    assert len(twins) > 250
    tests = {test.name: test for test in compare_twins(twins)}
    # What the galaxy decides is the same in both samples. (The level of the sky is lower where no source lies.)
    largest_shift, largest_gap = 4 * 1.25 / np.sqrt(len(twins)), 5 * 1.25 * np.sqrt(2 / len(twins)) * 1.5
    for name in ("light within 2.5 px", "light within 7 px", "concentration", "second moment"):
        assert tests[name].p_value > 0.01, tests[name]
        assert abs(tests[name].shift) < largest_shift, tests[name]
    real, twin = central_rows(twins)
    # The mean rows agree pixel by pixel within the noise of several hundred pairs.
    gap = np.median(real, axis=0) - np.median(twin, axis=0)
    assert np.abs(gap).max() < largest_gap
    # Twins that are off by a pixel along both axes are beyond each of these bounds, by two along one of them by far.
    moved, far = (
        Twins(twins.real, np.roll(twins.twin, shift, axis=(1, 2)), twins.x, twins.y, twins.rows)
        for shift in ((1, 1), (1, 2))
    )
    assert min(test.p_value for test in compare_twins(moved)) < 0.01
    assert max(abs(test.shift) for test in compare_twins(moved)) > largest_shift
    real, twin = central_rows(moved)
    assert np.abs(np.median(real, axis=0) - np.median(twin, axis=0)).max() > largest_gap
    assert min(test.p_value for test in compare_twins(far)) < 1e-4


@pytest.mark.usefixtures("examples")
def test_classifier_cannot_tell_mock_stamps(tmp_path):
    from realism import Samples, area_under_curve, mock_samples  # noqa: PLC0415 - from the examples' folder

    samples = mock_samples(tmp_path)
    # 5600 stamps: a coin's area has an error of 0.008.
    assert area_under_curve(samples) < 0.55
    # The classifier has eyes: twice the pixels' noise in the core is found at once.
    rng = np.random.default_rng(1)
    spoiled = samples.simulated.copy()
    core = spoiled[:, 26:35, 26:35]
    core += rng.normal(0, spoiled[:, :5].std(), core.shape)
    assert area_under_curve(Samples(samples.real, spoiled, samples.x, samples.y, samples.block)) > 0.7


@pytest.mark.usefixtures("examples")
def test_fluxes_of_mock_exposures_are_recovered(tmp_path):
    from exposure_pulls import pulls  # noqa: PLC0415 - from the benchmarks' folder

    for name, values in pulls(tmp_path).items():
        n = len(values)
        assert n > 2000
        # 2500 pulls: the mean is known to 0.02, the scatter to 0.014; the paper's fit is biased by its chi-square.
        assert abs(values.mean()) < (0.6 if name == "profile_fit" else 4 / np.sqrt(n))
        assert abs(values.std() - 1) < 0.05


def test_pool_of_another_exposure_is_refused(tmp_path):
    from lumos.settings import load_simulation  # noqa: PLC0415
    from lumos.simulate.exposures import simulate_survey  # noqa: PLC0415

    options = ["bands=[NB685]", "exposures_per_band=2", "camera.shape=[256, 256]"]
    one, two = simulate_survey(load_simulation("paucam-mini", options), tmp_path).exposures
    survey = load_survey("paucam")
    make_backgrounds([one], tmp_path / "pool", survey, BackgroundSettings(n_per_exposure=5))
    exposure = next(read_exposure(two, survey))
    objects = place_objects(exposure, read_parent(tmp_path / "parent.parquet"), MeasureSettings())
    flux = np.full(len(objects), 100.0)
    with pytest.raises(LumosDataError, match="no background of this exposure"):
        make_twins(exposure, objects, flux, BackgroundPool.open(tmp_path / "pool"), np.random.default_rng(1))
