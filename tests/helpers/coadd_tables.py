"""Coadds as `lumos coadd` writes them, with fluxes that tests choose."""

import numpy as np

from lumos.catalogs.schema import coadd_schema, to_arrow
from lumos.catalogs.tables import write_table
from lumos.flags import Flag
from lumos.pdf import GaussianMixture, GridPdf

BANDS = ("g", "r", "i")
#: Objects of these coadds: the second was not measured in r, the third is darker than the sky in g, the fourth has no
#: row in i.
UNMEASURED, DARK, ABSENT = 1, 2, 3


def fluxes(n):
    """Return flux and error of each object and band, nJy, shape (n, 3)."""
    rng = np.random.default_rng(3)
    flux = 10 ** rng.uniform(2, 4, (n, 3))
    error = np.full((n, 3), 20.0)
    flux[DARK, 0] = -100.0
    flux[UNMEASURED, 1] = error[UNMEASURED, 1] = np.nan
    return flux, error


def write_coadd(path, n=6, *, names=False, form="mixture", batches=1):
    """Write a coadd of n objects in three bands; PDFs are two Gaussians, a narrow and a wide one, around the flux."""
    flux, error = fluxes(n)
    there = np.ones((n, 3), dtype=bool)
    there[ABSENT, 2] = False
    rows, band = np.nonzero(there)
    mean, std = flux[rows, band], error[rows, band]
    weights = np.tile([0.75, 0.25], (len(rows), 1))
    mixture = GaussianMixture(weights, np.stack([mean, mean + 10], axis=1), np.stack([std, 2 * std], axis=1))
    columns = {
        "object_id": 100 + rows,
        "object_name": np.array([f"J{10 + row}+{row:02d}a" for row in rows], dtype=object),
        "band": np.array(BANDS, dtype=object)[band],
        "ra": (150.0 + 0.3 * rows) % 360,
        "dec": 2.0 - 0.2 * (rows % 400),
        "n_exposures": np.full(len(rows), 4),
        "flux": mean,
        "flux_err": std,
        "flags": np.where(np.isnan(mean), int(Flag.NO_EXPOSURE), int(Flag.NEIGHBOUR)),
        "pdf_weights": np.where(np.isnan(mean)[:, None], np.nan, weights),
        "pdf_means": mixture.means,
        "pdf_stds": mixture.stds,
    }
    if form == "grid":
        nodes = mixture.quantile(np.linspace(0.001, 0.999, 65)[None])
        columns["pdf_nodes"], columns["pdf_log_density"] = nodes, mixture.log_pdf(nodes)
        GridPdf(nodes, columns["pdf_log_density"])
    schema = coadd_schema(["optimal"], form, 2 if form == "mixture" else 65, {"coadd": {}}, with_names=names)
    nothing = np.zeros(len(rows))
    table = to_arrow({item.name: columns.get(item.name, nothing) for item in schema}, schema)
    step = -(-len(rows) // batches)
    write_table((table.slice(start, step) for start in range(0, len(rows), step)), path)
    return mixture
