"""Fluxes that hold the light of something else: a source that the catalogue lacks, seen or betrayed by the flux."""

import numpy as np
import torch

from lumos.conventions import AnyArray, FloatArray
from lumos.estimators import StampBatch
from lumos.estimators.hidden import flux_without_hidden
from lumos.flags import UNUSABLE, Flag
from lumos.photometry.ccd import Ccd
from lumos.photometry.columns import Columns
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes

__all__ = ["doubtful_fluxes", "without_hidden"]

#: A hidden source stands out by so many errors, and counts if it adds more than so many errors of the flux, where
#: errors count as at least this share of the flux: arms and knots of a galaxy are no sources.
_STANDS_OUT, _ADDS, _RELATIVE_FLOOR = 5.0, 3.0, 0.07
#: Side of the stamp of a point source, pixels; on small stamps less.
_POINT_SIDE = 25
#: Ratios of flux to catalogue flux are those of this many objects or more, of this signal-to-noise ratio or more.
_FEWEST, _CLEAR = 20, 10.0
#: The largest ratio is so many scatters of their logarithm above the median; a scatter is no less than this.
_SCATTERS, _LEAST_SCATTER = 5.0, 0.25
#: Upper quartile of a Gaussian: up to a quarter of the objects may hide something.
_QUARTILE = 0.6745


def without_hidden(ccd: Ccd, rows: AnyArray, batch: StampBatch) -> FloatArray:
    """Measure optimal fluxes without the light of sources that the catalogue lacks.

    Parameters
    ----------
    ccd : Ccd
        With a PSF.
    rows : int array, shape (n,)
        Which of its objects, of one stamp size.
    batch : StampBatch
        Their stamps.

    Returns
    -------
    float array, shape (n,)
        In the unit of the stamps; NaN where no such source is seen.
    """
    assert ccd.exposure.psf is not None
    # One PSF will do: sources are sought, not measured.
    typical = rows[np.argsort(ccd.objects.psf_fwhm[rows])[[len(rows) // 2]]]
    psf = ccd.exposure.psf.at(ccd.objects.x[typical], ccd.objects.y[typical])
    size = batch.data.shape[1]
    side = min(_POINT_SIDE, 2 * (size // 4) - 1)
    middle, one = np.array([side // 2], dtype=np.float64), np.ones(1)
    point = render(Shapes(middle, middle, 0 * one, one, one, 0 * one), psf, size=side)[0]
    correlation, factor = ccd.noise.correlation_at(size), 1.0
    if correlation is not None:
        area = float(point.sum().square() / point.square().sum())
        factor = float(correlation.factor_at(np.array(area)))
    return flux_without_hidden(batch, point, torch.full((len(rows),), _STANDS_OUT * factor)).numpy()


def doubtful_fluxes(columns: Columns, ref_mag: FloatArray) -> AnyArray:
    """Return the flags that tell of light of something else.

    Parameters
    ----------
    columns : dict
        Of n objects of one exposure, settled: ``flux``, ``flux_err``, ``flags``, and ``flux_without_hidden`` as of
        :func:`without_hidden`, in one unit.
    ref_mag : float array, shape (n,)
        Magnitudes of the catalogue.

    Returns
    -------
    int array, shape (n,)
        ``HIDDEN_SOURCE`` and ``CATALOG_MISMATCH`` bits of :class:`lumos.flags.Flag`.
    """
    flux, flux_err, flags = columns["flux"], columns["flux_err"], columns["flags"]
    seen = flux - columns["flux_without_hidden"] > _ADDS * np.hypot(flux_err, _RELATIVE_FLOOR * flux)
    expected = 10 ** (-0.4 * ref_mag)
    ratio = np.where(((flags & int(UNUSABLE)) == 0) & np.isfinite(flux_err), flux / expected, np.nan)
    known = np.isfinite(ratio)
    mismatch = np.zeros(len(flux), dtype=np.bool_)
    if known.any():
        # Chosen by what the catalogue lets expect: a choice by flux would be one of those with hidden light.
        clear = known & (np.median(ratio[known]) * expected > _CLEAR * flux_err) & (ratio > 0)
        if clear.sum() >= _FEWEST:
            median, high = np.quantile(np.log(ratio[clear]), (0.5, 0.75))
            most = np.exp(median + _SCATTERS * max((high - median) / _QUARTILE, _LEAST_SCATTER))
            mismatch = flux - most * expected > _ADDS * flux_err
    return np.where(seen, int(Flag.HIDDEN_SOURCE), 0) | np.where(mismatch, int(Flag.CATALOG_MISMATCH), 0)
