"""Smooth galaxy spectra in a few latent parameters, and their fluxes through any band.

The logarithm of the rest-frame continuum per unit frequency is a sum of closed forms in
x = ln(wavelength / 400 nm): a slope on either side of smooth joints, and a step for the 4000 Å break.
Its coefficients follow a line from red to blue galaxies (latent ``colour``) with a scatter about it along
two more directions; emission lines are added with equivalent widths that grow towards blue galaxies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lumos.conventions import FloatArray
from lumos.spectra.passbands import Passband

__all__ = ["LINE_WAVELENGTHS", "SedFamily", "continuum_basis"]

#: Rest wavelengths of the emission lines in vacuum, nm; each is the mean of its doublet or, for Halpha, of the blend
#: with [NII].
LINE_WAVELENGTHS: dict[str, float] = {"OII": 372.87, "Hbeta": 486.27, "OIII": 499.63, "Halpha": 656.85}

#: Joints of the continuum's slopes in x, sharpness of a joint, place and half-width of the 4000 Å break.
_JOINTS = (-0.55, 0.0, 0.42)
_SHARPNESS = 0.08
_BREAK_X, _BREAK_WIDTH = -0.015, 0.03
#: The continuum is tabulated over this range of x, 27 nm to 8 µm, and held constant beyond.
_GRID = np.arange(-2.7, 3.0, 0.0005)
#: Galaxies whose bands are evaluated at a time, so that the arrays stay in the cache.
_CHUNK = 2048


def continuum_basis(x: FloatArray) -> FloatArray:
    """Return the closed forms of which the continuum's logarithm is made.

    Parameters
    ----------
    x : float array, shape (n,)
        Natural logarithm of the rest wavelength over 400 nm.

    Returns
    -------
    float array, shape (n, 5)
        Slopes shortward of 231 nm, 231 to 400 nm, 400 to 609 nm and longward, and the break, a unit step.
        All vanish at x = 0 but the break, which is about ½ + 0.23 there.
    """

    def bent(joint: float, sign: int) -> FloatArray:
        smooth = _SHARPNESS * np.logaddexp(0, sign * (x - joint) / _SHARPNESS)
        return np.asarray(sign * (smooth - _SHARPNESS * np.logaddexp(0, -sign * joint / _SHARPNESS)))

    far, middle, red = bent(_JOINTS[0], -1), bent(_JOINTS[1], -1), bent(_JOINTS[2], 1)
    step = 0.5 * (1 + np.tanh((x - _BREAK_X) / _BREAK_WIDTH))
    return np.stack([far, middle - far, x - middle - red, red, step], axis=-1)


@dataclass(frozen=True)
class SedFamily:
    """A family of galaxy spectra.

    The continuum is ln f_ν = Σ_k latent_k mode_k · basis(x), latent_0 = 1, and line l adds the rest equivalent
    width ``line_width`` in nm.

    Parameters
    ----------
    modes : float array, shape (4, 5)
        Coefficients of :func:`continuum_basis`: of the mean spectrum, its change per unit of ``colour`` (red to blue),
        and two directions of scatter with unit variance.
    line_mean, line_slope : float array, shape (4,)
        Natural logarithm of the rest equivalent width in nm at colour 0, and its change per unit of colour; in the
        order of ``LINE_WAVELENGTHS``.
    line_common, line_own : float
        Scatter of ln(equivalent width) that all lines of a galaxy share, and of each line.
    """

    modes: FloatArray
    line_mean: FloatArray
    line_slope: FloatArray
    line_common: float
    line_own: float

    def draw(self, colour: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw spectra of given colours.

        Parameters
        ----------
        colour : float array, shape (n,)
            Place from red (−1) to blue (+1).
        rng : numpy.random.Generator
            Source of the scatter.

        Returns
        -------
        latents : float array, shape (n, 4)
            1, the colour, and the two coordinates of scatter.
        line_widths : float array, shape (n, 4)
            Rest equivalent widths in nm.
        """
        n = len(colour)
        latents = np.column_stack([np.ones(n), colour, rng.standard_normal((n, 2))])
        scatter = self.line_common * rng.standard_normal((n, 1)) + self.line_own * rng.standard_normal((n, 4))
        return latents, np.exp(self.line_mean + self.line_slope * colour[:, None] + scatter)

    def continuum(self, latents: FloatArray, wavelength: FloatArray) -> FloatArray:
        """Return continua.

        Parameters
        ----------
        latents : float array, shape (n, 4)
            Spectra, see :meth:`draw`.
        wavelength : float array, shape (m,)
            At rest, nm.

        Returns
        -------
        float array, shape (n, m)
            Flux per unit frequency, in arbitrary units per galaxy.
        """
        return np.asarray(np.exp(latents @ (self.modes @ continuum_basis(np.log(wavelength / 400.0)).T)))

    def mean_flux(
        self, latents: FloatArray, line_widths: FloatArray, redshift: FloatArray, bands: Sequence[Passband]
    ) -> FloatArray:
        """Return the mean flux per unit frequency in each band, in arbitrary units per galaxy.

        Parameters
        ----------
        latents, line_widths : float array, shape (n, 4)
            Spectra, see :meth:`draw`.
        redshift : float array, shape (n,)
            At least 0.
        bands : sequence of Passband
            Where to measure.

        Returns
        -------
        float array, shape (n, n_bands)
            Photon-weighted means.
        """
        flux = np.empty((len(redshift), len(bands)))
        for start in range(0, len(redshift), _CHUNK):
            part = slice(start, start + _CHUNK)
            flux[part] = self._continuum(latents[part], redshift[part], bands)
            self._add_lines(flux[part], latents[part], line_widths[part], redshift[part], bands)
        return flux

    @cached_property
    def _table(self) -> FloatArray:
        """Modes of the continuum on the grid, shape (4, n_grid)."""
        return np.ascontiguousarray(self.modes @ continuum_basis(_GRID).T)

    def _continuum(self, latents: FloatArray, redshift: FloatArray, bands: Sequence[Passband]) -> FloatArray:
        nodes = [band.nodes() for band in bands]
        x = np.log(np.concatenate([wavelengths for wavelengths, _ in nodes]) / 400.0)
        # Steps of 0.0005 in x: the nearest entry of the table is off by 0.00025 times the slope.
        index = ((x - np.log1p(redshift)[:, None] - _GRID[0]) / (_GRID[1] - _GRID[0]) + 0.5).astype(np.intp)
        np.clip(index, 0, len(_GRID) - 1, out=index)
        log_flux = self._table[0][index]
        for mode in range(1, 4):
            log_flux += latents[:, mode, None] * self._table[mode][index]
        flux: FloatArray = np.exp(log_flux, out=log_flux)
        if len(x) == len(bands):
            return flux
        starts = np.cumsum([0, *[len(weights) for _, weights in nodes[:-1]]])
        return np.asarray(np.add.reduceat(flux * np.concatenate([weights for _, weights in nodes]), starts, axis=1))

    def _add_lines(
        self,
        flux: FloatArray,
        latents: FloatArray,
        line_widths: FloatArray,
        redshift: FloatArray,
        bands: Sequence[Passband],
    ) -> None:
        """Add the light of the lines that fall into a band, in place."""
        rest = np.array(list(LINE_WAVELENGTHS.values()))
        continuum = self.continuum(latents, rest)
        observed = rest * (1 + redshift[:, None])
        # A line of observed width W at wavelength l adds f(l) W T(l)/l over the integral of T/l, about width/centre.
        light = continuum * line_widths * (1 + redshift[:, None]) / observed
        for number, band in enumerate(bands):
            galaxy, line = np.nonzero(np.abs(observed - band.wavelength) < band.half_range)
            share = band.response(observed[galaxy, line]) * band.wavelength / band.width
            np.add.at(flux[:, number], galaxy, light[galaxy, line] * share)
