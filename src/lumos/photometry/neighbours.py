r"""Which objects have a neighbour whose light matters: the expected contamination against the flux error.

A weighted sum with weights in proportion to the profile :math:`m_i` takes in, of a neighbour of flux :math:`F_j`,

.. math:: \Delta F_i = F_j \, \frac{\int m_i m_j}{\int m_i^2}.

Profiles are sums of concentric Gaussians here, for the Sérsic profile and for the PSF, so that every overlap is a sum
of Gaussians of the distance. Against drawn profiles the ratio of both integrals has a scatter of 1 % where it is above
0.1, of 4 % above 0.01, of 10 % above 0.001 (Moffat exponents of 2.5 to 4.8).

The threshold of half an error: on a simulated field of 43 galaxies per square arcmin to i = 24, with an S/N of 20 at
i = 22.5, thresholds of 0.1, 0.5, 1 and 2 errors flag 23, 11, 6 and 4 % of the objects. The mean excess of those that
are left, over that at the lowest threshold, is 0.00, 0.03 and 0.06 errors at an S/N below 5; without flags it is 0.23.
Without flags 2.1 % of these lie more than 3 errors high, with half an error 0.1 %.
"""

from functools import lru_cache

import numpy as np
from scipy.optimize import nnls
from scipy.spatial import cKDTree
from scipy.special import gammainc, gammaincinv

from lumos.conventions import (
    AB_ZEROPOINT_NJY,
    DEFAULT_MOFFAT_BETA,
    SERSIC_N_RANGE,
    AnyArray,
    BoolArray,
    Float32Array,
    FloatArray,
)
from lumos.photometry.objects import PlacedObjects
from lumos.psfs import MoffatPsf, Psf

__all__ = ["NEIGHBOUR_REACH", "has_neighbour"]

#: Objects this far outside the image count, and pairs are this far apart at most; pixels.
NEIGHBOUR_REACH = 60.0
#: A neighbour counts if its light adds more than this many errors of the flux; errors count as at least
#: this share of the flux, since shapes and PSFs are not known better.
_THRESHOLD, _RELATIVE_FLOOR = 0.5, 0.02
#: Without magnitudes: a neighbour counts within this many times the sum of both half-light radii.
_RADII = 1.5
#: The colour of the band is the median over so many objects, at least, of this signal-to-noise ratio.
_FEWEST, _MIN_SNR = 10, 5.0
#: Standard deviations of the Gaussians, in half-light radii and in FWHM, and radii at which the light is matched.
_SERSIC_SIGMAS = np.array([0.06, 0.17, 0.42, 0.85, 1.6, 3.3, 7.0])
_PSF_SIGMAS = np.array([0.42, 0.6, 0.95, 1.9, 5.0])
_RADII_MATCHED = np.geomspace(0.02, 30.0, 120)
#: Sérsic indices of the table.
_N_INDICES = 24
#: A neighbour below this share of the threshold, even if it were on top of the object, is not looked at.
_NEGLIGIBLE = 0.05
#: Pairs at a time.
_CHUNK = 2000
#: Variance of a pixel's response along an axis.
_PIXEL = 1 / 12


def has_neighbour(
    around: PlacedObjects, rows: AnyArray, flux: FloatArray, flux_err: FloatArray, psf: Psf, *, in_njy: bool
) -> BoolArray:
    """Return which objects a neighbour of the catalogue contaminates.

    The flux of a neighbour follows from its reference magnitude. The colour of the band is that of the exposure: the
    median ratio of measured to reference flux, of objects that are bright enough. Where these are few, the reference
    magnitude is taken for that of the band. A neighbour without a magnitude, or a magnitude without a zero point, or
    an object without a flux, is judged by the distance alone: below 1.5 times the sum of both half-light radii (of
    the convolved profiles, along the major axes).

    Parameters
    ----------
    around : PlacedObjects
        The objects on an exposure and within ``NEIGHBOUR_REACH`` of it, m of them.
    rows : int array, shape (n,)
        Which of them are asked for.
    flux, flux_err : float array, shape (n,)
        Their measured fluxes and errors; NaN where there are none.
    psf : MoffatPsf or PixelPsf
        Of the exposure, anywhere; the exponent of a Moffat counts.
    in_njy : bool
        Whether fluxes are in nJy.

    Returns
    -------
    bool array, shape (n,)
        True where all neighbours together add more than half an error, or one is too near.
    """
    one, other = _pairs(around, rows)
    brightness = 10 ** (-0.4 * around.catalog.ref_mag)
    expected = brightness * _scale(brightness[rows], flux, flux_err, in_njy=in_njy)
    limit = _THRESHOLD * np.hypot(flux_err, _RELATIVE_FLOOR * flux)
    known = np.isfinite(expected[other]) & np.isfinite(limit[one])
    result = np.zeros(len(rows), dtype=np.bool_)
    distance = np.hypot(around.x[rows[one]] - around.x[other], around.y[rows[one]] - around.y[other])
    near = distance < _RADII * (around.semi_major[rows[one]] + around.semi_major[other])
    result[one[near & ~known]] = True
    # The overlap of two profiles is at most the geometric mean of those of each with itself.
    shapes = _GaussianSums(around, psf.beta[0] if isinstance(psf, MoffatPsf) else DEFAULT_MOFFAT_BETA)
    every = np.arange(len(around))
    own = shapes.overlaps(every, every)
    most = np.zeros(len(one))
    most[known] = expected[other[known]] * np.sqrt(own[other[known]] / own[rows[one[known]]]) / limit[one[known]]
    left = np.flatnonzero(known & (most > _NEGLIGIBLE))
    one, other = one[left], other[left]
    light = expected[other] * shapes.overlaps(rows[one], other) / own[rows[one]]
    total = np.bincount(one, light, minlength=len(rows))
    with np.errstate(invalid="ignore"):
        return result | (total > limit)


def _pairs(around: PlacedObjects, rows: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Return pairs of an object (place in ``rows``) and a neighbour (place in ``around``)."""
    if len(rows) == 0:
        empty = np.empty(0, dtype=np.int64)
        return empty, empty
    points = np.column_stack([around.x, around.y])
    found = cKDTree(points[rows]).sparse_distance_matrix(cKDTree(points), NEIGHBOUR_REACH, output_type="ndarray")
    different = rows[found["i"]] != found["j"]
    return found["i"][different], found["j"][different]


def _scale(brightness: FloatArray, flux: FloatArray, flux_err: FloatArray, *, in_njy: bool) -> float:
    """Return the flux of an object of reference magnitude 0; NaN where it is not known."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = (flux / brightness)[flux > _MIN_SNR * flux_err]
    ratios = ratios[np.isfinite(ratios)]
    if len(ratios) >= _FEWEST:
        return float(np.median(ratios))
    return float(10 ** (0.4 * AB_ZEROPOINT_NJY)) if in_njy else np.nan


class _GaussianSums:
    """Profiles of objects as sums of Gaussians.

    Parameters
    ----------
    objects : PlacedObjects
        m objects.
    beta : float
        Moffat exponent of the PSF.
    """

    def __init__(self, objects: PlacedObjects, beta: float) -> None:
        cos, sin = np.cos(objects.theta), np.sin(objects.theta)
        major, minor = objects.half_light_radius**2, (objects.half_light_radius * objects.axis_ratio) ** 2
        self._x, self._y = objects.x, objects.y
        #: Second moments of the ellipse of the half-light radius: xx, yy, xy.
        self._moments = np.stack(
            [major * cos**2 + minor * sin**2, major * sin**2 + minor * cos**2, (major - minor) * cos * sin]
        ).astype(np.float32)
        place = np.log(objects.sersic_n / SERSIC_N_RANGE[0]) / np.log(SERSIC_N_RANGE[1] / SERSIC_N_RANGE[0])
        self._weights = _sersic_weights()[np.rint(place * (_N_INDICES - 1)).astype(int)].astype(np.float32)
        fwhm = np.where(np.isfinite(objects.psf_fwhm), objects.psf_fwhm, 1.0)
        self._psf_variance = (fwhm**2).astype(np.float32)
        sigmas, weights = _psf_pair(round(beta, 2))
        self._pair_variances, self._pair_weights = (sigmas**2).astype(np.float32), weights.astype(np.float32)

    def overlaps(self, one: AnyArray, other: AnyArray) -> FloatArray:
        """Return the integrals of the products of profiles, shape (k,), for pairs of objects."""
        parts = [
            self._some(one[start : start + _CHUNK], other[start : start + _CHUNK])
            for start in range(0, len(one), _CHUNK)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def _some(self, one: AnyArray, other: AnyArray) -> FloatArray:
        dx, dy = ((v[one] - v[other]).astype(np.float32)[:, None, None, None] for v in (self._x, self._y))
        sizes = (_SERSIC_SIGMAS**2).astype(np.float32)
        first = self._moments[:, one, None, None, None] * sizes[:, None, None]
        second = self._moments[:, other, None, None, None] * sizes[:, None]
        psf = (self._psf_variance[one] + self._psf_variance[other])[:, None] / 2 * self._pair_variances + 2 * _PIXEL
        both = first + second
        xx, yy, xy = both[0] + psf[:, None, None], both[1] + psf[:, None, None], both[2]
        determinant = xx * yy - xy**2
        exponent = (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / determinant
        gaussians: Float32Array = np.exp(-0.5 * exponent) / (2 * np.pi * np.sqrt(determinant))
        by_shapes = gaussians @ self._pair_weights
        total = np.einsum("ia,iab,ib->i", self._weights[one], by_shapes, self._weights[other])
        return np.asarray(total, dtype=np.float64)


def _match(light: FloatArray, sigmas: FloatArray, radii: FloatArray) -> FloatArray:
    """Return shares of Gaussians whose light within some radii is that of a profile; they sum to 1."""
    gaussians = 1 - np.exp(-0.5 * (radii[:, None] / sigmas) ** 2)
    shares, _ = nnls(np.diff(gaussians, axis=0), np.diff(light))
    return np.asarray(shares / shares.sum())


@lru_cache(maxsize=1)
def _sersic_weights() -> FloatArray:
    """Return the shares of the Gaussians for each Sérsic index of the table, shape (indices, Gaussians)."""
    table = []
    for n in np.geomspace(*SERSIC_N_RANGE, _N_INDICES):
        light = gammainc(2 * n, gammaincinv(2 * n, 0.5) * _RADII_MATCHED ** (1 / n))
        table.append(_match(light, _SERSIC_SIGMAS, _RADII_MATCHED))
    return np.array(table)


@lru_cache(maxsize=8)
def _psf_pair(beta: float) -> tuple[FloatArray, FloatArray]:
    """Return Gaussians, in FWHM, that make the convolution of a Moffat with itself: standard deviations, shares."""
    alpha = 0.5 / np.sqrt(2 ** (1 / beta) - 1)
    sigmas = _PSF_SIGMAS / np.sqrt(2)
    single = _match(1 - (1 + (_RADII_MATCHED / alpha) ** 2) ** (1 - beta), sigmas, _RADII_MATCHED)
    variances = (sigmas[:, None] ** 2 + sigmas**2).ravel()
    light = (1 - np.exp(-0.5 * _RADII_MATCHED[:, None] ** 2 / variances)) @ np.outer(single, single).ravel()
    return _PSF_SIGMAS, _match(light, _PSF_SIGMAS, _RADII_MATCHED)
