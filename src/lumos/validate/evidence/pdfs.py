"""The PDFs of rows of a run: which of them are cut at flux 0."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from lumos.catalogs.schema import list_column
from lumos.conventions import BoolArray, FloatArray
from lumos.pdf import GaussianMixture, TruncatedMixture
from lumos.photometry.measured import MeasuredRun

__all__ = ["cut_rows", "pdf_columns", "row_pdfs"]


def pdf_columns(table: pa.Table) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the components of the default estimator's PDFs.

    Parameters
    ----------
    table : pyarrow.Table
        n rows of a run.

    Returns
    -------
    weights, means, stds : float array, shape (n, k)
        As of :class:`lumos.pdf.GaussianMixture`; NaN where a width is not above 0.
    """
    weights, means, stds = (list_column(table, f"pdf_{part}") for part in ("weights", "means", "stds"))
    return weights, means, np.where(stds > 0, stds, np.nan)


def cut_rows(run: MeasuredRun, ref_mag: FloatArray) -> BoolArray:
    """Return which PDFs of a run have components that are cut at flux 0 (eq. 10 of the paper).

    Parameters
    ----------
    run : MeasuredRun
        Whose model says from which magnitude on.
    ref_mag : float array, shape (n,)
        Catalogue magnitudes.

    Returns
    -------
    bool array, shape (n,)
        True for cut ones.
    """
    cut_from = None if run.pdf_model is None else run.pdf_model.get("cut_from")
    return np.zeros(len(ref_mag), dtype=np.bool_) if cut_from is None else np.asarray(~(ref_mag < cut_from))


def row_pdfs(parts: Sequence[FloatArray], cut: bool) -> GaussianMixture | TruncatedMixture:
    """Return PDFs of their components.

    Parameters
    ----------
    parts : sequence of float array, each of shape (n, k)
        Weights, means, standard deviations.
    cut : bool
        Whether the components are cut at flux 0.

    Returns
    -------
    GaussianMixture or TruncatedMixture
        Of n rows.
    """
    return TruncatedMixture(*parts) if cut else GaussianMixture(*parts)
