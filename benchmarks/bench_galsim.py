"""Galaxies that GalSim drew, measured with `lumos measure`: no code of ours makes the images.

A flat sky with white noise, signal-to-noise ratios of 2 to 100. Galaxies stand 76 px apart; those of pairs have a
companion within 0.5, or at 0.5 to 2, FWHM, as bright within a factor of three. Clumpy ones have a quarter of the light
in ten points (`galsim.RandomKnots`), the catalogue the smooth profile. "Shapes wrong" are radius, index and axis ratio
of the catalogue, each with a scatter of 10 per cent. The catalogue states its errors, none or these; "not stated" is
the same without them, where the errors of a typical catalogue are assumed (`measure.catalog.errors`).

Usage: ``python benchmarks/bench_galsim.py [--model generic] [--exposures 2] [--cases smooth pairs ...]``.
"""

import argparse
from dataclasses import dataclass

import galsim
import numpy as np
from astropy.wcs import WCS
from scipy.stats import kstest

from lumos.catalogs.parent import ParentCatalog
from lumos.catalogs.schema import list_column
from lumos.flags import Flag
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.pdf import GaussianMixture
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.settings import MeasureSettings
from lumos.statistics import sigma68

SCALE, NOISE, SKY, SIDE, STEP, BETA = 0.25, 10.0, 100.0, 988, 76, 3.5
FWHM = (1.6, 2.5, 4.0, 6.0, 8.0)
CASES = ("smooth", "clumpy", "shapes wrong", "pairs < 0.5", "pairs 0.5-2")
UNSTATED = ", not stated"
WRONG = 0.1


@dataclass
class Drawn:
    """Galaxies of an exposure: profiles of the catalogue, those that are drawn, fluxes in units of the pixels."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    index: np.ndarray
    ratio: np.ndarray
    angle: np.ndarray
    flux: np.ndarray
    profiles: list[galsim.GSObject]


def sersic(index: float, radius: float, ratio: float, angle: float) -> galsim.GSObject:
    """Return a profile of flux 1 with a semi-major half-light radius in pixels."""
    # GalSim takes few indices at once: each costs a table.
    round_one = galsim.Sersic(n=round(index * 4) / 4, half_light_radius=radius * np.sqrt(ratio))
    return round_one.shear(q=ratio, beta=angle * galsim.radians)


def draw_galaxies(case: str, fwhm: float, rng: np.random.Generator) -> Drawn:
    """Draw the galaxies of a case."""
    place = np.arange(STEP, SIDE - STEP + 1, STEP, dtype=float)
    x, y = (v.ravel() + rng.uniform(-0.5, 0.5, v.size) for v in np.meshgrid(place, place))
    flux = np.exp(rng.uniform(np.log(2), np.log(100), len(x)))
    if case.startswith("pairs"):
        low, high = (0.1, 0.5) if "<" in case else (0.5, 2.0)
        distance, angle = fwhm * rng.uniform(low, high, len(x)), rng.uniform(0, 2 * np.pi, len(x))
        other = flux * np.exp(rng.uniform(-np.log(3), np.log(3), len(x)))
        x, y = np.append(x, x + distance * np.cos(angle)), np.append(y, y + distance * np.sin(angle))
        flux = np.append(flux, other)
    n = len(x)
    radius = fwhm * np.exp(rng.uniform(np.log(0.25), np.log(1.2), n)).clip(max=9.0)
    index = np.round(np.exp(rng.uniform(np.log(0.7), np.log(3.0), n)) * 4) / 4
    ratio, theta = rng.uniform(0.3, 1.0, n), rng.uniform(0, np.pi, n)
    profiles = []
    for i in range(n):
        one = sersic(index[i], radius[i], ratio[i], theta[i])
        if case == "clumpy":
            knots = galsim.RandomKnots(npoints=10, profile=one, rng=galsim.BaseDeviate(int(rng.integers(1, 2**30))))
            one = 0.75 * one + 0.25 * knots
        profiles.append(one)
    area = (radius**2 + (0.57 * fwhm) ** 2) ** 0.5 * ((radius * ratio) ** 2 + (0.57 * fwhm) ** 2) ** 0.5
    flux *= NOISE * np.sqrt(4 * np.pi * area / (2 * np.log(2)))
    return Drawn(x, y, radius, index, ratio, theta, flux, profiles)


def exposure(case: str, fwhm: float, rng: np.random.Generator) -> tuple[Exposure, ParentCatalog, np.ndarray]:
    """Return an exposure, its catalogue, and the true fluxes in nJy."""
    galaxies = draw_galaxies(case.removesuffix(UNSTATED), fwhm, rng)
    psf, image = galsim.Moffat(beta=BETA, fwhm=fwhm), galsim.ImageD(SIDE, SIDE, scale=1.0)
    for x, y, flux, profile in zip(galaxies.x, galaxies.y, galaxies.flux, galaxies.profiles, strict=True):
        size = 2 * STEP
        # GalSim counts pixels from 1.
        centre = galsim.PositionD(x + 1, y + 1)
        stamp = galsim.Convolve(profile, psf).drawImage(nx=size, ny=size, scale=1.0, center=centre, dtype=float)
        both = stamp.bounds & image.bounds
        image[both] += flux * stamp[both]
    light = image.array
    # Sky and read noise of NOISE together, photons of the light with gain 1.
    data = SKY + light + np.sqrt(NOISE**2 + light.clip(0)) * rng.standard_normal(light.shape)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [SIDE / 2, SIDE / 2]
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
    ra, dec = wcs.all_pix2world(galaxies.x, galaxies.y, 0)
    made = Exposure(
        "galsim", "1", "galsim", "r", "", data.astype(np.float32), np.zeros((SIDE, SIDE), np.int32), wcs, SCALE,
        MoffatModel(fwhm, BETA), variance=np.full((SIDE, SIDE), NOISE**2, np.float32), gain=1.0, zeropoint=31.4,
        sky_subtracted=False,
    )  # fmt: skip
    n = len(galaxies.x)
    radius, index, ratio = galaxies.radius * SCALE, galaxies.index, galaxies.ratio
    wrong = WRONG if case.startswith("shapes wrong") else 0.0
    radius, index = (values * np.exp(wrong * rng.standard_normal(n)) for values in (radius, index))
    ratio = (ratio * np.exp(wrong * rng.standard_normal(n))).clip(max=1.0)
    errors = {"half_light_radius_err": wrong * radius, "sersic_n_err": wrong * index, "axis_ratio_err": wrong * ratio}
    errors["position_err"] = np.zeros(n)
    stated = {} if case.endswith(UNSTATED) else errors
    angle = np.rad2deg(galaxies.angle) - 90
    catalog = ParentCatalog(np.arange(n), ra, dec, radius, index, ratio, angle, np.full(n, 22.0), **stated)
    return made, catalog, galaxies.flux


def rows(case: str, fwhm: float, settings: MeasureSettings, n_exposures: int) -> dict[str, np.ndarray]:
    """Return flux, error, truth, PIT, error of optimal weights, and whether it is called unlike the training."""
    found: dict[str, list[np.ndarray]] = {}
    for seed in range(n_exposures):
        image, catalog, truth = exposure(
            case, fwhm, np.random.default_rng([seed, round(10 * fwhm), CASES.index(case.removesuffix(UNSTATED))])
        )
        table = measure_exposure(image, catalog, settings)
        truth = truth[table["object_id"].to_numpy()]
        pdf = GaussianMixture(*(list_column(table, f"pdf_{part}") for part in ("weights", "means", "stds")))
        outside = (table["flags"].to_numpy() & int(Flag.OUT_OF_DOMAIN)) > 0
        unit = table["scene_flux_err"].to_numpy().astype(float)
        for one in settings.all_estimators:
            flux, error = (table[f"{one}_{part}"].to_numpy().astype(float) for part in ("flux", "flux_err"))
            own = pdf if one == "lumos" else GaussianMixture(np.ones((len(flux), 1)), flux[:, None], error[:, None])
            columns = np.stack([flux, error, truth, own.cdf(truth[:, None])[:, 0], unit, outside])
            found.setdefault(one, []).append(columns[:, np.isfinite(columns).all(axis=0)])
    return {one: np.concatenate(parts, axis=1) for one, parts in found.items()}


def line(case: str, fwhm: str, name: str, columns: np.ndarray) -> str:
    """Return a line of the table."""
    flux, error, truth, pit, unit, outside = columns
    bright = truth > 20 * unit
    pull = (flux - truth) / error
    values = [
        f"{len(flux)}",
        f"{np.median((flux - truth) / unit):+.3f}",
        f"{np.median(flux[bright] / truth[bright] - 1):+.2%}",
        f"{sigma68((flux - truth) / unit):.3f}",
        f"{sigma68(pull):.3f}",
        f"{np.mean(np.abs(pull) > 5):.2%}",
        f"{kstest(pit, 'uniform').statistic:.3f}",
        f"{np.mean(outside):.1%}",
    ]
    return f"| {case} | {fwhm} | {name} | {' | '.join(values)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="generic")
    parser.add_argument("--exposures", type=int, default=2)
    every = [case + end for case in CASES for end in ("", UNSTATED)]
    parser.add_argument("--cases", nargs="+", default=every, choices=every)
    args = parser.parse_args()
    settings = MeasureSettings(estimators=("optimal", "scene"), model=args.model)
    heads = ("galaxies", "FWHM", "estimator", "n", "bias / error", "bias, S/N > 20", "scatter / error", "pull")
    print(f"| {' | '.join(heads)} | beyond 5σ | PIT-KS | called unlike the training |")
    print("|" + " --- |" * 11)
    for case in args.cases:
        parts = {fwhm: rows(case, fwhm, settings, args.exposures) for fwhm in FWHM}
        for name in settings.all_estimators:
            print(line(case, "all", name, np.concatenate([part[name] for part in parts.values()], axis=1)))
        for fwhm, part in parts.items():
            print(line(case, f"{fwhm:g} px", "lumos", part["lumos"]), flush=True)


if __name__ == "__main__":
    main()
