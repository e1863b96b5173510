"""The robust fit of flux scales: closed forms, true errors, outliers, what cannot be known."""

import numpy as np
import pytest

from lumos.coadds.scales import fit_scales

NOTHING = np.zeros(0), np.zeros(0), np.zeros(0, dtype=int), np.zeros(0, dtype=int)


def two_units(rng, m=12):
    brightness, err = rng.normal(5, 1, m), rng.uniform(0.01, 0.03, (2, m))
    y = brightness + err * rng.standard_normal((2, m))
    return y, err, np.tile(np.arange(m), 2), np.repeat([0, 1], m)


def test_two_units_have_the_closed_form(rng):
    # Too few residuals for an extra scatter, noise far smaller than the errors, so that weights are 1: least squares.
    y, err = (part[:, :8] for part in two_units(rng)[:2])
    err = 300 * err
    fit = fit_scales(y.ravel(), err.ravel(), np.tile(np.arange(8), 2), np.repeat([0, 1], 8), np.array([1e-6, np.nan]))
    weight = 1 / (err[0] ** 2 + err[1] ** 2)
    expected = (weight * (y[0] - y[1])).sum() / weight.sum()
    assert fit.scatter == 0
    np.testing.assert_allclose(fit.log_scale, [0, expected], atol=2e-6)
    np.testing.assert_allclose(fit.covariance[1, 1], 1 / weight.sum(), rtol=1e-3)


def survey(rng, n=8, m=300):
    """Objects on one to five of n exposures, with 1.2 per cent of scatter that the errors do not know."""
    truth, brightness = rng.normal(0, 0.02, n), rng.normal(5, 1, m)
    seen = [(o, u) for o in range(m) for u in rng.permutation(n)[: rng.integers(1, 6)]]
    objects, units = np.array(seen).T
    err = rng.uniform(0.01, 0.05, len(objects))
    y = brightness[objects] - truth[units] + np.hypot(err, 0.012) * rng.standard_normal(len(objects))
    return truth, y, err, objects, units


@pytest.mark.parametrize("wild", [0.0, 0.03])
def test_errors_cover_the_truth_also_with_outliers(rng, wild):
    pulls, relative, scatter = [], [], []
    contrast = np.array([1, -1, 0, 0, 0, 0, 0, 0])
    for _ in range(100):
        truth, y, err, objects, units = survey(rng)
        struck = rng.random(len(y)) < wild
        y[struck] += rng.normal(0, 0.5, struck.sum())
        fit = fit_scales(y, err, objects, units, np.full(8, 0.02))
        off = fit.log_scale - truth
        pulls.append(off.mean() / np.sqrt(fit.covariance.mean()))
        relative.append(off @ contrast / np.sqrt(contrast @ fit.covariance @ contrast))
        scatter.append(fit.scatter)
    # 100 draws: the root mean square is known to 7 per cent; three of these, and the weights for 3 % of outliers.
    assert np.sqrt(np.mean(np.square(relative))) == pytest.approx(1, abs=0.25)
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1, abs=0.25)
    # A width of some 900 residuals is known to 4 per cent, which leaves 15 of the excess, and outliers in an object
    # raise the residuals of its good rows.
    assert 0.85 * 0.012 < np.sqrt(np.mean(np.square(scatter))) < (1.15 + 10 * wild) * 0.012


def test_errors_from_places_are_true_on_average(rng):
    n, places, variances = 300, 25, []
    objects, units = np.repeat(np.arange(n), 4), np.tile(np.arange(4), n)
    for _ in range(150):
        y = np.repeat(rng.standard_normal(n), 4) + 0.02 * rng.standard_normal(4 * n)
        cluster = np.repeat(rng.integers(places, size=n), 4)
        covariance = fit_scales(y, np.full(4 * n, 0.02), objects, units, np.full(4, 0.05), cluster).covariance
        variances.append(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # 25 places tell an error to 14 per cent, 150 draws its mean to 1.2; the weights cost 2.5 per cent, and few places
    # give 2 per cent less.
    assert np.sqrt(np.mean(variances)) == pytest.approx(np.sqrt(2) * 0.02 / np.sqrt(n), rel=0.06)


def few_places(rng, n=8, m=100, places=5, by_place=0.0, outliers=0.0):
    """All exposures see all objects, whose scales may differ from place to place."""
    objects, units = np.repeat(np.arange(m), n), np.tile(np.arange(n), m)
    place, err = rng.integers(places, size=m), rng.uniform(0.01, 0.04, n * m)
    y = rng.normal(5, 1, m)[objects] + err * rng.standard_normal(n * m)
    y += by_place * rng.standard_normal((places, n))[place[objects], units]
    y += np.where(rng.random(n * m) < outliers, 0.5 * rng.standard_normal(n * m), 0)
    return y, err, objects, units, place[objects]


@pytest.mark.parametrize(
    "case", [{}, {"by_place": 0.01}, {"n": 4, "places": 10, "outliers": 0.1}, {"n": 3, "m": 200, "places": 25}]
)
def test_errors_of_differences_are_true_with_few_places(rng, case):
    n = case.get("n", 8)
    first, second = np.triu_indices(n, 1)
    pulls = []
    for _ in range(100):
        fit = fit_scales(*(made := few_places(rng, **case))[:4], np.full(n, 0.05), made[4])
        variance = np.diag(fit.covariance)
        error = np.sqrt(variance[first] + variance[second] - 2 * fit.covariance[first, second])
        pulls.append((fit.log_scale[first] - fit.log_scale[second]) / error)
    # Of 100 (n - 1) independent differences: the root mean square is known to 3 to 5 per cent.
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1.0, abs=0.08 if n > 4 else 0.12)


def test_places_make_no_error_smaller(rng):
    for _ in range(10):
        y, err, objects, units, place = few_places(rng, n=4, by_place=0.005)
        without, given = (fit_scales(y, err, objects, units, np.full(4, 0.05), where) for where in (None, place))
        difference = given.covariance - without.covariance
        assert np.linalg.eigvalsh(difference).min() > -1e-12


def test_neighbours_that_grow_with_the_seeing_do_not_move_the_scales(rng):
    seeing, blended, places = np.linspace(0, 1, 8), rng.random(300) < 0.1, rng.integers(30, size=300)
    pulls, biases = [], []
    for _ in range(60):
        truth, y, err, objects, units = survey(rng)
        light = np.where(blended, rng.uniform(0.1, 1.5, 300), 0)
        y = y + np.log1p(light[objects] * seeing[units])
        fit = fit_scales(y, err, objects, units, np.full(8, 0.02), places[objects])
        # By how much the scale falls from the best to the worst seeing; their mean is known to the priors alone.
        slope = (seeing - seeing.mean()) / np.sum((seeing - seeing.mean()) ** 2)
        off = slope @ (fit.log_scale - truth)
        biases.append(off)
        pulls.append(off / np.sqrt(slope @ fit.covariance @ slope))
    # Weights that only fall (Huber's) leave 0.018 of the mean's 0.05, and pulls of 3. The error of one fit is 0.003.
    assert abs(np.mean(biases)) < 0.006
    assert np.sqrt(np.mean(np.square(pulls))) < 1.6


def test_a_stated_value_that_contradicts_the_others_does_not_drag_them(rng):
    truth, y, err, objects, units = survey(rng)
    y[units == 3] -= 0.4
    fit = fit_scales(y, err, objects, units, np.full(8, 0.02))
    assert fit.log_scale[3] - truth[3] == pytest.approx(0.4, abs=0.03)
    others = np.delete(np.arange(8), 3)
    # The others' mean moves by Huber's limit, two errors of one in eight: 0.005, and is known to 0.007.
    assert abs((fit.log_scale - truth)[others].mean()) < 0.005 + 3 * 0.007


def test_what_nothing_ties_is_nan_and_what_is_alone_keeps_its_prior(rng):
    y, err, objects, units = two_units(rng)
    # Units 2 and 3 share objects of their own but have no prior; 4 has a prior and no object.
    more = np.concatenate([units, units + 2])
    fit = fit_scales(
        np.tile(y.ravel(), 2),
        np.tile(err.ravel(), 2),
        np.concatenate([objects, objects + 12]),
        more,
        np.array([0.01, np.nan, np.nan, np.nan, 0.03]),
    )
    assert np.isfinite(fit.log_scale).tolist() == [True, True, False, False, True]
    assert fit.log_scale[4] == 0
    assert fit.covariance[4, 4] == pytest.approx(0.03**2)
    assert fit.covariance[4, 0] == 0
    assert np.isnan(fit.covariance[2]).all()


def test_a_reference_fixes_the_scale(rng):
    y, err, objects, units = two_units(rng, 200)
    reference = np.concatenate([y.ravel() + 0.3, (y[0] + y[1]) / 2])
    fit = fit_scales(
        reference,
        np.concatenate([err.ravel(), np.full(200, 0.02)]),
        np.concatenate([objects, np.arange(200)]),
        np.concatenate([units, np.full(200, 2)]),
        np.full(2, np.nan),
    )
    # Known to 0.02 / sqrt(200) and less.
    np.testing.assert_allclose(fit.log_scale, -0.3, atol=0.008)


def test_without_objects_the_priors_remain():
    fit = fit_scales(*NOTHING, np.array([0.01, np.nan]))
    np.testing.assert_array_equal(fit.log_scale, [0, np.nan])
    assert fit.covariance[0, 0] == pytest.approx(1e-4)
