"""Blends: pairs that are drawn, figures by distance, and what a neighbour does to its target."""

import numpy as np
import pytest
from scipy.stats import norm

from lumos.errors import LumosConfigError, LumosValueError
from lumos.validate.studies.blends import CASES, Targets, blends, by_distance, measure_pairs
from lumos.validate.studies.pairs import FWHM_PX, around, draw_pairs, pair_flux, paper_offsets


def test_offsets_cover_the_stamp_as_in_the_paper():
    offsets = paper_offsets()
    assert offsets.shape == (3600, 2)
    assert len(np.unique(offsets, axis=0)) == 3600
    assert (offsets.min(), offsets.max()) == (-30, 29)
    assert [0, 0] in offsets.tolist()
    more = paper_offsets(60, 3)
    near = np.hypot(*offsets.T) <= 4 * FWHM_PX
    assert len(more) == 3600 + 2 * near.sum()
    assert np.hypot(*more[3600:].T).max() <= 4 * FWHM_PX


def test_pairs_have_the_light_that_their_magnitudes_say(rng):
    offsets = around(np.array([12.0, 20.0]), 3, rng)
    np.testing.assert_allclose(np.hypot(*offsets.T), [12] * 3 + [20] * 3)
    exposure, catalog, n = next(draw_pairs(offsets, 18.0, np.full(6, 17.0), rng))
    assert (n, len(catalog)) == (6, 12)
    total = exposure.data.astype(float).sum()
    # The photons' own noise and that of the sky; wings that leave the image.
    noise = np.sqrt(exposure.data.size * 100.0 + total)
    assert total == pytest.approx(6 * float(pair_flux(18.0) + pair_flux(17.0)), abs=4 * noise, rel=0.01)


def test_figures_by_distance_are_those_of_the_sample(rng):
    n = 40_000
    pull = rng.normal(0.5, 2.0, n)
    relative = 0.1 * pull
    relative[:10] = np.nan
    targets = Targets(relative, pull, norm.cdf(pull))
    distance = np.repeat([0.2, 1.2], n // 2)
    near, far, none = by_distance(targets, distance, (0.0, 1.0, 2.0, 3.0))
    assert (near.n, near.lost, far.n, far.lost, none.n) == (n // 2, 10, n // 2, 0, 0)
    for one in (near, far):
        assert abs(one.bias - 0.05) < 4 * one.bias_err
        assert abs(one.pull - 2.0) < 4 * one.pull_err
        assert one.bias_err == pytest.approx(0.2 * np.sqrt(np.pi / 2 / 20_000), rel=0.02)
        assert one.pit_ks > 0.1
    assert np.isnan([none.bias, none.pull, none.pit_ks]).all()


def test_the_errors_are_those_of_samples_drawn_again(rng):
    values = rng.standard_normal((400, 100))
    found = [by_distance(Targets(row, row, norm.cdf(row)), np.ones(100), (0.0, 2.0))[0] for row in values]
    assert np.std([one.bias for one in found]) == pytest.approx(np.mean([one.bias_err for one in found]), rel=0.12)
    assert np.std([one.pull for one in found]) == pytest.approx(np.mean([one.pull_err for one in found]), rel=0.12)


def test_a_neighbour_in_the_catalogue_is_taken_out(rng):
    offsets = around(np.array([5.0]), 60, rng)
    found = {case: measure_pairs(offsets, 21.0, np.full(60, 20.0), listed=listed) for case, listed in CASES.items()}
    assert set(found["neighbour listed"]) == {"aperture", "profile_fit", "optimal", "scene"}
    figures = {
        (case, name): by_distance(one, np.full(60, 1.3), (1.0, 2.0))[0]
        for case, of in found.items()
        for name, one in of.items()
    }
    for name in ("aperture", "optimal", "scene"):
        listed, unlisted = figures["neighbour listed", name], figures["not listed", name]
        assert abs(listed.bias) < 3 * listed.bias_err + 0.005
        assert listed.pull == pytest.approx(1, abs=3 * listed.pull_err)
        # The neighbour has 2.5 times the flux, of which a good part is in the aperture.
        assert 0.2 < unlisted.bias < 2.5
        assert unlisted.bias > 10 * listed.bias_err
    alone = measure_pairs(around(np.array([40.0]), 60, rng), 21.0, np.full(60, 25.0), listed=False)["optimal"]
    far = by_distance(alone, np.full(60, 1.3), (1.0, 2.0))[0]
    assert abs(far.bias) < 3 * far.bias_err


def test_the_whole_study_with_few_pairs():
    study = blends((), side=4, repeats=2, pairs=2, points=3)
    assert study.galaxies == 16 * 2 + 2 * (3 + 10)
    assert set(study.offsets) == set(study.by_magnitude) == set(study.by_step) == set(CASES)
    for case in CASES:
        assert study.offsets[case]["scene"].relative.shape == (32,)
        assert study.by_magnitude[case]["scene"].shape == (3, 2)
        assert study.by_step[case]["aperture"].shape == (10, 2)


def test_bad_numbers_are_refused():
    with pytest.raises(LumosValueError, match="pairs of the blends"):
        blends((), pairs=0)
    with pytest.raises(LumosConfigError, match="nosuch"):
        measure_pairs(np.zeros((1, 2)), 22.0, np.full(1, 20.0), ("nosuch",))
