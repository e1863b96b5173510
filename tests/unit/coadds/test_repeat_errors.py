"""How much of the width of PDFs is independent: from Gaussian repeats with known shares."""

import numpy as np
import pytest

from lumos.coadds.repeat_errors import NO_REPEATS, fit_independent_share, repeat_pairs


def test_pairs_are_disjoint_and_of_one_object():
    flux = np.array([1.0, 3.0, 10.0, 20.0, 22.0, 25.0, 7.0])
    index = np.array([0, 0, 1, 2, 2, 2, 3])
    rows = np.array([True, True, True, True, True, True, True])
    difference, excess = repeat_pairs(flux, np.full(7, 2.0), np.full(7, 0.5), index, rows)
    np.testing.assert_allclose(difference, [-1.0, -1.0])
    np.testing.assert_allclose(excess, np.log(2.0))
    rows[3] = False
    assert repeat_pairs(flux, np.full(7, 2.0), np.full(7, 0.5), index, rows)[0].tolist() == [-1.0, -1.5]


def test_known_shares_are_recovered(rng):
    n = 20_000
    # Half of the PDFs are of the noise alone, half hold as much again, or more, that repeats do not show.
    excess = np.where(np.arange(n) % 2 == 0, 0.0, rng.uniform(0.3, 1.5, n))
    difference = np.exp(-excess) * rng.standard_normal(n)
    share = fit_independent_share(difference, excess)
    at = np.array([0.0, 0.5, 1.0])
    # Bins of some thousand pairs (3 per cent), and straight lines across bins as wide as 0.25.
    np.testing.assert_allclose(share.at(at), np.exp(-2 * at), rtol=0.12)
    assert (np.diff(share.share) <= 0).all()
    assert share.at(np.array([np.nan]))[0] == share.at(np.array([0.0]))[0]
    assert share.at(np.array([9.0]))[0] == share.share[-1]


def test_errors_that_are_too_small_give_a_share_above_one(rng):
    share = fit_independent_share(1.3 * rng.standard_normal(50_000), np.zeros(50_000))
    assert share.n.tolist() == [50_000]
    # The square of a width of so many is known to 0.8 per cent.
    assert share.at(np.zeros(1))[0] == pytest.approx(1.69, rel=0.025)


def test_few_repeats_tell_nothing(rng):
    assert fit_independent_share(rng.standard_normal(90), np.zeros(90)) is NO_REPEATS
    assert fit_independent_share(np.zeros(0), np.zeros(0)) is NO_REPEATS
    np.testing.assert_array_equal(NO_REPEATS.at(np.array([0.0, 2.0])), 1.0)
