"""Monte Carlo of the estimators on galaxies of known flux, and the noise of real frames.

Every galaxy has the same GalSim profile and its own Poisson noise, so that scatter, bias and pulls are those of
the estimator alone and can be compared with the Fisher bound of the profile.
"""

from functools import cache, partial

import galsim
import numpy as np
import pytest
import torch
from astropy.io import fits

from lumos.background.correlation import measure_correlation
from lumos.estimators import ESTIMATORS, Ellipses, StampBatch, optimal

pytestmark = pytest.mark.science

SIZE = 40
SKY = 300.0
CHUNK = 2500
VARIANTS = {**ESTIMATORS, "sky_weights": partial(optimal, n_iter=0)}
LINEAR = ("aperture", "optimal", "optimal_free")


def galaxy(sersic_n, half_light_radius, axis_ratio, fwhm=3.5):
    """Return the convolved unit-flux profile, shape (SIZE, SIZE), and its half-light radius."""
    shape = galsim.Sersic(n=sersic_n, half_light_radius=half_light_radius).shear(
        q=axis_ratio, beta=0.5 * galsim.radians
    )
    profile = galsim.Convolve(shape, galsim.Moffat(beta=4.765, fwhm=fwhm))
    image = galsim.Image(SIZE, SIZE, dtype=float)
    profile.drawImage(image=image, scale=1.0, offset=(0.2, -0.3))
    return torch.tensor(image.array), float(image.calculateHLR(flux=1.0))


def batch_of(profile, half_light_radius, axis_ratio, flux, generator, n=CHUNK, background_err=0.0):
    """Return a batch of noisy copies; gain 1, the level known to ``background_err``."""
    expected = SKY + flux * profile
    data = torch.poisson(expected.float().expand(n, SIZE, SIZE).contiguous(), generator=generator)
    one = torch.ones(n)
    # The convolved ellipse is rounder than the galaxy; the estimators need its shape only roughly.
    ratio = 0.5 * (1 + axis_ratio)
    return StampBatch(
        data=data,
        good=torch.ones_like(data, dtype=torch.bool),
        sky_variance=SKY * one[:, None, None],
        gain=one,
        profile=profile.float().expand_as(data).contiguous(),
        x=(SIZE / 2 - 0.5 + 0.2) * one,
        y=(SIZE / 2 - 0.5 - 0.3) * one,
        ellipses=Ellipses(half_light_radius / ratio**0.5 * one, half_light_radius * ratio**0.5 * one, 0.5 * one),
        background=SKY + background_err * torch.randn(n, generator=generator),
        background_err=background_err * one,
        own_light=0 * one,
    )


def fisher_error(profile, flux, *, free_background=False, background_err=0.0):
    """Return the least possible error of an unbiased flux for the model, in float64."""
    inverse = 1 / (SKY + flux * profile)
    matrix = np.array([[float((profile**2 * inverse).sum()), float((profile * inverse).sum())]] * 2)
    matrix[1] = matrix[0, 1], float(inverse.sum())
    if free_background:
        return np.sqrt(np.linalg.inv(matrix)[0, 0])
    # A level measured elsewhere: weights m/v are best with the level known, and carry its error along.
    return np.sqrt(1 / matrix[0, 0] + (matrix[0, 1] / matrix[0, 0] * background_err) ** 2)


def flux_at(profile, snr):
    low, high = 0.0, 1e9
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if middle / fisher_error(profile, middle) > snr else (middle, high)
    return low


@cache
def monte_carlo(names, shape, snr, *, n=20_000, seed=1, background_err=0.0):
    """Return deviations (flux - truth) and pulls of each estimator, the profile and the flux."""
    estimators = {name: VARIANTS[name] for name in names}
    profile, half_light_radius = galaxy(*shape)
    flux = flux_at(profile, snr)
    generator = torch.Generator().manual_seed(seed)
    found = {name: ([], []) for name in estimators}
    for _ in range(n // CHUNK):
        batch = batch_of(profile, half_light_radius, shape[2], flux, generator, background_err=background_err)
        for name, estimator in estimators.items():
            result = estimator(batch)
            deviation = (result.flux - flux).double()
            found[name][0].append(deviation)
            found[name][1].append(deviation / result.flux_err)
    arrays = {name: tuple(torch.cat(part).numpy() for part in parts) for name, parts in found.items()}
    return arrays, profile, flux


SHAPES = [(1.0, 3.0, 0.6), (4.0, 4.0, 0.8)]


@pytest.mark.parametrize(("shape", "snr"), [(SHAPES[0], 1), (SHAPES[0], 10), (SHAPES[0], 100), (SHAPES[1], 5)])
def test_pulls_are_standard_normal(shape, snr):
    arrays, _, _ = monte_carlo(LINEAR, shape, snr)
    for name, (deviations, pulls) in arrays.items():
        n = len(pulls)
        # Errors that grow with the measured flux make low fluxes look too sure: the mean pull moves by
        # -(d sigma^2 / dF) / (2 sigma) = -1 / (2 x error in photons), of 150 or more here: 0.003.
        assert abs(pulls.mean()) < 4 / np.sqrt(n) + 0.004, name
        assert pulls.std() == pytest.approx(1, abs=0.02), name
        assert abs(deviations.mean()) < 4 * deviations.std() / np.sqrt(n), name


@pytest.mark.parametrize("snr", [1, 10, 100])
def test_optimal_weights_reach_the_fisher_bound(snr):
    arrays, profile, flux = monte_carlo(LINEAR, SHAPES[0], snr)
    # The scatter of 20 000 is known to 0.5 %.
    assert arrays["optimal"][0].std() == pytest.approx(fisher_error(profile, flux), rel=0.02)
    free = fisher_error(profile, flux, free_background=True)
    assert arrays["optimal_free"][0].std() == pytest.approx(free, rel=0.02)


@pytest.mark.parametrize(("shape", "snr"), [(SHAPES[0], 10), (SHAPES[1], 5)])
def test_aperture_loses_what_its_area_predicts(shape, snr):
    arrays, profile, flux = monte_carlo(LINEAR, shape, snr)
    # The brightest pixels that hold 62.5 % of the light, an aperture found without any ellipse.
    light, order = profile.flatten().sort(descending=True)
    inside = order[: int((light.cumsum(0) < 0.625).sum()) + 1]
    noise = np.sqrt(float((SKY + flux * profile.flatten()[inside]).sum()))
    expected = noise / float(profile.flatten()[inside].sum())
    # Whole pixels, of which the last may be too many, make it worse than an ellipse by up to 1 of 20 or so.
    assert arrays["aperture"][0].std() == pytest.approx(expected, rel=0.05)
    assert 1.05 < arrays["aperture"][0].std() / arrays["optimal"][0].std() < 1.4


def test_an_uncertain_level_is_in_the_errors():
    level_err = 1.0
    everything = ("aperture", "optimal", "profile_fit")
    arrays, profile, flux = monte_carlo(everything, SHAPES[0], 10, background_err=level_err)
    for name, (_, pulls) in arrays.items():
        assert pulls.std() == pytest.approx(1, abs=0.02), name
    expected = fisher_error(profile, flux, background_err=level_err)
    assert expected > 1.1 * fisher_error(profile, flux)
    assert arrays["optimal"][0].std() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("snr", [3, 30])
def test_profile_fit_has_the_bias_of_its_chi_square(snr):
    arrays, profile, flux = monte_carlo(("profile_fit",), SHAPES[0], snr)
    deviations, pulls = arrays["profile_fit"]
    variance = SKY + flux * profile
    # A denominator that holds the parameter prefers large fluxes: to first order by half the sum of m / v over
    # the information sum m^2 / v.
    expected = 0.5 * float((profile / variance).sum() / (profile**2 / variance).sum())
    assert deviations.mean() == pytest.approx(
        expected, abs=4 * deviations.std() / np.sqrt(len(pulls)) + 0.03 * expected
    )
    print(f"profile_fit at SNR {snr}: biased by {deviations.mean() / deviations.std():.2f} sigma")  # noqa: T201 - the figures of the docs
    assert expected > 0.15 * deviations.std()
    assert pulls.std() == pytest.approx(1, abs=0.03)


def test_iterated_weights_beat_those_of_the_sky_and_stay_unbiased():
    arrays, profile, flux = monte_carlo(("sky_weights", "optimal"), SHAPES[0], 100)
    bound = fisher_error(profile, flux)
    ratios = {name: arrays[name][0].std() / bound for name in arrays}
    print(f"scatter over the linear bound at SNR 100: {ratios}")  # noqa: T201 - the figures of the docs
    assert arrays["optimal"][0].std() / bound == pytest.approx(1, abs=0.02)
    assert arrays["sky_weights"][0].std() / bound > 1.02
    # The weights' own use of the data moves the flux by less than 1 % of its error (same noise in both).
    assert abs((arrays["optimal"][0] - arrays["sky_weights"][0]).mean()) < 0.01 * bound


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_noise_of_real_frames_is_correlated(data_dir, number):
    data = np.asarray(fits.getdata(data_dir / "vista" / f"image_{number}.fits", 1), dtype=np.float32)
    good = np.isfinite(data) & (data != 0)
    scatter = 1.4826 * np.median(np.abs(data[good] - np.median(data[good])))
    noise = measure_correlation(data, good, scatter**2, rng=np.random.default_rng(number), annulus=(30.0, 45.0))
    assert noise.reason == ""
    # Those whose annulus has too little sky drop out.
    assert noise.n_apertures.min() > 1900
    factor = float(noise.factor_at(np.array([np.pi * 25]))[0])
    # Found independently: 1.6 to 1.9 in apertures of 5 px; 2000 apertures add 2 %.
    assert 1.5 < factor < 2.0
    # The correlation has a finite length: the factor rises with the area. 2000 apertures tell each to 1.6 %, so that
    # two neighbours differ by chance by 0.04, and by three times as much in one of some hundred.
    assert (np.diff(noise.factors) > -0.13).all()
    assert noise.factors[-1] > noise.factors[0] + 0.4
