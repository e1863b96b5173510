"""Isolated galaxies on a flat sky: pulls and PIT of `lumos measure` for white and resampled noise, and when bright.

Galaxies of the population stand 70 px apart. Noise is white, or white noise resampled by half a pixel with a bilinear
or Lanczos kernel, or by drizzling pixels of 1.5 px; the light has the PSF that the image has after it.

Usage: ``python benchmarks/faint_pulls.py [--model generic] [--exposures 8]``.
"""

import argparse

import numpy as np
from astropy.wcs import WCS
from scipy.ndimage import convolve1d
from scipy.stats import kstest

from lumos.catalogs.parent import ParentCatalog
from lumos.catalogs.schema import list_column
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.pdf import GaussianMixture
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.settings import MeasureSettings
from lumos.profiles.scene import draw_light
from lumos.profiles.shapes import Shapes
from lumos.simulate.population import load_population
from lumos.statistics import sigma68

SCALE, NOISE, SIDE, STEP = 0.25, 10.0, 1120, 70
_REACH = np.arange(-3.0, 4.0)
KERNELS = {
    "white": np.ones(1),
    "bilinear": np.array([0.0, 0.5, 0.5]),
    "Lanczos": np.sinc(_REACH - 0.5) * np.sinc((_REACH - 0.5) / 3),
    "drizzle": np.array([0.25, 1.0, 0.25]),
}
#: Name, FWHM in pixels, range of the signal-to-noise ratio.
CASES = (("faint", 3.8, (0.5, 4.0)), ("faint, FWHM 2 px", 2.0, (0.5, 4.0)), ("bright", 3.8, (20.0, 80.0)))


def exposure(kernel: np.ndarray, fwhm: float, span: tuple[float, float], rng: np.random.Generator):
    """Return an exposure, its catalogue and the true fluxes in nJy."""
    place = np.arange(STEP, SIDE - STEP + 1, STEP, dtype=float)
    x, y = (v.ravel() + rng.uniform(-0.5, 0.5, v.size) for v in np.meshgrid(place, place))
    galaxies = load_population().draw(len(x), rng, (20.0, 23.0))
    shapes = Shapes(
        x, y, galaxies.half_light_radius / SCALE, galaxies.sersic_n, galaxies.axis_ratio, rng.uniform(0, np.pi, len(x))
    )
    psf = MoffatModel(fwhm, 3.5)
    radius = np.hypot(shapes.half_light_radius, 0.57 * fwhm) * np.hypot(
        shapes.half_light_radius * shapes.axis_ratio, 0.57 * fwhm
    )
    kernel = kernel / kernel.sum()
    noise = NOISE * np.sum(kernel**2)
    flux = noise * np.sqrt(4 * np.pi * radius / (2 * np.log(2))) * np.exp(rng.uniform(*np.log(span), len(x)))
    light = draw_light(shapes, flux, psf.at(x[:1], y[:1]), (SIDE, SIDE), noise)
    deviates = np.sqrt(NOISE**2 + light.clip(0)) * rng.standard_normal(light.shape)
    for axis in (0, 1):
        deviates = convolve1d(deviates, kernel, axis=axis, mode="wrap")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [SIDE / 2, SIDE / 2]
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
    ra, dec = wcs.all_pix2world(x, y, 0)
    made = Exposure(
        "flat", "1", "flat", "r", "", (light + deviates).astype(np.float32), np.zeros((SIDE, SIDE), np.int32),
        wcs, SCALE, psf, variance=np.full((SIDE, SIDE), noise**2, np.float32), gain=1.0, zeropoint=31.4,
    )  # fmt: skip
    catalog = ParentCatalog(
        np.arange(len(x)), ra, dec, shapes.half_light_radius * SCALE, shapes.sersic_n, shapes.axis_ratio,
        np.rad2deg(shapes.theta) - 90, galaxies.ref_mag,
    )  # fmt: skip
    return made, catalog, flux


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="generic")
    parser.add_argument("--exposures", type=int, default=8)
    args = parser.parse_args()
    settings = MeasureSettings(estimators=("optimal", "scene"), model=args.model)
    print("| galaxies | noise | estimator | n | bias / flux | scatter / that of optimal | pull | PIT-KS |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for case, fwhm, span in CASES:
        for name, kernel in KERNELS.items():
            found: dict[str, list[np.ndarray]] = {}
            rng = np.random.default_rng(5)
            for _ in range(args.exposures):
                image, catalog, truth = exposure(kernel, fwhm, span, rng)
                table = measure_exposure(image, catalog, settings)
                pdf = GaussianMixture(*(list_column(table, f"pdf_{part}") for part in ("weights", "means", "stds")))
                for one in settings.all_estimators:
                    flux, error = (table[f"{one}_{part}"].to_numpy().astype(float) for part in ("flux", "flux_err"))
                    own = (
                        pdf
                        if one == "lumos"
                        else GaussianMixture(np.ones((len(flux), 1)), flux[:, None], error[:, None])
                    )
                    found.setdefault(one, []).append(np.stack([flux, error, truth, own.cdf(truth[:, None])[:, 0]]))
            columns = {one: np.concatenate(parts, axis=1) for one, parts in found.items()}
            unit = {one: sigma68(c[0] / c[2] - 1) for one, c in columns.items()}
            for one, (flux, error, truth, pit) in columns.items():
                figures = f"{np.median(flux / truth - 1):+.2%} | {unit[one] / unit['optimal']:.3f} | "
                figures += f"{sigma68((flux - truth) / error):.3f} | {kstest(pit, 'uniform').statistic:.3f}"
                print(f"| {case} | {name} | {one} | {len(flux)} | {figures} |")


if __name__ == "__main__":
    main()
