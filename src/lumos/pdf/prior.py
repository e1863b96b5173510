"""The catalogue prior: the density of a galaxy's flux given its catalogue magnitude and the band."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lumos.conventions import FloatArray, IntArray
from lumos.errors import LumosDataError, LumosShapeError, LumosValueError, foreign_reader
from lumos.pdf.base import per_row, row_chunks
from lumos.pdf.grid import GridPdf
from lumos.pdf.mixture import GaussianMixture
from lumos.pdf.prior_fit import KNOT_SPACING, MIN_GALAXIES, Apply, fit_band, hats, log_reference
from lumos.pdf.reweight import AROUND, LEVELS

__all__ = ["FluxPrior", "posterior"]


@dataclass(frozen=True, eq=False)
class FluxPrior:
    r"""A density of total flux given a catalogue magnitude and a band.

    With x = ln(f / f_ref), where f_ref is the flux of the catalogue's magnitude m in nJy,

    .. math:: \ln \pi(f | m, b) = \sum_k h_k(m) \, \theta_{bk}(x) - \ln f - \ln Z_b(m),

    theta are straight lines between nodes in x, h_k the hat functions between knots in magnitude, and Z makes it a
    density in flux. Beyond the outer knots it stays as it is there. Fluxes at or below 0, and those a factor of some
    22000 away from the band's median, have density 0.

    Parameters
    ----------
    bands : tuple of str
        Names of the bands, in the order of their indices.
    knots : ndarray, shape (n_knots,)
        AB magnitudes, increasing.
    nodes : ndarray, shape (n_bands, n_nodes)
        ln(f / f_ref), increasing.
    log_density : ndarray, shape (n_bands, n_knots, n_nodes)
        theta, finite, up to a constant per band and knot.

    Raises
    ------
    LumosShapeError
        If the shapes do not belong together.
    LumosValueError
        If a value is not finite, knots or nodes do not increase, or a band comes twice.
    """

    bands: tuple[str, ...]
    knots: FloatArray
    nodes: FloatArray
    log_density: FloatArray

    def __post_init__(self) -> None:
        for name in ("knots", "nodes", "log_density"):
            array = np.array(getattr(self, name), dtype=np.float64)
            if not np.isfinite(array).all():
                raise LumosValueError(f"{name} of a prior", "a value that is not finite", "finite numbers")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        shapes = (self.knots.shape, self.nodes.shape, self.log_density.shape)
        expected = (len(self.bands), self.knots.size, self.nodes.shape[-1] if self.nodes.ndim == 2 else 0)
        if shapes != (expected[1:2], expected[::2], expected) or 0 in expected or expected[2] < 3:
            raise LumosShapeError("knots, nodes and log densities", shapes, "(k,), (bands, x), (bands, k, x)")
        if len(set(self.bands)) != len(self.bands):
            raise LumosValueError("bands of a prior", self.bands, "every band once")
        if (np.diff(self.knots) <= 0).any() or (np.diff(self.nodes, axis=1) <= 0).any():
            raise LumosValueError("knots and nodes of a prior", "a step that is not above 0", "increasing numbers")

    @classmethod
    def fit(cls, flux: ArrayLike, ref_mag: ArrayLike, band: ArrayLike, bands: Sequence[str]) -> "FluxPrior":
        """Learn a prior from fluxes without noise, from a deep or a simulated table.

        Parameters
        ----------
        flux : array_like, shape (n,)
            Total fluxes, nJy, above 0; rows with NaN are left out.
        ref_mag : array_like, shape (n,)
            Catalogue magnitudes, AB.
        band : array_like of int or str, shape (n,)
            Index into ``bands``, or name.
        bands : sequence of str
            Names of the bands, in the order of their indices.

        Returns
        -------
        FluxPrior
            The most probable prior, see :meth:`fit_noisy`.

        Raises
        ------
        LumosValueError
            If a flux is 0 or negative, or a band is unknown.
        LumosDataError
            If a band has fewer than 50 galaxies, or fluxes that are nowhere near those of the magnitudes.
        """
        flux = np.asarray(flux, dtype=np.float64)
        if flux.ndim != 1:
            raise LumosShapeError("flux", flux.shape, "(n,)")
        if (flux <= 0).any():
            raise LumosValueError("flux without noise", float(flux[flux <= 0][0]), "above 0 (else use fit_noisy)")
        point = flux[:, None]
        # Far narrower than any cell.
        likelihoods = GaussianMixture(np.ones_like(point), point, 1e-9 * point)
        return cls.fit_noisy(likelihoods, ref_mag, band, bands)

    @classmethod
    def fit_noisy(
        cls, likelihoods: GaussianMixture, ref_mag: ArrayLike, band: ArrayLike, bands: Sequence[str], apply: Apply = map
    ) -> "FluxPrior":
        r"""Learn a prior by deconvolution from the pixel likelihoods of galaxies.

        It maximises

        .. math:: \sum_g \ln \int L_g(f) \, \pi(f | m_g, b_g) \, df
            - \frac{\lambda}{2} \int (\partial_x^3 \theta)^2 + 1000 \, (\Delta_m^2 \theta)^2 \, dx

        (x in tenths of the range), so that without information a band's fluxes are lognormal, with centre and width
        that evolve linearly with magnitude. It is stiff in magnitude, so that bright galaxies tell the width of faint
        ones. Each band's lambda is that which predicts held-out galaxies best. Newton's method with the scores' outer
        product for the curvature. One galaxy per knot, spread over a factor of e either way of the reference flux, is
        added for bands without information; a share of 0.001 goes to a broad floor.

        Parameters
        ----------
        likelihoods : GaussianMixture, n rows
            Pixel likelihoods, nJy; negative fluxes are legal; rows with NaN are left out.
        ref_mag : array_like, shape (n,)
            Catalogue magnitudes, AB; rows with NaN are left out.
        band : array_like of int or str, shape (n,)
            Index into ``bands``, or name.
        bands : sequence of str
            Names of the bands, in the order of their indices.
        apply : callable, optional
            Calls a function for each band and returns the results in order, as ``map`` does; can use processes.

        Returns
        -------
        FluxPrior
            The learned prior.

        Raises
        ------
        LumosValueError
            If a band is unknown.
        LumosDataError
            If a band has fewer than 50 galaxies, or fluxes that are nowhere near those of the magnitudes.
        """
        bands, n = tuple(bands), len(likelihoods)
        mags, which = per_row(ref_mag, n, "ref_mag"), _band_index(band, n, bands)
        good = np.isfinite(mags) & np.isfinite(likelihoods.means[:, 0])
        if not good.any():
            raise LumosDataError(f"prior: 0 usable galaxies of {n}, needed: {MIN_GALAXIES} in every band")
        low, high = np.quantile(mags[good], [0.005, 0.995])
        knots = np.unique(np.linspace(low, high, 1 + int(np.ceil((high - low) / KNOT_SPACING))))
        samples = []
        for number, name in enumerate(bands):
            rows = np.flatnonzero(good & (which == number))
            if len(rows) < MIN_GALAXIES:
                raise LumosDataError(f"prior: {len(rows)} usable galaxies in band {name}, needed: {MIN_GALAXIES}")
            samples.append((likelihoods.take(rows), mags[rows], knots, name))
        return cls(bands, knots, *map(np.array, zip(*apply(fit_band, samples), strict=True)))

    def _density(self, ref_mag: FloatArray, band: IntArray) -> GridPdf:
        """Return the density of ln(f / f_ref) of rows."""
        weights = hats(self.knots, ref_mag)
        return GridPdf(self.nodes[band], (weights[:, None] @ self.log_density[band])[:, 0])

    def _rows(self, ref_mag: ArrayLike, band: ArrayLike) -> tuple[FloatArray, IntArray, FloatArray]:
        """Return checked magnitudes and bands, and the logarithm of the reference flux."""
        mags = np.asarray(ref_mag, dtype=np.float64)
        if mags.ndim != 1:
            raise LumosShapeError("ref_mag", mags.shape, "(n,)")
        mags = np.where(np.isfinite(mags), mags, np.nan)
        return mags, _band_index(band, len(mags), self.bands), log_reference(mags)

    def log_pdf(self, flux: ArrayLike, ref_mag: ArrayLike, band: ArrayLike) -> FloatArray:
        """Return the natural logarithm of the density.

        Parameters
        ----------
        flux : array_like, shape (), (n,), (n, m) or (1, m)
            Fluxes, nJy, of either sign.
        ref_mag : array_like, shape (n,)
            Catalogue magnitudes, AB; one that is not finite makes the row NaN.
        band : array_like of int or str, shape () or (n,)
            Index into the bands, or name.

        Returns
        -------
        ndarray, shape (n,) or (n, m)
            Logarithms of densities per nJy, ``-inf`` where the density is 0.
        """
        return self._evaluate(flux, ref_mag, band, GridPdf._log_pdf, jacobian=True)  # noqa: SLF001

    def cdf(self, flux: ArrayLike, ref_mag: ArrayLike, band: ArrayLike) -> FloatArray:
        """Return the probability of a smaller flux.

        Parameters
        ----------
        flux : array_like, shape (), (n,), (n, m) or (1, m)
            Fluxes, nJy, of either sign.
        ref_mag : array_like, shape (n,)
            Catalogue magnitudes, AB; one that is not finite makes the row NaN.
        band : array_like of int or str, shape () or (n,)
            Index into the bands, or name.

        Returns
        -------
        ndarray, shape (n,) or (n, m)
            Probabilities of a smaller flux, 0 to 1.
        """
        return self._evaluate(flux, ref_mag, band, GridPdf._cdf, jacobian=False)  # noqa: SLF001

    def quantile(self, level: ArrayLike, ref_mag: ArrayLike, band: ArrayLike) -> FloatArray:
        """Return the flux below which the flux lies with probability ``level``.

        Parameters
        ----------
        level : array_like, shape (), (n,), (n, m) or (1, m)
            Probabilities of a smaller flux, 0 to 1.
        ref_mag : array_like, shape (n,)
            Catalogue magnitudes, AB.
        band : array_like of int or str, shape () or (n,)
            Index into the bands, or name.

        Returns
        -------
        ndarray, shape (n,) or (n, m)
            Fluxes below which the prior has this probability, nJy.
        """
        mags, which, log_ref = self._rows(ref_mag, band)
        x = self._density(mags, which).quantile(level)
        return np.asarray(np.exp(x + (log_ref[:, None] if x.ndim == 2 else log_ref)))

    def mean(self, ref_mag: ArrayLike, band: ArrayLike) -> FloatArray:
        """Return the mean flux.

        Parameters
        ----------
        ref_mag : array_like, shape (n,)
            Catalogue magnitudes, AB.
        band : array_like of int or str, shape () or (n,)
            Index into the bands, or name.

        Returns
        -------
        ndarray, shape (n,)
            Mean flux of each prior, nJy.
        """
        mags, which, log_ref = self._rows(ref_mag, band)
        density = self._density(mags, which)
        # The mean of exp(x) is what the density times exp(x) has to be divided by.
        tilted = density.log_density + density.nodes
        return np.asarray(np.exp(log_ref + (tilted - GridPdf(density.nodes, tilted).log_density)[:, 0]))

    def sample(self, ref_mag: ArrayLike, band: ArrayLike, rng: np.random.Generator) -> FloatArray:
        """Draw one flux per row.

        Parameters
        ----------
        ref_mag : array_like, shape (n,)
            Catalogue magnitudes, AB.
        band : array_like of int or str, shape () or (n,)
            Index into the bands, or name.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        ndarray, shape (n,)
            One flux drawn from each prior, nJy.
        """
        return self.quantile(rng.random(np.shape(ref_mag)), ref_mag, band)

    def to_dict(self) -> dict[str, object]:
        """Return the prior as lists and strings, for JSON.

        Returns
        -------
        dict
            What :meth:`from_dict` takes.
        """
        arrays = {name: getattr(self, name).tolist() for name in ("knots", "nodes", "log_density")}
        return {"bands": list(self.bands), **arrays}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "FluxPrior":
        """Return the prior that was written by :meth:`to_dict`.

        Parameters
        ----------
        content : mapping
            With ``bands``, ``knots``, ``nodes`` and ``log_density``.

        Returns
        -------
        FluxPrior
            Exactly the same prior.

        Raises
        ------
        LumosDataError
            If an entry is missing, or is none of a prior's.
        """
        if set(content) != (names := {"bands", "knots", "nodes", "log_density"}):
            raise LumosDataError(f"prior: got the entries {sorted(content)}, allowed: {sorted(names)}")
        with foreign_reader("prior: no bands, knots, nodes and densities"):
            return cls(tuple(map(str, content["bands"])), content["knots"], content["nodes"], content["log_density"])

    def _evaluate(
        self, flux: ArrayLike, ref_mag: ArrayLike, band: ArrayLike, method: Callable[..., FloatArray], *, jacobian: bool
    ) -> FloatArray:
        """Call a method of the density of ln(f / f_ref) on chunks of rows."""
        mags, which, log_ref = self._rows(ref_mag, band)
        array, n = np.asarray(flux, dtype=np.float64), len(mags)
        if array.shape not in {(), (n,)} and (array.ndim != 2 or len(array) not in {1, n}):
            raise LumosShapeError("flux", array.shape, f"(), ({n},), ({n}, m) or (1, m)")
        flat = array.ndim < 2
        array = np.broadcast_to(array[:, None] if array.ndim == 1 else array, (n, array.shape[1] if not flat else 1))
        out = np.empty(array.shape)
        for rows in row_chunks(n, self.nodes.shape[1] + array.shape[1]):
            values = array[rows]
            with np.errstate(all="ignore"):  # logarithms of negative fluxes, NaN rows
                log_flux = np.where(values > 0, np.log(values), np.where(np.isnan(values), np.nan, -np.inf))
                out[rows] = method(self._density(mags[rows], which[rows]), log_flux - log_ref[rows, None])
                out[rows] -= np.where(values > 0, log_flux, 0) if jacobian else 0
        return out[:, 0] if flat else out


def posterior(likelihood: GaussianMixture, prior: FluxPrior, ref_mag: ArrayLike, band: ArrayLike) -> GridPdf:
    """Return likelihood times prior, normalised.

    First on nodes around every component and on those of the prior, then twice on the prior's and on 321 quantiles of
    the answer before: so it is found also where the likelihood is much narrower or wider than the prior, or where the
    two hardly overlap.

    Parameters
    ----------
    likelihood : GaussianMixture
        n pixel likelihoods, nJy; exposures of one galaxy multiplied before, so that the prior counts once.
    prior : FluxPrior
        Density of the flux given magnitude and band.
    ref_mag : array_like, shape (n,)
        Catalogue magnitudes, AB; one that is not finite makes the row NaN.
    band : array_like of int or str, shape () or (n,)
        Index into the bands, or name.

    Returns
    -------
    GridPdf
        n PDFs on some 400 nodes each; NaN where a likelihood has no probability where the prior has some.
    """
    n = len(likelihood)
    mags, which, _ = prior._rows(per_row(ref_mag, n, "ref_mag"), band)  # noqa: SLF001
    chunks = row_chunks(n, AROUND.size * likelihood.weights.shape[1] + LEVELS.size)
    parts = [_posterior(likelihood.take(rows), prior, mags[rows], which[rows]) for rows in chunks]
    shape = (0, prior.nodes.shape[1] + LEVELS.size)
    nodes, values = (
        np.concatenate([np.empty(shape), *(getattr(part, name) for part in parts)]) for name in ("nodes", "log_density")
    )
    return GridPdf(nodes, values)


def _posterior(likelihood: GaussianMixture, prior: FluxPrior, mags: FloatArray, band: IntArray) -> GridPdf:
    fixed = np.exp(prior.nodes[band] + log_reference(mags)[:, None])

    def product(nodes: FloatArray) -> GridPdf:
        nodes = np.concatenate([fixed, nodes.clip(fixed[:, :1], fixed[:, -1:])], axis=1)
        nodes.sort(axis=1)
        return GridPdf(nodes, likelihood.log_pdf(nodes) + prior.log_pdf(nodes, mags, band))

    levels = np.broadcast_to(LEVELS, (len(likelihood), LEVELS.size))
    around = likelihood.means[:, :, None] + likelihood.stds[:, :, None] * AROUND
    answer = product(around.reshape(len(likelihood), -1))
    for _ in range(2):
        with np.errstate(all="ignore"):  # NaN rows
            answer = product(answer._quantile(levels))  # noqa: SLF001
    return answer


def _band_index(band: ArrayLike, n: int, bands: tuple[str, ...]) -> IntArray:
    """Return the bands of n rows as indices."""
    array = np.asarray(band)
    if array.shape not in {(), (n,)}:
        raise LumosShapeError("band", array.shape, f"() or ({n},)")
    if array.dtype.kind not in "iu":
        names, array = array, np.full(array.shape, -1)
        for number, name in enumerate(bands):
            array[names == name] = number
        known = array >= 0
        if not known.all():
            raise LumosValueError("band", str(names[~known].flat[0]), bands)
    bad = (array < 0) | (array >= len(bands))
    if bad.any():
        raise LumosValueError("band", int(array[bad].flat[0]), f"0 to {len(bands) - 1}")
    return np.broadcast_to(array.astype(np.int64), (n,))
