"""The galaxy population: a joint density of magnitude, size, shape, redshift and spectrum, like COSMOS to i < 23.

The parameters in ``population.yaml`` were fitted to real tables by ``benchmarks/fit_population.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import multivariate_normal

from lumos.config import parse_yaml
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, BoolArray, FloatArray
from lumos.errors import LumosValueError
from lumos.rows import SHARED, Rowwise
from lumos.simulate.morphology import PIVOT_MAG, SHAPE_LIMITS, Morphology
from lumos.spectra.passbands import REFERENCE_PASSBAND, Passband
from lumos.spectra.sed import SedFamily

__all__ = ["Galaxies", "Population", "load_population", "read_shipped"]

_MAX_REDSHIFT = 2.5


@dataclass(frozen=True)
class Galaxies(Rowwise):
    """Galaxies drawn from the population, one entry per galaxy.

    Parameters
    ----------
    ref_mag : float array, shape (n,)
        AB magnitude of the catalogue in the reference band, i.
    half_light_radius : float array, shape (n,)
        Arcsec, along the major axis.
    sersic_n, axis_ratio : float array, shape (n,)
        Sérsic index; minor over major axis.
    position_angle : float array, shape (n,)
        Degrees east of north, 0 to 180.
    redshift : float array, shape (n,)
        Redshift.
    is_spheroid : bool array, shape (n,)
        Which component of the mixture the galaxy is of.
    ref_mag_error : float array, shape (n,)
        ``ref_mag`` minus the magnitude of the profile's total flux.
    sed_latents, line_widths : float array, shape (n, 4)
        Spectrum, see :class:`lumos.spectra.sed.SedFamily`.
    sed : SedFamily
        The family of spectra, one for all.
    """

    ref_mag: FloatArray
    half_light_radius: FloatArray
    sersic_n: FloatArray
    axis_ratio: FloatArray
    position_angle: FloatArray
    redshift: FloatArray
    is_spheroid: BoolArray
    ref_mag_error: FloatArray
    sed_latents: FloatArray
    line_widths: FloatArray
    sed: SedFamily = field(metadata=SHARED)

    def band_flux(self, bands: Sequence[Passband]) -> FloatArray:
        """Return the fluxes in any bands.

        Parameters
        ----------
        bands : sequence of Passband
            Narrow or broad, of any survey.

        Returns
        -------
        float array, shape (n, n_bands)
            Total fluxes in nJy; in ``REFERENCE_PASSBAND`` the flux of ``ref_mag - ref_mag_error``.
        """
        flux = self.sed.mean_flux(self.sed_latents, self.line_widths, self.redshift, [*bands, REFERENCE_PASSBAND])
        scale = 10 ** (0.4 * (AB_ZEROPOINT_NJY - self.ref_mag + self.ref_mag_error)) / flux[:, -1]
        return flux[:, :-1] * scale[:, None]


@dataclass(frozen=True)
class Population:
    r"""A joint density of galaxy properties.

    Counts go as 10^(a m). At magnitude m a galaxy is a spheroid with probability 1/(1 + exp(−b0 − b1 (m − 21.5))),
    else a disc, and has a lognormal size and index and a logit-normal axis ratio. Its redshift follows

    .. math:: p(z | m) \propto z^\alpha \exp[-(z / z_0(m))^\beta], \quad z_0(m) = z_{21.5} e^{\gamma (m - 21.5)}.

    Parameters
    ----------
    count_slope : float
        a.
    spheroid : tuple of two float
        b0 and b1.
    components : tuple of two Morphology
        Discs, spheroids.
    redshift : mapping
        ``alpha``, ``beta``, ``scale`` (z at 21.5) and ``growth`` (γ).
    ref_mag_std : float
        Scatter of the catalogue's magnitude about the profile's, in magnitudes: a catalogue measures in an aperture.
    sed : SedFamily
        Spectra.
    """

    count_slope: float
    spheroid: tuple[float, float]
    components: tuple[Morphology, Morphology]
    redshift: dict[str, float]
    ref_mag_std: float
    sed: SedFamily

    def draw(self, n: int, rng: np.random.Generator, mag_range: tuple[float, float] = (17.5, 23.0)) -> Galaxies:
        """Draw galaxies.

        Parameters
        ----------
        n : int
            How many.
        rng : numpy.random.Generator
            The same state gives the same galaxies.
        mag_range : tuple of two float, optional
            Limits of the reference magnitude; the fit rests on galaxies of 17 to 22.6.

        Returns
        -------
        Galaxies
            The n galaxies.

        Raises
        ------
        LumosValueError
            If ``n`` is negative, or the limits are not finite and increasing.
        """
        if n < 0:
            raise LumosValueError("number of galaxies", n, "0 or more")
        bright, faint = mag_range
        if not (np.isfinite([bright, faint]).all() and bright < faint):
            raise LumosValueError("range of the reference magnitude", mag_range, "two finite increasing numbers")
        # Counted from the faint end, so that wide ranges do not overflow.
        share = 10 ** (self.count_slope * (bright - faint))
        mag = faint + np.log10(share + (1 - share) * rng.uniform(size=n)) / self.count_slope
        return self.draw_at(mag, rng)

    def draw_at(self, ref_mag: FloatArray, rng: np.random.Generator) -> Galaxies:
        """Draw galaxies of given magnitudes.

        Parameters
        ----------
        ref_mag : float array, shape (n,)
            Reference magnitudes, finite.
        rng : numpy.random.Generator
            The same state gives the same galaxies.

        Returns
        -------
        Galaxies
            One per magnitude.

        Raises
        ------
        LumosValueError
            If a magnitude is not finite.
        """
        ref_mag = np.asarray(ref_mag, dtype=np.float64)
        if not np.isfinite(ref_mag).all():
            raise LumosValueError("reference magnitude", float(ref_mag[~np.isfinite(ref_mag)][0]), "finite numbers")
        n, above = len(ref_mag), ref_mag - PIVOT_MAG
        kind = (rng.uniform(size=n) < 1 / (1 + np.exp(-self.spheroid[0] - self.spheroid[1] * above))).astype(np.intp)
        shape = self._draw_shapes(kind, above, rng)
        colour_mean, colour_slope, colour_std = (
            np.array([getattr(component, f"colour_{name}") for component in self.components])[kind]
            for name in ("mean", "slope", "std")
        )
        colour = colour_mean + colour_slope * above + colour_std * rng.standard_normal(n)
        latents, line_widths = self.sed.draw(colour, rng)
        return Galaxies(
            ref_mag=ref_mag,
            half_light_radius=shape[0],
            sersic_n=shape[1],
            axis_ratio=shape[2],
            position_angle=rng.uniform(0, 180, n),
            redshift=self._draw_redshifts(above, rng),
            is_spheroid=kind == 1,
            ref_mag_error=self.ref_mag_std * rng.standard_normal(n),
            sed_latents=latents,
            line_widths=line_widths,
            sed=self.sed,
        )

    def spheroid_share(
        self, ref_mag: FloatArray, half_light_radius: FloatArray, sersic_n: FloatArray, axis_ratio: FloatArray
    ) -> FloatArray:
        """Return the probability that a galaxy of given magnitude and shape is a spheroid, by Bayes' theorem.

        Parameters
        ----------
        ref_mag : float array, shape (n,)
            Reference magnitudes.
        half_light_radius : float array, shape (n,)
            Arcsec, along the major axis.
        sersic_n, axis_ratio : float array, shape (n,)
            Sérsic index; minor over major axis, above 0.99 as at 0.99.

        Returns
        -------
        float array, shape (n,)
            Probabilities.
        """
        above = np.asarray(ref_mag) - PIVOT_MAG
        q = np.minimum(axis_ratio, 0.99)
        shape = np.stack([np.log(half_light_radius), np.log(sersic_n), np.log(q / (1 - q))], axis=-1)
        # Shapes outside the limits are drawn again: each component is a Gaussian cut there.
        knots = np.linspace(above.min(initial=0.0), above.max(initial=0.0) + 1e-3, 25)
        discs, spheroids = (
            multivariate_normal(np.zeros(3), part.covariance).logpdf(shape - part.mean - part.slope * above[:, None])
            - np.interp(above, knots, np.log(part.share_within_limits(knots)))
            for part in self.components
        )
        return np.asarray(expit(self.spheroid[0] + self.spheroid[1] * above + spheroids - discs))

    def _draw_shapes(self, kind: AnyArray, above: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return half-light radius, Sérsic index and axis ratio, shape (3, n)."""
        means, slopes = (np.array([getattr(part, name) for part in self.components]) for name in ("mean", "slope"))
        roots = np.array([np.linalg.cholesky(component.covariance) for component in self.components])
        shape = np.empty((3, len(kind)))
        wanted = np.arange(len(kind))
        while len(wanted):
            of = kind[wanted]
            scatter = (roots[of] @ rng.standard_normal((len(wanted), 3, 1)))[..., 0]
            drawn = (means[of] + slopes[of] * above[wanted, None] + scatter).T
            drawn = np.stack([np.exp(drawn[0]), np.exp(drawn[1]), 1 / (1 + np.exp(-drawn[2]))])
            good = ((drawn >= SHAPE_LIMITS[:, :1]) & (drawn <= SHAPE_LIMITS[:, 1:])).all(axis=0)
            shape[:, wanted[good]] = drawn[:, good]
            wanted = wanted[~good]
        return shape

    def _draw_redshifts(self, above: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return redshifts; z^β is a gamma variate. The few beyond the limit are folded back below it."""
        law = self.redshift
        scale = law["scale"] * np.exp(law["growth"] * above)
        z = scale * rng.gamma((1 + law["alpha"]) / law["beta"], size=len(above)) ** (1 / law["beta"])
        return np.asarray(np.where(z > _MAX_REDSHIFT, _MAX_REDSHIFT**2 / z, z))


def load_population() -> Population:
    """Return the population fitted to COSMOS and PAUS galaxies.

    Returns
    -------
    Population
        With the shipped parameters.
    """
    content = read_shipped("population")
    discs, spheroids = (Morphology(**_arrays(content[name])) for name in ("discs", "spheroids"))
    return Population(
        count_slope=content["count_slope"],
        spheroid=tuple(content["spheroid"]),
        components=(discs, spheroids),
        redshift=content["redshift"],
        ref_mag_std=content["ref_mag_std"],
        sed=SedFamily(**_arrays(content["sed"])),
    )


def read_shipped(key: str) -> dict[str, Any]:
    """Read one part of ``population.yaml``.

    Parameters
    ----------
    key : str
        Its name.

    Returns
    -------
    dict
        Plain data.
    """
    text = resources.files("lumos.simulate").joinpath("population.yaml").read_text(encoding="utf-8")
    return dict(parse_yaml(text, "population.yaml")[key])


def _arrays(content: dict[str, Any]) -> dict[str, Any]:
    return {name: np.array(value) if isinstance(value, list) else value for name, value in content.items()}
