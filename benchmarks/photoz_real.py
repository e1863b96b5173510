"""Photometric redshifts of SDSS, of the DC2 mock and of the HDF-N with few templates, beside eazy-py.

Run: ``python benchmarks/photoz_real.py DATA [CASE ...] [--n 300] [--curves FOLDER]``; cases are sdss, dc2 and hdfn.
DATA is the folder that ``eriksen2019`` needs, with ``kcorrect``, ``speclite``, ``dc2`` and ``eazy-photoz``. hdfn needs
a folder of curves: f300w.dat, f450w.dat, f606w.dat, f814w.dat, irimj.dat, irimh.dat, irimk.dat, in Angstrom.
Lumos has its own floor of 0.03 mag, eazy-py its template error (0.2 times eazy_v1.0) and 0.01; neither has a prior.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np

from lumos.conventions import FloatArray
from lumos.photoz.estimates import RedshiftPdf, quality
from lumos.photoz.models import ModelGrid, build_grid
from lumos.photoz.rows import estimate_columns, redshift_rows
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.templates import ModelSettings, load_models
from lumos.photoz.zeropoints import fit_factors
from lumos.spectra.curves import Curve
from lumos.statistics import pit_ks, sigma68
from photoz_eazy import dense, eazy_chi2, eazy_models, lumos_models
from photoz_sets import Galaxies, dc2, eazy_templates, hdfn, kcorrect_templates, sdss

CASES = ("sdss", "dc2", "hdfn")
SETTINGS = PhotozSettings(coarse=1, margin=1000, min_bands=4)
#: Beyond so much (zb - z) / (1 + z) is an outlier of a survey in broad bands.
OUTLIER = 0.15
HEAD = (
    f"{'':<38}{'n':>6}{'sigma68':>9}{'best 50%':>9}{'bias':>9}{'> 0.15':>8}{'best 50%':>9}{'PIT-KS':>8}{'s/galaxy':>9}"
)


def line(name: str, zb: FloatArray, qz: FloatArray, pdf: RedshiftPdf, z: FloatArray, seconds: float) -> None:
    """Print one line of the table."""
    good = np.isfinite(zb)
    dx = (zb[good] - z[good]) / (1 + z[good])
    half = qz[good] <= np.median(qz[good])
    distance = pit_ks(RedshiftPdf(pdf.redshifts, pdf.density[good]).cdf(z[good]))[0]
    print(
        f"{name:<38}{good.sum():>6}{sigma68(dx):>9.4f}{sigma68(dx[half]):>9.4f}{np.median(dx):>+9.4f}"
        f"{np.mean(np.abs(dx) > OUTLIER):>8.1%}{np.mean(np.abs(dx[half]) > OUTLIER):>9.1%}{distance:>8.3f}"
        f"{seconds / len(z):>9.4f}",
        flush=True,
    )


def by_lumos(name: str, galaxies: Galaxies, grid: ModelGrid, factors: FloatArray | float = 1.0) -> None:
    """Fit by Lumos and print."""
    start = process_time()
    scaled = galaxies.photometry.scaled(np.broadcast_to(factors, len(grid.bands)))
    rows = redshift_rows(scaled, grid, SETTINGS)
    pdf = RedshiftPdf(grid.redshifts, np.asarray(rows["pz"]))
    line(f"{name}, Lumos", rows["zb"], rows["qz"], pdf, galaxies.redshift, process_time() - start)


def by_eazy(name: str, galaxies: Galaxies, models: FloatArray, redshifts: FloatArray, error: Path) -> None:
    """Fit by eazy-py and print; p(z) as eazy-py makes it, point estimates and Qz from it as Lumos makes them."""
    from eazy.templates import TemplateError  # noqa: PLC0415 - an extra

    start = process_time()
    flux, sigma = galaxies.photometry.flux, galaxies.photometry.flux_err
    usable = galaxies.photometry.usable(-1e9)
    kept = usable.sum(axis=1) >= SETTINGS.min_bands
    flux, sigma = np.where(usable, flux, 0.0)[kept], np.where(usable, sigma, -1.0)[kept]
    sigma = np.where(sigma > 0, np.hypot(sigma, 0.01 * np.maximum(flux, 0)), sigma)
    pivots = [10 * curve.pivot_wavelength for curve in galaxies.curves.values()]
    template_error = TemplateError(str(error), filter_wavelengths=pivots, scale=0.2)
    more = np.stack([template_error(z) for z in redshifts])
    chi2 = eazy_chi2(models, flux, sigma, more)
    variance = sigma**2 + (more[:, None] * np.maximum(flux, 0)) ** 2
    log_density = -chi2 / 2 - 0.5 * np.where(usable[kept], np.log(variance), 0).sum(axis=2)
    found = estimate_columns(log_density, redshifts, SETTINGS)
    best = chi2[log_density.argmax(axis=0), np.arange(chi2.shape[1])]
    qz = quality(best, found["pz_width"], found["odds"], usable[kept].sum(axis=1))
    pdf = RedshiftPdf(redshifts, found["pz"])
    line(f"{name}, eazy-py", found["zb"], qz, pdf, galaxies.redshift[kept], process_time() - start)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cases", nargs="*", default=CASES, choices=[*CASES, []])
    parser.add_argument("--n", type=int, default=300, help="galaxies")
    parser.add_argument("--curves", type=Path, help="folder of curves of the HDF-N")
    options = parser.parse_args()
    data, n = options.data, options.n
    error = data / "eazy-photoz" / "TEMPLATE_ERROR.eazy_v1.0"
    sets = {"kcorrect": kcorrect_templates(data), "EAZY": eazy_templates(data)}
    print(HEAD)
    if "sdss" in options.cases:
        both = sdss(data, 2 * n)
        train, test = both.take(slice(0, None, 2)), both.take(slice(1, None, 2))
        redshifts = np.arange(0.005, 0.8, 0.005)
        print("SDSS ugriz")
        for name in ("pairs", "eriksen2019"):
            grid = build_grid(load_models(name, ["redshifts={low: 0.005, high: 0.8, step: 0.005}", *SDSS[name]]), data)
            _with_factors(name, train, test, grid)
        for name, spectra in sets.items():
            grid = lumos_models(spectra, test.curves, redshifts)
            factors = _with_factors(f"{len(spectra)} of {name}", train, test, grid)
            for text, factor in (("", np.ones(5)), (" calibrated", factors)):
                scaled = replace(test, photometry=test.photometry.scaled(factor))
                by_eazy(f"{len(spectra)} of {name}{text}", scaled, grid.fluxes[0], redshifts, error)
    if "dc2" in options.cases:
        train, test = (dc2(data, n, part) for part in ("training", "validation"))
        redshifts = np.exp(np.arange(np.log(1.01), np.log(4.0), 0.006)) - 1
        print("DC2 ugrizy, validation set")
        grid = lumos_models(sets["EAZY"], test.curves, redshifts, igm=True)
        factors = _with_factors("7 of EAZY", train, test, grid)
        for text, factor in (("", np.ones(6)), (" calibrated", factors)):
            scaled = replace(test, photometry=test.photometry.scaled(factor))
            by_eazy(f"7 of EAZY{text}", scaled, grid.fluxes[0], redshifts, error)
        models = pairs_for(test.curves, "redshifts={low: 0.01, high: 3.0, step: 0.015}")
        _with_factors("pairs", train, test, build_grid(models, data, test.curves))
    if "hdfn" in options.cases and options.curves is not None:
        deep = hdfn(data, options.curves)
        redshifts = np.exp(np.arange(np.log(1.01), np.log(7.0), 0.01)) - 1
        some, curves = dense(sets["EAZY"], deep.curves, redshifts, step=0.005)
        print("HDF-N")
        by_lumos("7 of EAZY", deep, lumos_models(some, curves, redshifts, igm=True))
        models = eazy_models(some, list(curves.values()), redshifts, igm=True)
        by_eazy("7 of EAZY", deep, models, redshifts, error)


#: What the bands of SDSS are in sets of model runs.
_UGRIZ = "bands=[{names: {u: sdss2010-u, g: sdss2010-g, r: sdss2010-r, i: sdss2010-i, z: sdss2010-z}, "
_UGRIZ += "path: 'speclite/{name}.ecsv'}]"
SDSS = {"pairs": [], "eriksen2019": [_UGRIZ]}


def _with_factors(name: str, train: Galaxies, test: Galaxies, grid: ModelGrid) -> FloatArray:
    """Fit with and without zero points from other galaxies; return these."""
    by_lumos(name, test, grid)
    factors = fit_factors(train.photometry, grid, SETTINGS, train.redshift).factor
    by_lumos(f"{name} calibrated", test, grid, factors)
    return factors


def pairs_for(curves: Mapping[str, Curve], redshifts: str) -> ModelSettings:
    """Return the set of pairs for bands of other curves."""
    # The curves are replaced; the set needs a file for each band all the same.
    bands = ", ".join(f"{band}: sdss2010-{band if band in 'ugriz' else 'z'}" for band in curves)
    wanted = f"bands=[{{names: {{{bands}}}, path: 'speclite/{{name}}.ecsv'}}]"
    return load_models("pairs", [redshifts, wanted, "igm=true"])


if __name__ == "__main__":
    main()
