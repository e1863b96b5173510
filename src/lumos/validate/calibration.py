"""Are flux PDFs true? PIT, log score, bias, scatter and pulls against known fluxes."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.pdf import FluxPdf
from lumos.statistics import pit_ks, sigma68

__all__ = ["PdfMetrics", "Point", "binned_pdf_metrics", "metrics_table", "pdf_metrics"]

Point = Literal["peak", "median", "mean"]
#: Bins of the PIT histogram.
N_PIT_BINS = 20


@dataclass(frozen=True, eq=False)
class PdfMetrics:
    """How well PDFs describe known fluxes. All figures are NaN where there are no rows.

    Parameters
    ----------
    n : int
        Rows that count.
    n_lost : int
        Rows left out: a PDF or a true flux that is not finite.
    pit_ks, pit_p : float
        Kolmogorov-Smirnov distance of the PIT (eq. 13) from uniform, and the probability of a larger one by chance.
    pit_histogram : int array, shape (20,)
        PIT values in equal bins from 0 to 1.
    log_score : float
        Mean of ln p(f0), per unit flux; ``-inf`` where a PDF excludes the truth.
    bias, scatter : float
        Median and sigma68 of (f - f0) / f0, eq. 17-18; rows with f0 = 0 are left out here.
    pull_median, pull_sigma68 : float
        Median and sigma68 of (f - f0) / sigma68 of the PDF.
    """

    n: int
    n_lost: int
    pit_ks: float
    pit_p: float
    pit_histogram: IntArray
    log_score: float
    bias: float
    scatter: float
    pull_median: float
    pull_sigma68: float


@dataclass(frozen=True)
class _Rows:
    """What each row adds to the figures, NaN in bad rows."""

    pit: FloatArray
    log_pdf: FloatArray
    relative: FloatArray
    pull: FloatArray

    def metrics(self, rows: BoolArray) -> PdfMetrics:
        good = rows & ~np.isnan(self.pit)
        pit, log_pdf, relative, pull = (values[good] for values in (self.pit, self.log_pdf, self.relative, self.pull))
        relative = relative[np.isfinite(relative)]
        distance, probability = pit_ks(pit)
        return PdfMetrics(
            n=len(pit),
            n_lost=int(rows.sum()) - len(pit),
            pit_ks=distance,
            pit_p=probability,
            pit_histogram=np.histogram(pit, N_PIT_BINS, (0, 1))[0],
            log_score=float(log_pdf.mean()) if len(pit) else np.nan,
            bias=_median(relative),
            scatter=sigma68(relative),
            pull_median=_median(pull),
            pull_sigma68=sigma68(pull),
        )


def pdf_metrics(pdf: FluxPdf, flux_true: ArrayLike, point: Point = "peak") -> PdfMetrics:
    """Compare PDFs with known fluxes.

    Parameters
    ----------
    pdf : FluxPdf, n rows
        PDFs whose true fluxes are known.
    flux_true : array_like, shape (n,)
        Known fluxes, same unit.
    point : {"peak", "median", "mean"}
        Which point of the PDF is the flux in bias, scatter and pulls.

    Returns
    -------
    PdfMetrics
        Of all rows.

    Raises
    ------
    LumosShapeError
        If there is not one flux per row.
    LumosValueError
        If ``point`` is none of the three.
    """
    return _rows(pdf, flux_true, point).metrics(np.ones(len(pdf), dtype=np.bool_))


def binned_pdf_metrics(
    pdf: FluxPdf, flux_true: ArrayLike, values: ArrayLike, edges: ArrayLike, point: Point = "peak"
) -> list[PdfMetrics]:
    """Compare PDFs with known fluxes in bins of any quantity: magnitude, size, PSF width, CCD position.

    Parameters
    ----------
    pdf : FluxPdf, n rows
        PDFs whose true fluxes are known.
    flux_true : array_like, shape (n,)
        Known fluxes, same unit.
    values : array_like, shape (n,)
        What to bin by; rows outside the edges or with NaN are in no bin.
    edges : array_like, shape (n_bins + 1,)
        Edges of the bins, increasing; a bin holds its lower edge.
    point : {"peak", "median", "mean"}
        Which point of the PDF is the flux in bias, scatter and pulls.

    Returns
    -------
    list of PdfMetrics
        One per bin.

    Raises
    ------
    LumosShapeError
        If there is not one flux and one value per row, or fewer than two edges.
    LumosValueError
        If the edges do not increase, or ``point`` is none of the three.
    """
    by, bounds = np.asarray(values, dtype=np.float64), np.asarray(edges, dtype=np.float64)
    if by.shape != (len(pdf),):
        raise LumosShapeError("values to bin by", by.shape, f"({len(pdf)},)")
    if bounds.ndim != 1 or len(bounds) < 2:
        raise LumosShapeError("edges of the bins", bounds.shape, "(n_bins + 1,) with at least one bin")
    if not (np.diff(bounds) > 0).all():
        raise LumosValueError("edges of the bins", bounds.tolist(), "increasing numbers")
    rows = _rows(pdf, flux_true, point)
    return [rows.metrics((by >= low) & (by < high)) for low, high in pairwise(bounds)]


def metrics_table(results: Mapping[str, PdfMetrics]) -> str:
    """Return the figures as a text table.

    Parameters
    ----------
    results : mapping
        Metrics by name: of an estimator, or of a bin.

    Returns
    -------
    str
        A line of headings, and one line per entry.
    """
    width = max([4, *map(len, results)])
    columns = ("n", "lost", "PIT-KS", "p", "log score", "bias", "scatter", "pull", "pull s68")
    lines = [f"{'':<{width}}" + "".join(f"{name:>10}" for name in columns)]
    lines += [
        f"{name:<{width}}{m.n:>10}{m.n_lost:>10}{m.pit_ks:>10.4f}{m.pit_p:>10.2g}{m.log_score:>10.4f}"
        f"{m.bias:>+10.4f}{m.scatter:>10.4f}{m.pull_median:>+10.3f}{m.pull_sigma68:>10.3f}"
        for name, m in results.items()
    ]
    return "\n".join(lines)


def _rows(pdf: FluxPdf, flux_true: ArrayLike, point: Point) -> _Rows:
    truth = np.asarray(flux_true, dtype=np.float64)
    if truth.shape != (len(pdf),):
        raise LumosShapeError("true flux", truth.shape, f"({len(pdf)},)")
    if point not in get_args(Point):
        raise LumosValueError("point of the PDF", point, get_args(Point))
    truth = np.where(np.isfinite(truth), truth, np.nan)
    flux = pdf.peak() if point == "peak" else pdf.mean() if point == "mean" else pdf.quantile(0.5)
    with np.errstate(divide="ignore", invalid="ignore"):  # true fluxes of 0 and bad rows
        return _Rows(pdf.pit(truth), pdf.log_pdf(truth), (flux - truth) / truth, (flux - truth) / pdf.sigma68())


def _median(values: FloatArray) -> float:
    return float(np.median(values)) if len(values) else float("nan")
