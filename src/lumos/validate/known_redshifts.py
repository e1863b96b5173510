"""Photometric redshifts of galaxies whose redshifts are known, and what they can be sorted by."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from lumos.catalogs.formats import open_table
from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.photoz.estimates import RedshiftPdf
from lumos.photoz.run import match_column, match_redshifts, read_redshifts
from lumos.rows import Rowwise
from lumos.statistics import pit_ks, sigma68
from lumos.validate.evidence.known import SHAPES, look_up
from lumos.validate.redshifts import OUTLIER, RedshiftMetrics

__all__ = ["KnownRedshifts", "known_redshifts", "read_known_redshifts", "redshift_table"]

#: Quantities of the table, and how it calls them.
_TABLED = {"redshift": "z", "ref_mag": "mag", "half_light_radius": "radius", "sersic_n": "n"}


@dataclass(frozen=True, eq=False, repr=False)
class KnownRedshifts(Rowwise):
    """n galaxies with redshifts of both kinds.

    Parameters
    ----------
    object_id : int array, shape (n,)
        Objects.
    redshift, zb : float array, shape (n,)
        Known and photometric redshifts.
    dx : float array, shape (n,)
        (zb - z) / (1 + z).
    qz : float array, shape (n,)
        Quality, the smaller the better.
    pit : float array, shape (n,)
        Probability that p(z) gives to smaller redshifts than the known one.
    crps : float array, shape (n,)
        Continuous ranked probability score.
    doubt : float array, shape (n,)
        Probability that p(z) itself gives to redshifts that would make ``zb`` an outlier.
    by : mapping of float array, each of shape (n,)
        Quantities by name: ``redshift``, and where they are known ``ref_mag``, ``half_light_radius`` (arcsec),
        ``axis_ratio``, ``sersic_n``.
    """

    object_id: IntArray
    redshift: FloatArray
    zb: FloatArray
    dx: FloatArray
    qz: FloatArray
    pit: FloatArray
    crps: FloatArray
    doubt: FloatArray
    by: Mapping[str, FloatArray]

    @property
    def better_half(self) -> BoolArray:
        """Return which galaxies belong to the better half by Qz, shape (n,)."""
        return np.asarray(self.qz <= np.median(self.qz)) if len(self) else np.zeros(0, dtype=np.bool_)


def read_known_redshifts(run: Path, truth: Path, catalog: ParentCatalog | None = None) -> KnownRedshifts:
    """Read the galaxies of a run of ``lumos photoz`` whose redshifts a table knows.

    Parameters
    ----------
    run : Path
        Its folder.
    truth : Path
        Table with ``object_id`` and ``redshift`` (or z_spec, zspec, spec_z, z); and, if it has them, ``ref_mag``,
        ``half_light_radius``, ``axis_ratio`` and ``sersic_n``.
    catalog : ParentCatalog, optional
        Magnitudes and shapes, in place of those of the table.

    Returns
    -------
    KnownRedshifts
        Galaxies without a redshift of either kind are left out.

    Raises
    ------
    LumosDataError
        If the folder is no such run, the table lacks a column, or none of its galaxies is in the run.
    """
    rows, pdf = read_redshifts(run)
    objects = rows["object_id"].to_numpy()
    redshift = match_redshifts(truth, objects)
    by = {}
    if catalog is None:
        table = open_table(truth)
        by = {name: match_column(table, name, objects) for name in SHAPES if name in table.names}
    else:
        at = look_up(catalog.object_id, np.argsort(catalog.object_id), objects)
        found = catalog.object_id[at] == objects
        if not found.any():
            raise LumosDataError(f"{run}: none of its galaxies is in the catalogue")
        by = {name: np.where(found, getattr(catalog, name)[at], np.nan) for name in SHAPES}
    zb, qz = (rows[name].to_numpy().astype(np.float64) for name in ("zb", "qz"))
    return known_redshifts(objects, pdf, zb, qz, redshift, by)


def known_redshifts(
    object_id: IntArray,
    pdf: RedshiftPdf,
    zb: FloatArray,
    qz: FloatArray,
    redshift: FloatArray,
    by: Mapping[str, FloatArray],
) -> KnownRedshifts:
    """Compare photometric with known redshifts, galaxy by galaxy.

    Parameters
    ----------
    object_id : int array, shape (n,)
        Objects.
    pdf : RedshiftPdf
        p(z) of the n galaxies.
    zb, qz, redshift : float array, shape (n,)
        Best redshifts, quality, known redshifts; NaN where there is none.
    by : mapping of float array, each of shape (n,)
        Further quantities.

    Returns
    -------
    KnownRedshifts
        Of those that have both.
    """
    good = np.flatnonzero(np.isfinite(zb) & np.isfinite(redshift))
    some, best, known = RedshiftPdf(pdf.redshifts, pdf.density[good]), zb[good], redshift[good]
    return KnownRedshifts(
        object_id=object_id[good],
        redshift=known,
        zb=best,
        dx=(best - known) / (1 + known),
        qz=qz[good],
        pit=some.cdf(known),
        crps=some.crps(known),
        doubt=1 - _inside(some, best),
        by={"redshift": known, **{name: values[good] for name, values in by.items()}},
    )


def _inside(pdf: RedshiftPdf, zb: FloatArray) -> FloatArray:
    """Return the probability of redshifts z for which abs(zb - z) / (1 + z) is at most 0.02."""
    low, high = (zb - OUTLIER) / (1 + OUTLIER), (zb + OUTLIER) / (1 - OUTLIER)
    return pdf.cdf(high) - pdf.cdf(low)


def redshift_table(known: KnownRedshifts) -> dict[str, RedshiftMetrics]:
    """Return figures of all galaxies, of the better half by Qz, and of thirds by what galaxies are.

    Parameters
    ----------
    known : KnownRedshifts
        Galaxies.

    Returns
    -------
    dict
        Figures by name of the group; groups without galaxies are left out.
    """
    return {
        name: RedshiftMetrics(
            n=len(some),
            sigma68=sigma68(some.dx),
            bias=float(np.median(some.dx)) if len(some) else np.nan,
            outliers=float(np.mean(np.abs(some.dx) > OUTLIER)) if len(some) else np.nan,
            pit_ks=pit_ks(some.pit)[0],
            crps=float(some.crps.mean()) if len(some) else np.nan,
        )
        for name, some in _groups(known)
    }


def _groups(known: KnownRedshifts) -> Iterator[tuple[str, KnownRedshifts]]:
    """Yield names and galaxies of groups."""
    yield "all", known
    if not len(known):
        return
    yield "best half by Qz", known.take(known.better_half)
    for key, text in _TABLED.items():
        values = known.by.get(key, np.full(len(known), np.nan))
        there = np.isfinite(values)
        if not there.any():
            continue
        edges = np.unique(np.quantile(values[there], [0, 1 / 3, 2 / 3, 1]))
        for number, (low, high) in enumerate(pairwise(edges.tolist())):
            inside = there & (values >= low if number == 0 else values > low) & (values <= high)
            yield f"{text} {low:.2f}-{high:.2f}", known.take(inside)
