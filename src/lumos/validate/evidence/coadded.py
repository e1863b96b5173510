"""Coadds whose fluxes are known."""

from pathlib import Path

import numpy as np

from lumos.coadds.read import read_coadd
from lumos.errors import LumosDataError
from lumos.flags import UNUSABLE
from lumos.photometry.measured import MeasuredRun
from lumos.validate.evidence.known import SHAPES, KnownFluxes, look_up, match_truth, pulls_of

__all__ = ["COADD", "read_known_coadd"]

#: Name of the coadd's own PDFs beside the means of the estimators.
COADD = "coadd"


def read_known_coadd(path: Path, truth: Path, run: MeasuredRun) -> KnownFluxes:
    """Read the rows of a coadd whose fluxes a table knows.

    Parameters
    ----------
    path : Path
        Table that ``lumos coadd`` wrote.
    truth : Path
        As of :func:`lumos.validate.evidence.known.read_known`.
    run : MeasuredRun
        One of the runs that it was made of.

    Returns
    -------
    KnownFluxes
        Estimator ``coadd`` has the PDFs and their medians, the others are the inverse-variance means.

    Raises
    ------
    LumosDataError
        If it is no coadd, of another catalogue than the run, or the table of truths holds none of its objects.
    """
    table, pdf = read_coadd(path)
    catalog = run.read_catalog()
    strange = np.flatnonzero(~np.isin(table["object_id"].to_numpy(), catalog.object_id))
    if len(strange):
        first = table["object_id"][int(strange[0])].as_py()
        raise LumosDataError(f"{path}: object_id {first} is not in the catalogue of {run.path}, needed: a coadd of it")
    rows, known, place = match_truth(table, truth)
    if not len(rows):
        raise LumosDataError(f"{truth}: none of its objects is in {path}")
    table, pdf = table.take(rows), pdf.take(rows)
    at = look_up(catalog.object_id, np.argsort(catalog.object_id), table["object_id"].to_numpy())
    flags = table["flags"].to_numpy()
    usable = (flags & int(UNUSABLE)) == 0

    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.asarray(table[name].to_numpy(), dtype=np.float64)

    estimators = {COADD: pulls_of(column("flux_median"), column("flux_sigma68"), known, usable, pdf.pit(known))}
    names = [name.removesuffix("_flux_err") for name in table.column_names if name.endswith("_flux_err")]
    for name in names:
        flux, error = column(f"{name}_flux"), column(f"{name}_flux_err")
        estimators[f"mean of {name}"] = pulls_of(flux, error, known, usable, None)
    error = column("optimal_flux_err" if "optimal" in names else "flux_err")
    shapes = {name: getattr(catalog, name)[at] for name in SHAPES}
    return KnownFluxes(
        object_id=table["object_id"].to_numpy(),
        exposure=np.full(len(table), ""),
        detector=np.full(len(table), ""),
        band=np.array(table["band"].to_pylist()),
        place=place,
        truth=known,
        flags=flags,
        by={**shapes, "signal": known / np.where(error > 0, error, np.nan)},
        estimators=estimators,
    )
