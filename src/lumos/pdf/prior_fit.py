"""Learning the catalogue prior of one band from likelihoods: a smooth density, deconvolved."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from lumos.conventions import AB_ZEROPOINT_NJY, FloatArray
from lumos.errors import LumosDataError
from lumos.pdf.base import row_chunks
from lumos.pdf.mixture import GaussianMixture
from lumos.rows import Rowwise

__all__ = ["KNOT_SPACING", "MIN_GALAXIES", "Apply", "BandFit", "BandSample", "fit_band", "hats", "log_reference"]

logger = logging.getLogger(__name__)

#: Nodes across the bulk of a band's fluxes (some 10 standard deviations), and beyond it at each side.
N_INNER, N_OUTER = 64, 8
#: Share of galaxies that the fit knows nothing about (wrong magnitudes, variables): two-sided exponential in
#: ln(flux) about the band's median with this scale, out to this distance, a factor of 22000 in flux.
FLOOR_SHARE, FLOOR_SCALE, REACH = 1e-3, 0.7, 10.0
#: Cells of ln(flux / reference flux) that find out where a band's fluxes are, and how many galaxies are asked.
SEARCH_EDGES = np.linspace(-8.0, 6.0, 71)
SEARCH_STEPS, SEARCH_ROWS = 100, 5000
#: Distance between knots, magnitudes.
KNOT_SPACING = 1.0
#: Precision of the evolution's change with magnitude over that of the roughness in flux: bright galaxies tell the width
#: of the density also where noise hides it.
EVOLUTION = 1000.0
#: Precisions of the roughness from smooth to rough; one is chosen by every fifth of so many galaxies, held out.
SMOOTHNESS = tuple(10.0 ** np.arange(2, -4, -1))
CHOICE_ROWS = 10_000
#: Fewer galaxies in a band tell nothing about its colours.
MIN_GALAXIES = 50
#: A fit ends when a step gains less than this in ln(likelihood) of all galaxies.
GAIN = 0.1
MAX_STEPS = 60
#: Likelihoods and magnitudes of a band's galaxies, knots, name of the band; nodes and the logarithm of the density.
BandSample = tuple[GaussianMixture, FloatArray, FloatArray, str]
BandFit = tuple[FloatArray, FloatArray]
#: Calls a function for each band and returns the results in order, as ``map`` does.
Apply = Callable[[Callable[[BandSample], BandFit], list[BandSample]], Iterable[BandFit]]


def log_reference(mags: FloatArray) -> FloatArray:
    """Return ln(f_ref) of AB magnitudes, f_ref in nJy.

    Parameters
    ----------
    mags : ndarray, shape (n,)
        AB magnitudes of the galaxies.

    Returns
    -------
    ndarray, shape (n,)
        Natural logarithms of the fluxes in nJy.
    """
    return np.asarray(0.4 * np.log(10) * (AB_ZEROPOINT_NJY - mags))


def hats(knots: FloatArray, mags: FloatArray) -> FloatArray:
    """Return the weights of the knots for linear interpolation in magnitude, constant beyond the outer ones.

    Parameters
    ----------
    knots : ndarray, shape (n_knots,)
        Magnitudes of the knots, increasing.
    mags : ndarray, shape (n,)
        Magnitudes; NaN gives NaN.

    Returns
    -------
    ndarray, shape (n, n_knots)
        Weights that sum to 1 in each row.
    """
    return np.stack([np.interp(mags, knots, row) for row in np.eye(len(knots))], axis=1)


def _cells(likelihoods: GaussianMixture, log_ref: FloatArray, edges: FloatArray) -> FloatArray:
    """Return the mean likelihood in cells of ln(f / f_ref), shape (n, n_cells)."""
    out = np.empty((len(log_ref), len(edges) - 1))
    flux = np.exp(edges)
    for rows in row_chunks(len(out), 8 * len(edges)):
        mass = np.zeros(out[rows].shape)
        scale = np.exp(-log_ref[rows])
        part = likelihoods.take(rows)
        for weight, mean, std in zip(part.weights.T, part.means.T, part.stds.T, strict=True):
            z = (flux - (mean * scale)[:, None]) / (std * scale)[:, None]
            # Of the smaller tail, which keeps its digits.
            tail = ndtr(-np.abs(z))
            rise = np.abs(np.diff(tail, axis=1))
            across = (z[:, :-1] < 0) & (z[:, 1:] >= 0)
            mass += weight[:, None] * np.where(across, 1 - tail[:, :-1] - tail[:, 1:], rise)
        out[rows] = mass / np.diff(flux)
    return out


def _edges(nodes: FloatArray) -> FloatArray:
    """Return the edges of the nodes' cells."""
    middle = (nodes[1:] + nodes[:-1]) / 2
    return np.concatenate([[2 * nodes[0] - middle[0]], middle, [2 * nodes[-1] - middle[-1]]])


def _search(likelihoods: GaussianMixture, log_ref: FloatArray, name: str) -> tuple[float, float, float]:
    """Return median and range of ln(f / f_ref) in a band, without regard to magnitude or smoothness."""
    rows = slice(None, None, 1 + len(log_ref) // SEARCH_ROWS)
    cells = _cells(likelihoods.take(rows), log_ref[rows], SEARCH_EDGES)
    possible = cells.max(axis=1) > 0
    if possible.mean() < 0.5:
        raise LumosDataError(
            f"prior: band {name} has {(~possible).mean():.0%} of the fluxes out of any reach of the magnitude's, "
            "allowed: 50% (are they in nJy?)"
        )
    cells = cells[possible]
    # Where noise hides the fluxes, the steps end near this beginning.
    share = _normalised(-np.abs(SEARCH_EDGES[None, 1:] + SEARCH_EDGES[:-1]) / 2)[0]
    for _ in range(SEARCH_STEPS):
        share *= (cells / (cells @ share)[:, None]).mean(axis=0)
    low, centre, high = np.interp([0.005, 0.5, 0.995], np.append(0, share.cumsum()), SEARCH_EDGES)
    margin = (high - low) / 2
    reach = 0.8 * REACH
    return float(max(low - margin, centre - reach)), float(centre), float(min(high + margin, centre + reach))


def _normalised(theta: FloatArray) -> FloatArray:
    share = np.exp(theta - theta.max(axis=1, keepdims=True))
    return np.asarray(share / share.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class _Band(Rowwise):
    """Galaxies of one band: likelihood per cell, likelihood of the floor, and weights of the knots."""

    cells: FloatArray
    floor: FloatArray
    hats: FloatArray

    def shares(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the probability of each cell for each galaxy, and each galaxy's evidence."""
        share = _normalised(self.hats @ theta)
        evidence = (1 - FLOOR_SHARE) * np.einsum("nj,nj->n", self.cells, share) + FLOOR_SHARE * self.floor
        return share, evidence

    def score(self, theta: FloatArray) -> float:
        """Return ln(likelihood) of all galaxies."""
        return float(np.log(self.shares(theta)[1]).sum())

    def derivatives(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return gradient (k, j) of the score, and the sum of its outer products (k, j, k, j)."""
        share, evidence = self.shares(theta)
        member = (1 - FLOOR_SHARE) * self.cells * share / evidence[:, None]
        member -= share * member.sum(axis=1, keepdims=True)
        k, j = theta.shape
        curvature = np.zeros((k, j, k, j))
        pair = (self.hats > 0).argmax(axis=1).clip(0, max(k - 2, 0))
        for first in range(max(k - 1, 1)):
            rows, span = pair == first, slice(first, first + 2)
            size = min(2, k)
            outer = (self.hats[rows, span, None] * member[rows, None]).reshape(int(rows.sum()), size * j)
            curvature[span, :, span] += (outer.T @ outer).reshape(size, j, size, j)
        return self.hats.T @ member, curvature


def _roughness(n_knots: int, n_nodes: int) -> FloatArray:
    """Return the quadratic form (k j, k j) of the roughness of theta."""
    step = 10 / (n_nodes - 1)
    third = np.diff(np.eye(n_nodes), 3, axis=0)
    second = np.diff(np.eye(n_knots), 2, axis=0)
    along_x = np.kron(np.eye(n_knots), third.T @ third / step**5)
    return np.asarray(along_x + np.kron(EVOLUTION * step * second.T @ second, np.eye(n_nodes)))


def _maximise(band: _Band, theta: FloatArray, penalty: FloatArray, broad: FloatArray) -> FloatArray:
    """Return the theta of largest score minus penalty, with one galaxy per knot spread out like ``broad``."""
    ridge = 1e-6 * np.eye(theta.size)

    def value(theta: FloatArray) -> float:
        spread = float((np.log(_normalised(theta) + 1e-300) @ broad).sum())
        return band.score(theta) + spread - 0.5 * float(theta.ravel() @ penalty @ theta.ravel())

    best = value(theta)
    for _ in range(MAX_STEPS):
        gradient, curvature = band.derivatives(theta)
        share = _normalised(theta)
        total = (gradient + broad - share).ravel() - penalty @ theta.ravel()
        matrix = curvature.reshape(theta.size, theta.size) + penalty + np.diag(share.ravel())
        step = np.linalg.solve(matrix + ridge * np.trace(matrix) / theta.size, total).reshape(theta.shape)
        step -= step.mean(axis=1, keepdims=True)
        step *= min(1, 10 / np.abs(step).max())
        before = best
        for _ in range(12):
            best = value(theta + step)
            if best > before:
                theta = theta + step
                break
            step /= 2
        if best - before < GAIN:
            break
    return theta


def fit_band(sample: BandSample) -> BandFit:
    """Learn the density of ln(f / f_ref) given the magnitude in one band, see :meth:`FluxPrior.fit_noisy`.

    Parameters
    ----------
    sample : tuple
        Pixel likelihoods of n galaxies (nJy, all finite); their AB magnitudes, shape (n,), finite; the magnitudes
        between which the logarithm of the density is interpolated, shape (n_knots,); the band's name for the log.

    Returns
    -------
    nodes : ndarray, shape (n_nodes,)
        ln(f / f_ref).
    log_density : ndarray, shape (n_knots, n_nodes)
        Logarithm of the density there.

    Raises
    ------
    LumosDataError
        If most fluxes are nowhere near that of the magnitude.
    """
    likelihoods, mags, knots, name = sample
    log_ref = log_reference(mags)
    low, centre, high = _search(likelihoods, log_ref, name)
    inner, away = np.linspace(low, high, N_INNER), np.linspace(0, 1, N_OUTER + 1)[1:] ** 1.5
    nodes = np.concatenate([low + (centre - REACH - low) * away[::-1], inner, high + (centre + REACH - high) * away])
    floor = np.exp(-np.abs(nodes - centre) / FLOOR_SCALE) / (2 * FLOOR_SCALE)
    edges, middle = _edges(nodes), slice(N_OUTER, N_OUTER + N_INNER)
    cells = _cells(likelihoods, log_ref, edges)
    band = _Band(cells[:, middle], cells @ (floor * np.diff(edges)), hats(knots, mags))
    band = band.take(band.floor > 0)
    roughness, theta = _roughness(len(knots), N_INNER), np.zeros((len(knots), N_INNER))
    part = band.take(np.arange(0, len(band.floor), 1 + (len(band.floor) - 1) // CHOICE_ROWS))
    # Where the noise hides everything, fluxes are somewhere around the magnitude's.
    broad = _normalised(-np.abs(inner[None]))[0]
    held = np.arange(len(part.floor)) % 5 == 0
    learn, test = part.take(~held), part.take(held)
    best = (-np.inf, SMOOTHNESS[0], theta)
    for smoothness in SMOOTHNESS:
        theta = _maximise(learn, theta, smoothness * roughness, broad)
        score = test.score(theta) / held.sum()
        if score <= best[0]:
            break
        best = (score, smoothness, theta)
    theta = _maximise(band, best[2], best[1] * roughness, broad)
    logger.debug("prior of %s: %d galaxies, smoothness %g", name, len(band.floor), best[1])
    density = np.zeros((len(knots), len(nodes)))
    density[:, middle] = _normalised(theta) * (N_INNER - 1) / (high - low)
    return nodes, np.log((1 - FLOOR_SHARE) * density + FLOOR_SHARE * floor)
