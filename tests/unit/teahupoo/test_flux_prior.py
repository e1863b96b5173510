"""The prior that knows magnitude and shape, against draws of the population."""

from itertools import pairwise

import numpy as np
from scipy.stats import kstest

from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.pdf import FluxPrior
from lumos.simulate.population import load_population
from lumos.spectra.passbands import PAUCAM_PASSBANDS
from lumos.teahupoo.flux_prior import PopulationPrior
from lumos.validate.limits import prior_only

MAG_RANGE = (17.5, 23.0)


def shape_of(galaxies):
    return galaxies.half_light_radius, galaxies.sersic_n, galaxies.axis_ratio


def test_the_share_of_spheroids_is_that_of_the_draws():
    population = load_population()
    # Half of them bright, where a tenth of the spheroids would be smaller or steeper than the limits.
    rng = np.random.default_rng(2)
    galaxies = population.draw_at(np.concatenate([rng.uniform(16.5, 18, 20_000), rng.uniform(21, 23, 20_000)]), rng)
    share = population.spheroid_share(galaxies.ref_mag, *shape_of(galaxies))
    for part in (galaxies.ref_mag < 19, galaxies.ref_mag > 19):
        # Sum of independent draws of these probabilities, as a whole and in ten bins.
        for low, high in [(0, 1), *zip(np.arange(10) / 10, np.arange(1, 11) / 10, strict=True)]:
            here = part & (share >= low) & (share < high)
            error = np.sqrt((share * (1 - share))[here].sum())
            assert abs(galaxies.is_spheroid[here].sum() - share[here].sum()) < 4 * error + 1
    assert np.isfinite(population.spheroid_share(*np.array([[21.0], [0.5], [1.0], [1.0]]))).all()


def test_the_prior_is_true_at_every_size_and_index():
    population, passbands = load_population(), {"NB455": PAUCAM_PASSBANDS["NB455"]}
    prior = PopulationPrior.learn(population, passbands, MAG_RANGE, n=8000)
    learned, galaxies = (population.draw(n, np.random.default_rng(n), MAG_RANGE) for n in (4000, 2000))
    learned_flux, flux = (drawn.band_flux(list(passbands.values()))[:, 0] for drawn in (learned, galaxies))
    plain = FluxPrior.fit(learned_flux, learned.ref_mag, 0, ("NB455",))
    rows, band = np.arange(len(galaxies)), np.zeros(len(galaxies), dtype=np.int64)
    log_prior, nodes = prior.given(band, galaxies.ref_mag, *shape_of(galaxies))
    assert ((nodes.min(axis=1) < flux) & (nodes.max(axis=1) > flux)).all()
    reference = 10 ** (0.4 * (AB_ZEROPOINT_NJY - galaxies.ref_mag))
    known = prior_only(lambda f: log_prior(f, rows), reference)
    blind = prior_only(lambda f: plain.log_pdf(f, galaxies.ref_mag, band), reference)
    pit, pit_blind, worst = known.pit(flux), blind.pit(flux), 0.0
    for values in (galaxies.half_light_radius, galaxies.sersic_n, galaxies.axis_ratio, galaxies.ref_mag):
        for low, high in pairwise(np.quantile(values, [0, 0.25, 0.5, 0.75, 1])):
            here = (values >= low) & (values <= high)
            # The 99.9 % point, and 0.01 for the 8000 galaxies that the density was learned from.
            assert kstest(pit[here], "uniform").statistic < 1.95 / np.sqrt(here.sum()) + 0.01
            worst = max(worst, kstest(pit_blind[here], "uniform").statistic)
    # A prior that knows the magnitude alone is wrong where the shape tells the colour.
    assert worst > 0.15
    assert (known.log_pdf(flux) - blind.log_pdf(flux)).mean() > 0.2
