"""Fit the parameters of the simulated galaxy population and of the camera's noise to the real tables.

Reads COSMOS/ACS Sérsic fits, the sources of one PAUS NB685 exposure, and an atlas of galaxy spectra; writes the few
dozen numbers that the package ships. No row of a table is copied.

Run: ``python benchmarks/fit_population.py DATA_FOLDER``
"""

import argparse
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import yaml
from astropy.io import fits
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln, logsumexp

from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.simulate.morphology import PIVOT_MAG, Morphology
from lumos.simulate.population import Population
from lumos.spectra.passbands import PAUCAM_PASSBANDS
from lumos.spectra.sed import LINE_WAVELENGTHS, SedFamily, continuum_basis

Array = NDArray[np.float64]

#: The list's seeing, pixel and exposure time; share of the light in its apertures; pixels of its sky annulus.
PSF_FWHM, PIXEL, TIME, SHARE, ANNULUS = 1.18573, 0.263, 90.0, 0.625, np.pi * (45**2 - 30**2)
#: Read noise in electrons, a value typical of such cameras: the list gives its sum with the sky only.
READ_NOISE = 8.0
#: Exponent of the tail of the redshifts: 100 galaxies, none beyond 1.3, leave it open. 2 keeps a few per cent there.
TAIL = 2.0
#: Scatter in magnitudes of the catalogue's magnitude about that of the profile, which a catalogue's aperture causes.
#: Set so that NB685 given i scatters by 0.06 dex at i < 20 as on the list, errors taken out; spectra alone give 0.045.
REF_MAG_STD = 0.1
#: Colours of discs and spheroids on the red-to-blue line of the spectra (-1 to 1). One band of one exposure bounds
#: their scatter only; the means are chosen so that spheroids are red and discs bluer at fainter magnitudes.
COLOURS = {
    "discs": {"colour_mean": 0.25, "colour_slope": 0.1, "colour_std": 0.3},
    "spheroids": {"colour_mean": -0.7, "colour_slope": 0.05, "colour_std": 0.3},
}

HEADER = """\
# Galaxy population and camera noise of the simulation, made by benchmarks/fit_population.py from real tables.
# Shapes: (ln half-light radius in arcsec, ln Sérsic n, logit axis ratio) at i = 21.5, change per magnitude, covariance.
# sed: coefficients of the continuum's closed forms; ln of the rest equivalent widths in nm of [OII], Hβ, [OIII], Hα.
# instrument: zero point and sky of NB685 follow from one real exposure; their curves over wavelength are ours.
"""


def read_paus(data: Path) -> dict[str, Array]:
    """Return the columns of the PAUS list, with the intrinsic axis ratio where the aperture tells it."""
    rows = pyarrow.csv.read_csv(data / "paus" / "example_sources_img.csv")
    wanted = ("aperture_a", "aperture_b", "r50", "I_auto", "sersic_n_gim2d", "flux", "flux_error")
    table = {name: rows.column(name).to_numpy().astype(float) for name in wanted}
    major, minor = table["aperture_a"], table["aperture_b"]
    radius = 0.03 * table["r50"]
    # Apertures grow as a^2 = c^2 + k r^2 and b^2 = c^2 + k q^2 r^2: c^2 = 0.79 square arcsec for discs of the list.
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.sqrt(np.clip((minor**2 - 0.79) / (major**2 - 0.79), 0.05**2, 0.999**2))
    ratio[(radius < 0.45) | (minor**2 < 0.8)] = np.nan
    return {
        "mag": table["I_auto"],
        "radius": radius,
        "n": np.clip(table["sersic_n_gim2d"], 0.3, 6.2),
        "ratio": ratio,
        "flux": table["flux"],
        "flux_err": table["flux_error"],
        "pixels": np.pi * major * minor / PIXEL**2,
    }


def read_cosmos(data: Path) -> dict[str, Array]:
    """Return magnitude, major-axis radius in arcsec, n, axis ratio and redshift of the 100 COSMOS galaxies."""
    table = fits.getdata(data / "cosmos" / "real_galaxy_catalog_23.5_example_fits.fits")
    fit = np.asarray(table["sersicfit"], dtype=float)
    columns = {"mag": table["mag_auto"], "radius": 0.03 * fit[:, 1], "n": fit[:, 2], "ratio": fit[:, 3]}
    columns["redshift"] = table["zphot"]
    return {name: np.asarray(value, dtype=float) for name, value in columns.items()}


def fit_shapes(tables: list[dict[str, Array]]) -> tuple[list[float], list[Morphology]]:
    """Fit the mixture of discs and spheroids by maximum likelihood; an unknown axis ratio is integrated out."""
    mag, radius, n, ratio = (np.concatenate([t[k] for t in tables]) for k in ("mag", "radius", "n", "ratio"))
    known = np.isfinite(ratio)
    values = np.column_stack([np.log(radius), np.log(n), np.log(ratio / (1 - ratio))])
    above = mag - PIVOT_MAG
    start = [-1.0, -0.2]
    for mean_n in (np.log(1.0), np.log(3.0)):
        start += [-0.5, mean_n, 0.1, -0.2, 0.0, 0.0, np.log(0.4), np.log(0.4), np.log(0.9), 0.0, 0.0, 0.0]
    first = np.array(start)

    def cost(p: Array) -> float:
        spheroid = -np.logaddexp(0, -p[0] - p[1] * above)
        terms = [spheroid - p[0] - p[1] * above, spheroid]
        for number, q in enumerate((p[2:14], p[14:26])):
            part = _morphology(q)
            residual = values - part.mean - part.slope * above[:, None]
            terms[number] = terms[number] + np.where(
                known, _log_normal(residual, part.covariance), _log_normal(residual[:, :2], part.covariance[:2, :2])
            )
        # A weak pull towards the start keeps slopes that the data hardly bind from running away.
        return float(-logsumexp(terms, axis=0).sum() + 2.0 * np.sum((p - first) ** 2))

    best = minimize(cost, first, method="L-BFGS-B", options={"maxiter": 300, "maxfun": 100_000}).x
    return [float(v) for v in best[:2]], [_morphology(best[2:14]), _morphology(best[14:26])]


def _morphology(p: Array) -> Morphology:
    root = np.diag(np.exp(p[6:9]))
    root[1, 0], root[2, 0], root[2, 1] = p[9:12]
    return Morphology(p[:3], p[3:6], root @ root.T, 0.0, 0.0, 1.0)


def _log_normal(residual: Array, covariance: Array) -> Array:
    white = np.linalg.solve(np.linalg.cholesky(covariance), np.nan_to_num(residual).T)
    return np.asarray(-0.5 * np.sum(white**2, axis=0) - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1])


def fit_redshifts(cosmos: dict[str, Array]) -> dict[str, float]:
    """Fit p(z | m) by maximum likelihood."""
    z, above = cosmos["redshift"], cosmos["mag"] - PIVOT_MAG

    def cost(p: Array) -> float:
        alpha, beta, scale = np.exp(p[0]), TAIL, np.exp(p[1] + p[2] * above)
        log_norm = np.log(scale) + gammaln((1 + alpha) / beta) - np.log(beta)
        return float(-np.sum(alpha * np.log(z / scale) - (z / scale) ** beta - log_norm))

    best = minimize(cost, [0.3, -0.7, 0.2], method="Nelder-Mead", options={"maxiter": 5000}).x
    alpha, scale = np.exp(best[:2])
    return {"alpha": float(alpha), "beta": TAIL, "scale": float(scale), "growth": float(best[2])}


def fit_counts(mag: Array, faint: float = 22.5) -> float:
    """Return the slope of 10^(a m) to the magnitude at which the list begins to thin out."""
    depth = faint - mag[mag < faint]
    # Exponential below the limit: the mean depth is 1 / (a ln 10); the bright end lies 4.5 magnitudes away.
    return float(1 / (np.log(10) * depth.mean()))


def fit_spectra(data: Path) -> SedFamily:
    """Fit the closed forms to the atlas: its mean, the line from red to blue, and the scatter about it."""
    coefficients, widths = _atlas(data)
    x = np.log(np.linspace(230.0, 850.0, 60) / 400.0)
    shapes = coefficients @ continuum_basis(x).T
    shapes -= shapes.mean(axis=1, keepdims=True)
    shapes -= np.median(shapes, axis=0)
    _, _, directions = np.linalg.svd(shapes, full_matrices=False)
    # The first direction is the blueness: positive where the ultraviolet is bright.
    blueness = shapes @ directions[0] * np.sign(directions[0, 0])
    low, high = np.quantile(blueness, [0.05, 0.95])
    colour = 2 * (blueness - low) / (high - low) - 1
    line = np.polynomial.polynomial.polyfit(colour, coefficients, 1)
    residual = coefficients - line[0] - colour[:, None] * line[1]
    # The two directions that change the visible spectrum most, each with unit variance.
    visible = residual @ continuum_basis(np.log(np.linspace(300.0, 900.0, 60) / 400.0)).T
    visible -= visible.mean(axis=1, keepdims=True)
    scores = np.linalg.svd(visible, full_matrices=False)[0][:, :2] * np.sqrt(len(visible))
    scatter = scores.T @ residual / len(visible)
    lines = []
    for width in widths.T:
        seen = width > 0.05
        lines.append(np.polyfit(colour[seen], np.log(width[seen]), 1))
    return SedFamily(np.vstack([line, scatter]), np.array(lines)[:, 1], np.array(lines)[:, 0], 0.5, 0.4)


def _atlas(data: Path) -> tuple[Array, Array]:
    """Return the continuum's coefficients and the lines' equivalent widths in nm of each spectrum."""
    archive = np.load(next((data / "photoz" / "brown2014").glob("*.npz")))
    coefficients, widths = [], []
    rest = list(LINE_WAVELENGTHS.values())
    for name in sorted(key[: -len("__wave")] for key in archive.files if key.endswith("__wave")):
        wave, flux = archive[f"{name}__wave"] / 10.0, archive[f"{name}__flam"].astype(float)
        x = np.log(wave / 400.0)
        used = (wave > 140) & (wave < 1150) & (flux > 0)
        for centre in (*rest, 672.0):
            used &= np.abs(wave - centre) > 6
        log_flux = np.log(np.where(flux > 0, flux * wave**2, 1.0))
        basis = np.column_stack([np.ones_like(x), continuum_basis(x)])
        weight = np.sqrt(np.gradient(x)) * np.where(wave > 250, 1.0, 0.5)
        kept = used
        for _ in range(4):
            fitted = np.linalg.lstsq((basis * weight[:, None])[kept], (log_flux * weight)[kept])[0]
            residual = np.abs(log_flux - basis @ fitted)
            kept = used & (residual < 3 * 1.48 * np.median(residual[used]))
        coefficients.append(fitted[1:])
        widths.append([_equivalent_width(wave, flux, centre) for centre in rest])
    return np.array(coefficients), np.array(widths)


def _equivalent_width(wave: Array, flux: Array, centre: float) -> float:
    """Return an equivalent width in nm over a continuum drawn through both sides, clear of the next line."""
    reach, limits = {486.1: (2.5, (0, 492)), 499.5: (4.0, (502, 1e4))}.get(centre, (4.5, (0, 1e4)))
    inside, distance = np.abs(wave - centre) < reach, np.abs(wave - centre)
    sides = (distance > reach) & (distance < reach + 5) & (wave > limits[0]) & (wave < limits[1])
    continuum = np.polyval(np.polyfit(wave[sides], flux[sides], 0 if limits != (0, 1e4) else 1), wave)
    return float(np.trapezoid((flux / continuum - 1)[inside], wave[inside]))


def fit_instrument(paus: dict[str, Array], population: Population) -> dict[str, float]:
    """Fit the zero point and the sky of NB685 to the list: its fluxes are electrons per second."""
    inside = SHARE * np.maximum(paus["flux"], 0)
    variance = (SHARE * paus["flux_err"]) ** 2 - inside / TIME
    per_pixel = np.median(variance / paus["pixels"] / (1 + paus["pixels"] / ANNULUS)) * TIME**2
    sky_rate = (per_pixel - READ_NOISE**2) / TIME
    rng = np.random.default_rng(0)
    good = (paus["mag"] < 22) & (paus["flux"] / paus["flux_err"] > -5)
    drawn = population.draw_at(np.tile(paus["mag"][good], 50), rng)
    model = drawn.band_flux([PAUCAM_PASSBANDS["NB685"]])[:, 0]
    ratio = 10 ** (0.4 * (paus["mag"] - PIVOT_MAG))
    # The medians of flux over reference flux must agree.
    median = np.median((paus["flux"] * ratio)[good])
    zeropoint = AB_ZEROPOINT_NJY - 2.5 * np.log10(np.median(model * np.tile(ratio[good], 50)) / median)
    return {
        "zeropoint_peak": float(zeropoint),
        "peak_wavelength": 685.0,
        "zeropoint_loss": 0.6,
        "sky_brightness": float(zeropoint - 2.5 * np.log10(sky_rate / PIXEL**2)),
        "sky_slope": -0.006,
        "gain": 1.0,
        "read_noise": READ_NOISE,
        "pixel_scale": PIXEL,
    }


def main() -> None:
    """Fit everything and write the parameter file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the real tables")
    parser.add_argument("--out", type=Path, default=Path(str(resources.files("lumos.simulate") / "population.yaml")))
    arguments = parser.parse_args()
    paus, cosmos = read_paus(arguments.data), read_cosmos(arguments.data)
    spheroid, shapes = fit_shapes([paus, cosmos])
    parts = {name: {**_plain(vars(shape)), **COLOURS[name]} for name, shape in zip(COLOURS, shapes, strict=True)}
    sed, redshift, slope = fit_spectra(arguments.data), fit_redshifts(cosmos), fit_counts(paus["mag"])
    components = tuple(
        Morphology(shape.mean, shape.slope, shape.covariance, **COLOURS[name])
        for name, shape in zip(COLOURS, shapes, strict=True)
    )
    population = Population(
        slope, (spheroid[0], spheroid[1]), (components[0], components[1]), redshift, REF_MAG_STD, sed
    )
    content = {
        "population": {
            "count_slope": slope,
            "spheroid": spheroid,
            **parts,
            "redshift": redshift,
            "ref_mag_std": REF_MAG_STD,
        }
        | {"sed": _plain({f: getattr(sed, f) for f in SedFamily.__dataclass_fields__})},
        "instrument": fit_instrument(paus, population),
    }
    text = yaml.safe_dump(_rounded(content), sort_keys=False, default_flow_style=None, width=118)
    arguments.out.write_text(HEADER + text, encoding="utf-8")
    print(f"wrote {arguments.out}")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
