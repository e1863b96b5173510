"""How good photometric redshifts are: scatter, bias, outliers, PIT and CRPS."""

from dataclasses import dataclass

import numpy as np

from lumos.conventions import FloatArray
from lumos.errors import LumosShapeError
from lumos.photoz.estimates import RedshiftPdf
from lumos.statistics import pit_ks, sigma68

__all__ = ["OUTLIER", "RedshiftMetrics", "format_redshifts", "redshift_metrics"]

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


def format_redshifts(table: dict[str, RedshiftMetrics]) -> str:
    """Return figures as lines of text.

    Parameters
    ----------
    table : dict
        Figures by name of the group.

    Returns
    -------
    str
        One line for each group below a head.
    """
    wide = max([18, *(len(name) + 1 for name in table)])
    head = f"{'':<{wide}}{'n':>7}{'sigma68':>10}{'bias':>10}{'outliers':>10}{'PIT-KS':>9}{'CRPS':>10}"
    lines = [
        f"{name:<{wide}}{one.n:>7}{one.sigma68:>10.5f}{one.bias:>+10.5f}{one.outliers:>10.2%}{one.pit_ks:>9.4f}"
        f"{one.crps:>10.5f}"
        for name, one in table.items()
    ]
    return "\n".join([head, *lines])
