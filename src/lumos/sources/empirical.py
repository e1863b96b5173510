r"""An empirical PSF: a Moffat, corrected on a grid by what the stars show, each correction a polynomial of the place.

At the offset d from a star at the place (u, v), both -1 to 1 on the CCD, the effective PSF (the pixel's response
included) is

.. math:: P(d; u, v) = M(d) + H(d) \sum_k c_k T_k(\ln |d|)
          + \sum_{i + j \le D} u^i v^j \sum_n b_{ijn}\, s_n B((d_x - x_n)/g)\, B((d_y - y_n)/g),

with M the Moffat on pixels, B the cubic B-spline on a grid of nodes of spacing g = FWHM/3 within 2.5 FWHM, s the
Moffat's brightness at the node, H a Moffat of exponent 2, and T tents over the logarithm of the radius from 1 to 7.5
FWHM; beyond 10 FWHM, where stars show nothing, the PSF is the Moffat. A Gaussian prior about 0 on b and c (Tikhonov's
regularisation, as in PSFEx) leaves the Moffat where stars say nothing.

The PSF is normalised to the light of its image, out to 15 FWHM or 48 samples, whichever is less. A Moffat is normalised
to all its light, of which less than 0.1 % lies further out than 9 FWHM for an exponent of 2.5 or more.
"""

from functools import cached_property

import numpy as np
import torch

from lumos.conventions import FloatArray
from lumos.images.psf.polynomial import centred
from lumos.images.psf.psfex import PsfexModel
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import MoffatPsf, Psf, moffat_on_pixels
from lumos.sources.star_pixels import StarPixels, fit_at_stars

__all__ = ["Corrections", "n_terms"]

#: Nodes per FWHM, and how far they reach, in FWHM.
_NODES, _CORE = 3.0, 2.5
#: Radii of the tents in FWHM, where the last one ends, and the exponent of the Moffat that they are multiplied with.
_RINGS = (1.0, 1.5, 2.25, 3.4, 5.0, 7.5)
_EDGE, _HALO = 10.0, 2.0
#: Widths of the prior: of the mean correction, of its changes over the CCD, of the rings.
_MEAN, _CHANGE, _RING = 0.5, 0.1, 3.0
#: Samples per FWHM at least, and half the side of the written image at most, in FWHM and in samples.
_SAMPLES, _REACH, _LARGEST = 3.5, 15.0, 48


def n_terms(degree: int) -> int:
    """Return the number of terms of a polynomial in x and y.

    Parameters
    ----------
    degree : int
        Highest sum of the exponents.

    Returns
    -------
    int
        One for each product of powers.
    """
    return (degree + 1) * (degree + 2) // 2


class Corrections:
    """What each star says of the corrections to a Moffat; from it the PSF of any of the stars is solved.

    Parameters
    ----------
    stars : StarPixels
        n stars, of which the sums are made.
    moffat : MoffatPsf
        The Moffat before the response of the pixel, one for the CCD.
    shape : tuple of int
        Shape (ny, nx) of the CCD.
    draft : PsfexModel, optional
        PSF of degree 0, of :meth:`model`, with which fluxes, centres and backgrounds of the stars are found; by default
        the Moffat.

    Notes
    -----
    A small change of a star's flux, centre or background is free: what of a correction looks like one of these for the
    draft is projected out of each star's equations, and only the prior decides on it. A draft made with the draft
    before comes ever nearer to the PSF that fits best (Gauss and Newton's method); three are enough.
    """

    def __init__(
        self, stars: StarPixels, moffat: MoffatPsf, shape: tuple[int, int], draft: PsfexModel | None = None
    ) -> None:
        self.moffat, self.shape = moffat, shape
        self.fwhm, self.beta = moffat_on_pixels(float(moffat.fwhm[0]), float(moffat.beta[0]))
        self.u, self.v = _on_unit_square(stars.image_x, stars.image_y, shape)
        self.nodes = _grid_nodes(self.fwhm)
        self.scale = _brightness(np.hypot(*self.nodes.T), self.fwhm, self.beta)
        self.draft: Psf = moffat if draft is None else draft.at(np.array([shape[1] / 2]), np.array([shape[0] / 2]))
        found = fit_at_stars(stars, self.draft)
        shift, flux, level = found.parameters.numpy(), found.flux.numpy(), found.background.numpy()
        # The draft is drawn with its sum 1; the Moffat within it, to which corrections are added, is less or more.
        flux = flux if draft is None else flux / draft.basis[0].sum()
        light = stars.data - level[:, None, None]
        x, y = stars.x + shift[:, 0], stars.y + shift[:, 1]
        sums = [self._sums(light[i], stars.ivar[i], (x[i], y[i]), float(flux[i])) for i in range(len(stars))]
        self.normal = np.stack([one[0] for one in sums])
        self.right = np.stack([one[1] for one in sums])

    def _sums(
        self, data: FloatArray, ivar: FloatArray, centre: tuple[float, float], flux: float
    ) -> tuple[FloatArray, FloatArray]:
        """Return the normal equations of one star for all corrections, its own parameters projected out."""
        x, y = centre
        size = len(data)
        at = x + np.array([0.0, 0.02, -0.02, 0.0, 0.0]), y + np.array([0.0, 0.0, 0.0, 0.02, -0.02])
        drawn = render(Shapes.points(*at), self.draft, size=size, dtype=torch.float64).numpy()
        moffat = render(Shapes.points(at[0][:1], at[1][:1]), self.moffat, size=size, dtype=torch.float64)[0].numpy()
        own = [drawn[0], drawn[1] - drawn[2], drawn[3] - drawn[4], np.ones_like(data)]
        pixel = np.arange(size, dtype=np.float64)
        near_x, near_y = (np.abs(pixel - middle) < (_CORE + 2 / _NODES) * self.fwhm for middle in centre)
        used = ivar > 0
        root = np.sqrt(ivar[used])
        # The splines are 0 but for the core's pixels: sums over the others are spared.
        core = np.outer(near_y, near_x)[used]
        splines = self._splines(pixel[near_x] - x, pixel[near_y] - y)[:, used[near_y][:, near_x]] * flux * root[core]
        rings = self._rings(pixel - x, pixel[:, None] - y)[:, used] * flux * root
        nuisance = np.stack([one[used] for one in own]) * root
        nuisance /= np.maximum(np.linalg.norm(nuisance, axis=1, keepdims=True), 1e-300)
        orthogonal = np.linalg.qr(nuisance.T)[0]
        rest = (data - flux * moffat)[used] * root
        rest -= orthogonal @ (orthogonal.T @ rest)
        along = np.concatenate([splines @ orthogonal[core], rings @ orthogonal])
        mixed = splines @ rings[:, core].T
        normal = np.block([[splines @ splines.T, mixed], [mixed.T, rings @ rings.T]]) - along @ along.T
        return normal, np.concatenate([splines @ rest[core], rings @ rest])

    def _splines(self, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the splines of the core at offsets along x, shape (n,), and along y, (m,); shape (n_nodes, m, n)."""
        spacing = self.fwhm / _NODES
        along_x, along_y = (
            _cubic_b_spline((offset - self.nodes[:, k, None]) / spacing) for k, offset in enumerate((dx, dy))
        )
        return np.asarray((self.scale[:, None] * along_y)[:, :, None] * along_x[:, None, :])

    def _rings(self, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the tents of the wing at offsets of any shape; shape (n_rings, ...)."""
        radius = np.hypot(dx, dy)
        place = np.log(np.maximum(radius, 1e-3) / self.fwhm)
        knots = np.log([_RINGS[0] ** 2 / _RINGS[1], *_RINGS, _EDGE])
        tents = np.eye(len(knots))[1:-1]
        return np.stack([np.interp(place, knots, tent) for tent in tents]) * _brightness(radius, self.fwhm, _HALO)

    def model(self, degree: int, rows: FloatArray | None = None) -> PsfexModel:
        """Solve for the corrections that some of the stars show.

        Parameters
        ----------
        degree : int
            Of the polynomial in x and y.
        rows : bool array, shape (n,), optional
            Which stars; by default all.

        Returns
        -------
        PsfexModel
            The PSF, the response of the pixel included.
        """
        keep = np.ones(len(self.u), dtype=np.bool_) if rows is None else rows
        u, v = self.u[keep], self.v[keep]
        terms = np.stack([u**i * v**j for j in range(degree + 1) for i in range(degree + 1 - j)], axis=1)
        n_nodes, n_rings, many = len(self.nodes), len(_RINGS), terms.shape[1]
        normal, right = self.normal[keep], self.right[keep]
        core = np.einsum("na,nb,nij->aibj", terms, terms, normal[:, :n_nodes, :n_nodes], optimize=True)
        mixed = np.einsum("na,nij->aij", terms, normal[:, :n_nodes, n_nodes:], optimize=True)
        total = many * n_nodes
        matrix = np.zeros((total + n_rings, total + n_rings))
        matrix[:total, :total] = core.reshape(total, total)
        matrix[:total, total:] = mixed.reshape(total, n_rings)
        matrix[total:, :total] = matrix[:total, total:].T
        matrix[total:, total:] = normal[:, n_nodes:, n_nodes:].sum(axis=0)
        vector = np.concatenate([(terms.T @ right[:, :n_nodes]).ravel(), right[:, n_nodes:].sum(axis=0)])
        widths = np.repeat([_MEAN, *[_CHANGE] * (many - 1)], n_nodes)
        prior = np.concatenate([widths, np.full(n_rings, _RING)])
        found = np.linalg.solve(matrix + np.diag(prior**-2.0), vector)
        return self._images(found[:total].reshape(many, n_nodes), found[total:], degree)

    @property
    def _grid(self) -> tuple[float, int]:
        """Return the size of a sample of the image that is written, in pixels, and half its side, in samples."""
        sampling = _sampling(self.fwhm)
        return sampling, min(int(np.ceil(_REACH * self.fwhm / sampling)), _LARGEST)

    @cached_property
    def _moffat_image(self) -> FloatArray:
        return _moffat_samples(self.moffat, *self._grid)

    def _images(self, core: FloatArray, rings: FloatArray, degree: int) -> PsfexModel:
        """Draw the corrections on the grid of the image that is written."""
        sampling, half = self._grid
        offset = sampling * np.arange(-half, half + 1, dtype=np.float64)
        dx, dy = np.meshgrid(offset, offset)
        images = np.tensordot(core, self._splines(offset, offset), axes=1)
        images[0] += np.maximum(self._moffat_image + np.tensordot(rings, self._rings(dx, dy), axes=1), 0)
        images = centred(images * sampling**2, 0.6 * self.fwhm / sampling)
        ny, nx = self.shape
        zero, scale = ((nx + 1) / 2, (ny + 1) / 2), (nx / 2, ny / 2)
        return PsfexModel(images, degree, zero, scale, sampling, self.shape)


def _on_unit_square(x: FloatArray, y: FloatArray, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Return places on the CCD, each from -1 to 1."""
    ny, nx = shape
    return (2 * x + 1 - nx) / nx, (2 * y + 1 - ny) / ny


def _grid_nodes(fwhm: float) -> FloatArray:
    """Return the nodes of the core, shape (n, 2), x first, in pixels."""
    many = int(np.floor(_NODES * _CORE))
    y, x = np.mgrid[-many : many + 1, -many : many + 1] * fwhm / _NODES
    inside = np.hypot(x, y) <= _CORE * fwhm
    return np.stack([x[inside], y[inside]], axis=1)


def _brightness(radius: FloatArray, fwhm: float, beta: float) -> FloatArray:
    """Return the surface brightness of a Moffat of unit flux."""
    alpha2 = fwhm**2 / 4 / (2 ** (1 / beta) - 1)
    return np.asarray((beta - 1) / (np.pi * alpha2) * (1 + radius**2 / alpha2) ** -beta)


def _sampling(fwhm: float) -> float:
    """Return the size of a sample in pixels: a whole number of pixels, or of samples per pixel."""
    wanted = fwhm / _SAMPLES
    return float(np.floor(wanted)) if wanted >= 1 else 1 / float(np.ceil(1 / wanted))


def _moffat_samples(moffat: MoffatPsf, sampling: float, half: int) -> FloatArray:
    """Return a Moffat on pixels at offsets of -half to half samples along both axes."""
    per_pixel = max(round(1 / sampling), 1)
    step = max(round(sampling), 1)
    n = 2 * half + 1
    reach = int(np.ceil(half * sampling))
    image = np.empty((n, n))
    for row in range(per_pixel):
        for column in range(per_pixel):
            # Samples row, row + per_pixel, ... lie on whole pixels from the first of them.
            start_y, start_x = ((start - half) * sampling for start in (row, column))
            size = 2 * reach + 1
            drawn = render(
                Shapes.points(np.array([-start_x]), np.array([-start_y])), moffat, size=size, dtype=torch.float64
            )[0].numpy()
            part = image[row::per_pixel, column::per_pixel]
            part[:] = drawn[::step, ::step][: part.shape[0], : part.shape[1]]
    return image


def _cubic_b_spline(t: FloatArray) -> FloatArray:
    """Return the cubic B-spline, which is 0 for abs(t) >= 2."""
    t = np.abs(t)
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6)
