"""Photometric redshifts of real galaxies: SDSS ugriz of 10 000 galaxies with spectra, beside eazy-py if it is there.

Run: ``python benchmarks/photoz_sdss.py DATA [--n 1000]``; DATA holds ``kcorrect/gst_tests_small.fits``,
``speclite/sdss2010-*.ecsv`` and what ``eriksen2019`` needs.
"""

import argparse
from pathlib import Path

import numpy as np
from astropy.table import Table

from lumos.photoz.estimates import RedshiftPdf
from lumos.photoz.fluxes import Photometry
from lumos.photoz.models import build_grid
from lumos.photoz.rows import redshift_rows
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.templates import load_models
from lumos.photoz.zeropoints import fit_factors
from lumos.validate.redshifts import format_redshifts, redshift_table

BANDS = tuple("ugriz")
NAMES = ", ".join(f"{band}: sdss2010-{band}" for band in BANDS)
CURVES = f"bands=[{{names: {{{NAMES}}}, path: 'speclite/{{name}}.ecsv'}}]"
GRID = "redshifts={low: 0.005, high: 0.8, step: 0.005}"
#: nJy of a nanomaggy.
NANOMAGGY = 3631.0


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--n", type=int, default=1000, help="galaxies")
    options = parser.parse_args()
    grid = build_grid(load_models("eriksen2019", [CURVES, GRID]), options.data)
    table = Table.read(options.data / "kcorrect" / "gst_tests_small.fits")
    rng = np.random.default_rng(1)
    table = table[np.sort(rng.permutation(len(table))[: 2 * options.n])]
    factor = NANOMAGGY * 10 ** (0.4 * np.asarray(table["EXTINCTION"], dtype=float)[:, :5])
    with np.errstate(divide="ignore"):
        error = np.asarray(table["MODELFLUX_IVAR"], dtype=float)[:, :5] ** -0.5
    flux = np.asarray(table["MODELFLUX"], dtype=float)[:, :5] * factor
    seen = Photometry(np.arange(len(table)), flux, np.where(np.isfinite(error), error * factor, np.nan), bands=BANDS)
    redshift = np.asarray(table["Z"], dtype=float)
    train, test = slice(0, None, 2), slice(1, None, 2)
    settings = PhotozSettings(coarse=1, margin=1000, min_bands=4)
    found = fit_factors(seen.take(train), grid, settings, redshift[train])
    print("factors of the bands:", dict(zip(BANDS, found.factor.round(3).tolist(), strict=True)))
    for name, factors, weighing in (
        ("as they are", np.ones(5), "likelihood"),
        ("zero points from the other half", found.factor, "likelihood"),
        ("and runs weighed by evidence", found.factor, "evidence"),
    ):
        some = settings.model_copy(update={"weighing": weighing})
        rows = redshift_rows(seen.take(test).scaled(factors), grid, some)
        pdf = RedshiftPdf(grid.redshifts, np.asarray(rows["pz"]))
        print(f"{name}\n{format_redshifts(redshift_table(rows['zb'], pdf, redshift[test], rows['qz']))}", flush=True)


if __name__ == "__main__":
    main()
