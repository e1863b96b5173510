"""Repeat tests: Gaussian exposures of known errors, tails in closed form, pairs counted by hand."""

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm

from helpers.flux_runs import exposure, write_run
from lumos.errors import LumosDataError, LumosValueError
from lumos.flags import Flag
from lumos.validate.differences import differences
from lumos.validate.repeats import HISTOGRAM_EDGES, repeat_table, run_repeats
from lumos.validate.repeats_table import fit_relative_floor, format_repeats, mean_over_bands

EDGES = np.array([19.0, 21, 23, 24, 25, 26, 28])
#: Error of a flux in nJy: magnitude 23.9.
ERROR = 1000.0
#: Errors of exposures relative to that.
DEPTHS = (1.0, 3.0, 0.7, 1.5, 2.0)


def observed(rng, truth, depths=DEPTHS, factors=None, *, understated=1.0, floor=0.0, **facts):
    """Exposures of all objects with Gaussian noise, on flux scales that are off by factors."""
    made = []
    for number, depth in enumerate(depths):
        error, factor = ERROR * depth, 1.0 if factors is None else factors[number]
        noise = understated * np.hypot(error, floor * truth) * rng.standard_normal(len(truth))
        name = f"{facts.get('band', 'i')}{number}"
        made.append(exposure(name, np.arange(len(truth)), (truth + noise) * factor, error * factor, **facts))
    return made


def fluxes(rng, n):
    """True fluxes in nJy from magnitude 19 to far below the noise, a fifth of the objects without any."""
    flux = 10 ** (0.4 * (31.4 - rng.uniform(19, 28, n)))
    return np.where(rng.uniform(size=n) < 0.2, 0.0, flux)


@pytest.mark.parametrize("n_exposures", [2, 5])
def test_gaussian_noise_scatters_by_one_in_every_bin(rng, tmp_path, n_exposures):
    n = 8000
    factors = np.array([1.05, 0.96, 1.0, 1.02, 0.98])[:n_exposures]
    truth = fluxes(rng, n)
    made = observed(rng, truth, DEPTHS[:n_exposures], factors, zeropoint_err=0.1)
    result = run_repeats(write_run(tmp_path / "run", made), "optimal", "i", EDGES)
    found = result.difference
    # Bins that select by noise, errors of 0.7 to 3, flux scales off by 5 per cent (4 errors of the brightest): still 1.
    assert (np.abs(found.sigma68 - 1) < 4 * found.sigma68_err).all()
    assert (np.abs(found.median) < 4 * found.median_err).all()
    # 0.94 / sqrt(n) were the values independent; those of one object are not, which makes it larger.
    assert (found.sigma68_err > 0.7 * 0.94 / np.sqrt(found.n_pairs)).all()
    assert (found.sigma68_err < 1.4 * 0.94 / np.sqrt(found.n_objects)).all()
    assert (found.n_objects > 150).all()
    # Nothing is lost: faint objects beyond the bins, and those with a mean below 0, are in the figures of all.
    n_pairs = n_exposures * (n_exposures - 1) // 2
    assert (result.overall.n_pairs[0], result.overall.n_objects[0]) == (n * n_pairs, n)
    assert result.histogram.sum() == n * n_pairs
    assert abs(result.overall.sigma68[0] - 1) < 4 * result.overall.sigma68_err[0] < 0.05
    below = norm.sf(truth / ERROR * np.sqrt(np.sum(np.array(DEPTHS[:n_exposures]) ** -2)))
    assert abs(result.n_negative - below.sum()) < 4 * np.sqrt(np.sum(below * (1 - below)))
    # Their scales are found, but for a common factor, which the stated zero points leave open by 0.1 mag.
    departure = np.log(result.scales * factors)
    assert np.abs(departure - departure.mean()).max() < 4 * result.scales_err.max() < 0.02


def test_the_exposure_of_the_catalogue_is_left_out(rng, tmp_path, caplog):
    truth = fluxes(rng, 1500)
    made = observed(rng, truth, (1.0, 1.0, 1.0))
    # Objects came into the catalogue where this exposure's noise made them bright.
    shift = ERROR * np.abs(rng.standard_normal(1500))
    made[0] |= {"optimal_flux": truth + shift, "flags": np.full(1500, int(Flag.CATALOG_EXPOSURE))}
    result = run_repeats(write_run(tmp_path / "run", made), "optimal", "i", EDGES)
    assert result.exposure_id == ("i1", "i2")
    assert (result.overall.n_pairs[0], result.n_unusable) == (1500, 1500)
    assert abs(result.overall.median[0]) < 4 * result.overall.median_err[0] < 0.2
    assert "exposure i0: the catalogue was made from it, so its pairs are left out" in caplog.text


def test_objects_below_zero_scatter_by_one_too(rng, tmp_path):
    n = 6000
    run = write_run(tmp_path / "run", observed(rng, np.zeros(n), (1.0, 2.0, 3.0)))
    result = run_repeats(run, "optimal", "i", EDGES)
    # Half of the means are below 0: within 4 sqrt(n) / 2.
    assert abs(result.n_negative - n / 2) < 2 * np.sqrt(n)
    assert result.difference.n_pairs.sum() <= 3 * (n - result.n_negative)
    assert abs(result.overall.sigma68[0] - 1) < 4 * result.overall.sigma68_err[0]


def test_tails_of_understated_errors(rng, tmp_path):
    n = 20_000
    # A range of fluxes: of equal ones, the brightest, which the zero points are fitted on, would be chosen by noise.
    truth = 10 ** rng.uniform(3.5, 5.5, n)
    run = write_run(tmp_path / "run", observed(rng, truth, (1.0, 1.5), understated=2.0))
    result = run_repeats(run, "optimal", "i", np.array([10.0, 30.0]))
    for figures in (result.difference, result.overall):
        # D is Gaussian with scatter 2: within 4 binomial errors for shares, and for quantiles 4 times
        # sqrt(p (1 - p) / n) / density, which is 0.038 for the 2.5 % one.
        assert abs(figures.sigma68[0] - 2) < 4 * figures.sigma68_err[0] < 0.08
        assert abs(figures.sigma95[0] - 1.96 * 2) < 4 * 0.038 / np.sqrt(2)
        for share, limit in ((figures.beyond_3[0], 3), (figures.beyond_5[0], 5)):
            expected = 2 * norm.sf(limit / 2)
            assert abs(share - expected) < 4 * np.sqrt(expected / n)
    cells = np.diff(norm.cdf(HISTOGRAM_EDGES / 2)) * n
    assert (np.abs(result.histogram - cells) < 5 * np.sqrt(cells + 1)).all()


def test_values_far_out_are_in_the_outermost_cells(rng, tmp_path):
    truth = np.full(300, 5e4)
    made = observed(rng, truth, (1.0, 1.0))
    made[1]["optimal_flux"][:7] += 40 * ERROR
    result = run_repeats(write_run(tmp_path / "run", made), "optimal", "i", EDGES)
    assert (result.histogram[0], result.histogram[-1]) == (7, 0)
    assert result.overall.beyond_5[0] == pytest.approx(7 / 300)


def test_errors_count_objects_not_pairs(rng):
    n, m = 150, 8
    first, second = np.array(list(combinations(range(m), 2))).T
    owner = np.repeat(np.arange(n), len(first))
    found = []
    for _ in range(120):
        flux = rng.standard_normal((n, m))
        d = ((flux[:, first] - flux[:, second]) / np.sqrt(2)).ravel()
        found.append(differences([(d, owner)], rng))
    for name in ("median", "sigma68"):
        values, errors = (np.array([getattr(f, key)[0] for f in found]) for key in (name, f"{name}_err"))
        # The scatter of 120 values is known to 6.5 per cent; each error, from 100 resamplings, to 7.
        assert abs(errors.mean() / values.std() - 1) < 0.25
    # The 28 pairs of an object are those of 7 degrees of freedom: independent, they would tell twice as much.
    assert errors.mean() > 1.5 * 0.94 / np.sqrt(len(owner))


def test_few_objects_have_no_error(rng):
    figures = differences([(rng.standard_normal(9), np.arange(9)), (np.zeros(0), np.zeros(0, dtype=int))], rng)
    assert figures.n_pairs.tolist() == [9, 0]
    assert np.isfinite(figures.sigma68[0])
    assert np.isnan(figures.sigma68_err).all()
    assert np.isnan(figures.sigma68[1])


def test_pairs_of_detectors_against_a_loop(rng, tmp_path):
    truth = 10 ** rng.uniform(3.5, 5, 400)
    made, table = [], {}
    for number in range(4):
        seen = np.flatnonzero(rng.uniform(size=400) < 0.7)
        west = rng.uniform(size=len(seen)) < 0.5
        flux = truth[seen] + ERROR * rng.standard_normal(len(seen))
        flags = np.where(rng.uniform(size=len(seen)) < 0.1, int(Flag.SATURATED), int(Flag.NEIGHBOUR))
        columns = exposure(f"e{number}", seen, flux, ERROR, flags=flags)
        columns["detector"] = np.where(west, "W", "E").astype(object)
        columns["optimal_flux"][:2], columns["optimal_flux_err"] = np.nan, np.full(len(seen), ERROR)
        columns["optimal_flux_err"][2] = np.inf
        usable = (flags != int(Flag.SATURATED)) & (np.arange(len(seen)) > 2)
        table |= {(number, seen[k]): (flux[k], "EW"[int(west[k])], bool(usable[k])) for k in range(len(seen))}
        made.append(columns)
    result = run_repeats(write_run(tmp_path / "run", made), "optimal", "i", EDGES)
    units = list(zip(result.exposure_id, result.detector, strict=True))
    assert units == [(f"e{number}", detector) for number in range(4) for detector in "EW"]
    scale = dict(zip(units, result.scales, strict=True))
    expected = []
    for galaxy in range(400):
        rows = [(number, *table[number, galaxy]) for number in range(4) if (number, galaxy) in table]
        scaled = [
            np.array([flux, ERROR]) * scale[f"e{number}", detector] for number, flux, detector, good in rows if good
        ]
        expected += [(one[0] - two[0]) / np.hypot(one[1], two[1]) for one, two in combinations(scaled, 2)]
    low, high = np.quantile(expected, norm.cdf([-1, 1]))
    assert result.overall.n_pairs[0] == len(expected)
    assert result.n_unusable == sum(not good for _, _, good in table.values())
    # Fluxes are stored with 7 digits: 5e4 / 1e7 of an error of 1e3.
    assert abs(result.overall.sigma68[0] - (high - low) / 2) < 1e-4
    assert abs(result.overall.median[0] - np.median(expected)) < 1e-4


def test_table_of_all_estimators_and_bands(rng, tmp_path, caplog):
    truth = np.full(400, 2e4)
    made = [*observed(rng, truth, (1.0, 1.0), band="r"), *observed(rng, truth, (1.0, 1.0))]
    for columns in made:
        columns["lumos_flux_err"] = columns["lumos_flux_err"] / 2
    run = write_run(tmp_path / "run", [*made, *observed(rng, truth, (1.0,), band="z")], model="m")
    results = repeat_table(run, np.array([18.0, 20.0, 21.0]))
    names = [(result.estimator, result.band) for result in results]
    assert names == [("optimal", "i"), ("optimal", "r"), ("lumos", "i"), ("lumos", "r")]
    assert "band z" in caplog.text
    for one, two in zip(results[:2], results[2:], strict=True):
        assert two.overall.sigma68[0] == pytest.approx(2 * one.overall.sigma68[0], rel=0.01)
    text = format_repeats(results).splitlines()
    # A line for each band's one bin that has pairs, and one for all.
    assert len(text) == 1 + 4 * 2
    assert "20.0-21.0" in text[1]
    assert "(0 with mean flux <= 0)" in text[2]
    only = repeat_table(run, EDGES, estimators=["lumos"], bands=["r"])
    assert [(result.estimator, result.band) for result in only] == [("lumos", "r")]
    assert only[0].overall.sigma68 == results[3].overall.sigma68
    with pytest.raises(LumosDataError, match="band 'z': no object has two usable"):
        run_repeats(run, "lumos", "z", EDGES)


def test_bad_calls(rng, tmp_path):
    run = write_run(tmp_path / "run", observed(rng, np.full(50, 2e4), (1.0,)))
    with pytest.raises(LumosValueError, match="estimator: got 'psf', allowed: optimal"):
        run_repeats(run, "psf", "i", EDGES)
    with pytest.raises(LumosValueError, match="band: got 'u', allowed: i"):
        run_repeats(run, "optimal", "u", EDGES)
    for edges in ([20.0], [21.0, 20.0], [20.0, np.nan]):
        with pytest.raises(LumosValueError, match="edges"):
            repeat_table(run, np.array(edges))
    with pytest.raises(LumosDataError, match="in any band"):
        repeat_table(run, EDGES)


def test_image_units_need_a_table_of_zero_points(rng, tmp_path):
    truth = np.full(300, 2e4)
    run = write_run(tmp_path / "run", observed(rng, truth, (1.0, 1.0), zeropoint=np.nan))
    with pytest.raises(LumosDataError, match="has a zero point"):
        run_repeats(run, "optimal", "i", EDGES)
    table = pa.table({"exposure_id": ["i0", "i1"], "zeropoint": [31.4 + 2.5, 31.4 + 2.5]})
    pq.write_table(table, tmp_path / "zp.parquet")
    result = run_repeats(run, "optimal", "i", np.array([22.0, 24.0]), zeropoints=tmp_path / "zp.parquet")
    # One image unit is 0.1 nJy. The exposures' ratio has an error of 0.07 / sqrt(300) = 0.4 %, each scale half of that.
    assert np.abs(result.scales - 0.1).max() < 4 * 0.002 * 0.1
    assert result.difference.n_pairs.tolist() == [300]
    assert abs(result.overall.sigma68[0] - 1) < 4 * result.overall.sigma68_err[0]


def test_relative_floor_is_found(rng, tmp_path):
    truth = 10 ** (0.4 * (31.4 - rng.uniform(17, 21, 6000)))
    run = write_run(tmp_path / "run", observed(rng, truth, (1.0, 1.0, 1.0), floor=0.02))
    edges = np.arange(17.0, 21.5)
    result = run_repeats(run, "optimal", "i", edges)
    # Each bin of 1500 objects gives the scatter to 1.7 per cent.
    assert abs(fit_relative_floor(result, 19.0) - 0.02) < 4 * 0.017 * 0.02
    assert fit_relative_floor(result, 16.0) == 0
    plain = write_run(tmp_path / "plain", observed(rng, truth, (1.0, 1.0, 1.0)))
    # 2 per cent of chance in sigma68 are a relative error of 0.2 times the scatter of 0.004 at 18.
    assert fit_relative_floor(run_repeats(plain, "optimal", "i", edges), 19.0) < 0.001


def test_mean_over_bands_leaves_out_what_has_no_error(rng, tmp_path):
    result = run_repeats(
        write_run(tmp_path / "run", observed(rng, np.full(50, 2e4), (1.0, 1.0))), "optimal", "i", EDGES
    )

    def band(n, spread, error):
        values = {"n_pairs": np.array(n), "sigma68": np.array(spread), "sigma68_err": np.array(error)}
        return replace(result, difference=replace(result.difference, **values))

    bands = [band([100, 5, 0], [1.0, 9.0, np.nan], [0.1, np.nan, np.nan])]
    bands.append(band([300, 40, 2], [1.4, 0.8, 3.0], [0.2, 0.3, np.nan]))
    mean, error = mean_over_bands(bands)
    np.testing.assert_allclose(mean, [0.25 * 1.0 + 0.75 * 1.4, 0.8, np.nan])
    np.testing.assert_allclose(error, [np.hypot(0.25 * 0.1, 0.75 * 0.2), 0.3, np.nan])


def test_seed_alone_decides_the_errors(rng, tmp_path):
    run = write_run(tmp_path / "run", observed(rng, np.full(200, 2e4), (1.0, 1.0)))
    errors = [run_repeats(run, "optimal", "i", EDGES, seed=seed).overall.sigma68_err[0] for seed in (0, 0, 1)]
    assert [one == two for one, two in pairwise(errors)] == [True, False]
