"""How good photometric redshifts are: scatter, bias, outliers, PIT and CRPS, by magnitude, redshift and quality."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lumos.conventions import BoolArray, FloatArray
from lumos.errors import LumosShapeError
from lumos.photoz.estimates import RedshiftPdf
from lumos.statistics import pit_ks, sigma68

__all__ = ["OUTLIER", "RedshiftMetrics", "format_redshifts", "redshift_metrics", "redshift_table"]

#: A redshift is an outlier if |dz| / (1 + z) is larger (eq. 23).
OUTLIER = 0.02


@dataclass(frozen=True)
class RedshiftMetrics:
    """Figures of some galaxies, of dx = (zb - z) / (1 + z).

    Parameters
    ----------
    n : int
        Galaxies with a redshift of both kinds.
    sigma68, bias : float
        Half the range of the central 68 % of dx, and its median.
    outliers : float
        Share with dx above 0.02 or below -0.02.
    pit_ks : float
        Kolmogorov-Smirnov distance of the PITs from uniform.
    crps : float
        Mean continuous ranked probability score.
    """

    n: int
    sigma68: float
    bias: float
    outliers: float
    pit_ks: float
    crps: float


def redshift_metrics(zb: FloatArray, pdf: RedshiftPdf, redshift: FloatArray) -> RedshiftMetrics:
    """Compare photometric with known redshifts.

    Parameters
    ----------
    zb : ndarray, shape (n,)
        Best redshifts; NaN is left out.
    pdf : RedshiftPdf
        p(z) of the galaxies.
    redshift : ndarray, shape (n,)
        Known redshifts; NaN is left out.

    Returns
    -------
    RedshiftMetrics
        NaN where no galaxy is left.

    Raises
    ------
    LumosShapeError
        If the numbers of galaxies differ.
    """
    if zb.shape != redshift.shape or zb.shape != pdf.density.shape[:1]:
        raise LumosShapeError("redshifts", (zb.shape, pdf.density.shape, redshift.shape), "(n,), (n, n_z), (n,)")
    good = np.isfinite(zb) & np.isfinite(redshift)
    if not good.any():
        return RedshiftMetrics(0, *[float("nan")] * 5)
    known, some = redshift[good], RedshiftPdf(pdf.redshifts, pdf.density[good])
    dx = (zb[good] - known) / (1 + known)
    return RedshiftMetrics(
        n=len(dx),
        sigma68=sigma68(dx),
        bias=float(np.median(dx)),
        outliers=float(np.mean(np.abs(dx) > OUTLIER)),
        pit_ks=pit_ks(some.cdf(known))[0],
        crps=float(some.crps(known).mean()),
    )


def redshift_table(
    zb: FloatArray,
    pdf: RedshiftPdf,
    redshift: FloatArray,
    qz: FloatArray,
    magnitude: FloatArray | None = None,
    magnitude_edges: Sequence[float] = (18, 19, 20, 21, 22, 22.5, 23),
) -> dict[str, RedshiftMetrics]:
    """Compare photometric with known redshifts: all, the best half by quality, and bins.

    Parameters
    ----------
    zb, redshift : ndarray, shape (n,)
        Photometric and known redshifts.
    pdf : RedshiftPdf
        p(z).
    qz : ndarray, shape (n,)
        Quality, the smaller the better.
    magnitude : ndarray, shape (n,), optional
        Magnitudes to bin by.
    magnitude_edges : sequence of float, optional
        Edges of these bins.

    Returns
    -------
    dict
        Figures by name of the group; bins without galaxies are left out.
    """
    found = {}
    for name, rows in _groups(zb, redshift, qz, magnitude, magnitude_edges):
        some = redshift_metrics(zb[rows], RedshiftPdf(pdf.redshifts, pdf.density[rows]), redshift[rows])
        if some.n or name == "all":
            found[name] = some
    return found


def _groups(
    zb: FloatArray,
    redshift: FloatArray,
    qz: FloatArray,
    magnitude: FloatArray | None,
    edges: Sequence[float],
) -> Iterator[tuple[str, BoolArray]]:
    """Yield names and members of groups."""
    both = np.isfinite(zb) & np.isfinite(redshift)
    yield "all", both
    if both.any():
        yield "best half by Qz", both & (qz <= np.median(qz[both]))
        thirds = np.quantile(redshift[both], [0, 1 / 3, 2 / 3, 1])
        for low, high in pairwise(thirds):
            yield f"z {low:.2f}-{high:.2f}", both & (redshift >= low) & (redshift <= high)
    if magnitude is not None:
        for low, high in pairwise(edges):
            yield f"{low:g}-{high:g} mag", both & (magnitude >= low) & (magnitude < high)


def format_redshifts(table: dict[str, RedshiftMetrics]) -> str:
    """Return figures as lines of text.

    Parameters
    ----------
    table : dict
        As :func:`redshift_table` returns it.

    Returns
    -------
    str
        One line for each group below a head.
    """
    head = f"{'':<18}{'n':>7}{'sigma68':>10}{'bias':>10}{'outliers':>10}{'PIT-KS':>9}{'CRPS':>10}"
    lines = [
        f"{name:<18}{one.n:>7}{one.sigma68:>10.5f}{one.bias:>+10.5f}{one.outliers:>10.2%}{one.pit_ks:>9.4f}"
        f"{one.crps:>10.5f}"
        for name, one in table.items()
    ]
    return "\n".join([head, *lines])
