"""Galaxies of simulated frames: light that is no Sérsic profile, and what a catalogue with errors says of it."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import gammainc, gammaincinv

from lumos.conventions import AXIS_RATIO_RANGE, SERSIC_N_RANGE, FloatArray
from lumos.profiles.scene import draw_light
from lumos.profiles.shapes import Shapes
from lumos.psfs import PSF_HALF_LIGHT, Psf
from lumos.rows import Rowwise
from lumos.simulate.field import clustered_positions
from lumos.simulate.population import Galaxies, Population
from lumos.teahupoo.settings import CatalogScatter, StampSettings
from lumos.teahupoo.simulator import deviating_shapes
from lumos.training.grounds import Ground

__all__ = ["FrameGalaxies", "catalogued", "count_fluxes", "draw_galaxies", "draw_stars", "error_growth"]

#: Galaxies per million pixels; share in groups, mean members, range of the groups' radii in pixels.
_DENSITY, _CLUSTERED, _GROUP_SIZE, _GROUP_RADIUS = (400.0, 6000.0), 0.6, 8.0, (3.0, 25.0)
#: FWHM in pixels above which there are fewer, as the PSF covers more.
_THINNED = 4.0
#: Counts go as this power of the flux between these errors.
_COUNTS, _FLUXES = -1.7, (0.2, 3000.0)
#: Stars per million pixels at most, and their fluxes in errors.
_STARS, _STAR_FLUXES = 150.0, (5.0, 1e5)
#: Shares of galaxies with clumps, and with a bulge of another shape; the clumps of a galaxy, and their light.
_CLUMPY, _BULGED, _CLUMPS, _CLUMP_LIGHT = 0.25, 0.25, 3, (0.1, 0.35)
#: Share of point sources.
_POINTS = 0.06
#: Light of the bulge, its radius over the disc's, its index.
_BULGE_LIGHT, _BULGE_RADIUS, _BULGE_INDEX = (0.1, 0.5), (0.25, 0.6), (1.5, 4.0)
#: Shares of frames with a catalogue that is exact, and with one that states one error for all objects.
_EXACT, _ONE_ERROR = 0.25, 0.35
#: Galaxies that overlap with one, itself among them, and the least part of a profile that is its own.
_NEAREST, _SEPARABLE = 9, 1e-3
#: By how much a bulge raises the index of the profile that a catalogue fits, over its light and its own index.
_INDEX_OF_BULGE = 0.18


@dataclass(frozen=True)
class FrameGalaxies(Rowwise):
    """Galaxies of a frame: Sérsic profiles as a good catalogue has them, and the light that they really have.

    Parameters
    ----------
    shapes : Shapes
        n galaxies, on the pixels of the frame.
    flux_scale : float array, shape (n,)
        About the error of each flux.
    components : tuple of Shapes
        Profiles that make the light, each with one entry per galaxy.
    shares : float array, shape (n, components)
        Light of each, which sum to 1.
    drawn : Galaxies
        What the population says of them.
    """

    shapes: Shapes
    flux_scale: FloatArray
    components: tuple[Shapes, ...]
    shares: FloatArray
    drawn: Galaxies

    def light(self, flux: FloatArray, psf: Psf, shape: tuple[int, int], noise: float) -> FloatArray:
        """Draw the galaxies.

        Parameters
        ----------
        flux : float array, shape (n,)
            Total fluxes; negative ones are taken away.
        psf : MoffatPsf or PixelPsf
            One for all.
        shape : tuple of int
            (ny, nx) of the frame.
        noise : float
            Of a pixel.

        Returns
        -------
        float array, shape (ny, nx)
            Their light.
        """
        total = np.zeros(shape)
        for sign in (1, -1):
            parts, fluxes = [], []
            for component, share in zip(self.components, self.shares.T, strict=True):
                rows = np.flatnonzero((share > 0) & (sign * flux > 0))
                parts.append(component.take(rows))
                fluxes.append(np.abs(flux[rows]) * share[rows])
            total += sign * draw_light(Shapes.concatenate(parts), np.concatenate(fluxes), psf, shape, noise)
        return total


def draw_galaxies(
    population: Population,
    settings: StampSettings,
    ground: Ground,
    margin: float,
    rng: np.random.Generator,
) -> FrameGalaxies:
    """Draw the galaxies of a frame.

    Parameters
    ----------
    population : Population
        Sizes and shapes.
    settings : StampSettings
        Their magnitudes.
    ground : Ground
        What they are put on.
    margin : float
        How far outside the frame there are galaxies, pixels.
    rng : numpy.random.Generator
        The same state gives the same galaxies.

    Returns
    -------
    FrameGalaxies
        In groups and alone.
    """
    side, fwhm = ground.side, ground.fwhm
    half = np.full(2, side / 2 + margin)
    # With wide PSFs, too, some galaxies shall be alone.
    thinner = min(1.0, (_THINNED / fwhm) ** 2)
    n = max(2, round(thinner * np.exp(rng.uniform(*np.log(_DENSITY))) * np.prod(2 * half) / 1e6))
    drawn = population.draw(n, rng, settings.mag_range)
    group = np.exp(rng.uniform(np.log(_GROUP_RADIUS[0]), np.log(_GROUP_RADIUS[1])))
    x, y = (clustered_positions(n, half, _CLUSTERED * rng.uniform(), _GROUP_SIZE, group, rng) + side / 2 - 0.5).T
    radius = np.minimum(drawn.half_light_radius / ground.pixel_scale, settings.stamp_size / 2)
    kind = rng.uniform(size=n)
    is_point = kind > 1 - _POINTS
    smooth = Shapes(
        x=x,
        y=y,
        half_light_radius=np.where(is_point, 0.0, radius),
        sersic_n=drawn.sersic_n,
        axis_ratio=drawn.axis_ratio,
        theta=rng.uniform(0, np.pi, n),
    )
    clumpy, bulged = kind < _CLUMPY, (kind >= _CLUMPY) & (kind < _CLUMPY + _BULGED)
    bulge, bulge_share = _bulge(smooth, rng), np.where(bulged, rng.uniform(*_BULGE_LIGHT, n), 0.0)
    clump_light = np.where(clumpy, rng.uniform(*_CLUMP_LIGHT, n), 0.0)
    clump_shares = clump_light[:, None] * rng.dirichlet(np.full(_CLUMPS, 2.0), n)
    shares = np.column_stack([1 - bulge_share - clump_light, bulge_share, clump_shares])
    shapes = _as_one(smooth, bulge, bulge_share)
    semi_major, semi_minor = (
        np.hypot(shapes.half_light_radius * ratio, PSF_HALF_LIGHT * fwhm) for ratio in (1.0, shapes.axis_ratio)
    )
    # The noise-equivalent area of a Gaussian of that half-light ellipse.
    scale = ground.noise * np.sqrt(4 * np.pi * semi_major * semi_minor / (2 * np.log(2)))
    components = (smooth, bulge, *(_clump(smooth, rng) for _ in range(_CLUMPS)))
    return FrameGalaxies(shapes, scale, components, shares, drawn)


def _bulge(disc: Shapes, rng: np.random.Generator) -> Shapes:
    """Return a rounder, smaller profile in the middle of each disc."""
    n = len(disc)
    return Shapes(
        x=disc.x,
        y=disc.y,
        half_light_radius=disc.half_light_radius * rng.uniform(*_BULGE_RADIUS, n),
        sersic_n=rng.uniform(*_BULGE_INDEX, n),
        axis_ratio=1 - (1 - disc.axis_ratio) * rng.uniform(0, 0.7, n),
        theta=disc.theta + rng.normal(0, 0.3, n),
    )


def _clump(smooth: Shapes, rng: np.random.Generator) -> Shapes:
    """Return a point in each galaxy, as often anywhere as the galaxy's light is there."""
    n = len(smooth)
    share = rng.uniform(0, 0.99, n)
    scale = gammaincinv(2 * smooth.sersic_n, 0.5)
    radius = smooth.half_light_radius * (gammaincinv(2 * smooth.sersic_n, share) / scale) ** smooth.sersic_n
    angle = rng.uniform(0, 2 * np.pi, n)
    along, across = radius * np.cos(angle), radius * smooth.axis_ratio * np.sin(angle)
    cos, sin = np.cos(smooth.theta), np.sin(smooth.theta)
    return Shapes.points(smooth.x + along * cos - across * sin, smooth.y + along * sin + across * cos)


def _as_one(disc: Shapes, bulge: Shapes, share: FloatArray) -> Shapes:
    """Return the Sérsic profiles that a catalogue has for discs with bulges: with the half-light radius of both."""
    narrow = np.maximum(disc.half_light_radius, 1e-6)
    wide = np.maximum(bulge.half_light_radius, 1e-6) * np.sqrt(bulge.axis_ratio / disc.axis_ratio)
    scales = [gammaincinv(2 * part.sersic_n, 0.5) for part in (disc, bulge)]
    low, high = np.minimum(wide, narrow), np.maximum(wide, narrow)
    for _ in range(24):
        middle = (low + high) / 2
        inside = (1 - share) * gammainc(
            2 * disc.sersic_n, scales[0] * (middle / narrow) ** (1 / disc.sersic_n)
        ) + share * gammainc(2 * bulge.sersic_n, scales[1] * (middle / wide) ** (1 / bulge.sersic_n))
        low, high = np.where(inside < 0.5, middle, low), np.where(inside < 0.5, high, middle)
    has = share > 0
    index = disc.sersic_n + _INDEX_OF_BULGE * share * bulge.sersic_n
    ratio = (1 - share) * disc.axis_ratio + share * bulge.axis_ratio
    return Shapes(
        x=disc.x,
        y=disc.y,
        half_light_radius=np.where(has, (low + high) / 2, disc.half_light_radius),
        sersic_n=np.where(has, np.clip(index, *SERSIC_N_RANGE), disc.sersic_n),
        axis_ratio=np.where(has, np.clip(ratio, *AXIS_RATIO_RANGE), disc.axis_ratio),
        theta=disc.theta,
    )


def error_growth(shapes: Shapes, fwhm: float) -> FloatArray:
    """Return by how much larger the errors of fluxes are in a joint fit, where all overlap as Gaussians do.

    Parameters
    ----------
    shapes : Shapes
        n galaxies.
    fwhm : float
        Of the PSF, pixels.

    Returns
    -------
    float array, shape (n,)
        1 for a galaxy that is alone; of galaxies in a crowd the nearest few count.
    """
    k = min(_NEAREST, len(shapes))
    places = np.column_stack([shapes.x, shapes.y])
    rows = cKDTree(places).query(places, k)[1].reshape(len(shapes), k)
    psf = PSF_HALF_LIGHT * fwhm
    variance = np.hypot(shapes.half_light_radius, psf) * np.hypot(shapes.half_light_radius * shapes.axis_ratio, psf)
    variance = variance[rows] / (2 * np.log(2))
    both = variance[:, :, None] + variance[:, None, :]
    distance2 = ((places[rows][:, :, None] - places[rows][:, None, :]) ** 2).sum(axis=-1)
    overlap = 2 * np.sqrt(variance[:, :, None] * variance[:, None, :]) / both * np.exp(-0.5 * distance2 / both)
    return np.sqrt(np.linalg.inv(overlap + _SEPARABLE * np.eye(k))[:, 0, 0])


def count_fluxes(n: int, rng: np.random.Generator) -> FloatArray:
    """Draw fluxes in units of their errors from counts that fall with the flux.

    Parameters
    ----------
    n : int
        How many.
    rng : numpy.random.Generator
        The same state gives the same fluxes.

    Returns
    -------
    float array, shape (n,)
        Many faint and few bright ones.
    """
    low, high = (flux ** (1 + _COUNTS) for flux in _FLUXES)
    return np.asarray((low + (high - low) * rng.uniform(size=n)) ** (1 / (1 + _COUNTS)))


def draw_stars(
    fwhm: float, noise: float, frame: tuple[int, int], rng: np.random.Generator
) -> tuple[Shapes, FloatArray]:
    """Draw the stars of a frame.

    Parameters
    ----------
    fwhm : float
        Of the PSF, pixels.
    noise : float
        Of a blank pixel.
    frame : tuple of int
        Side of the frame, and how far outside there are stars; pixels.
    rng : numpy.random.Generator
        The same state gives the same stars.

    Returns
    -------
    stars : Shapes
        n points on the pixels of the frame.
    flux : float array, shape (n,)
        Even in the logarithm.
    """
    side, margin = frame
    n = rng.poisson(_STARS * rng.uniform() * (side + 2 * margin) ** 2 / 1e6)
    x, y = rng.uniform(-margin, side + margin, (2, n))
    error = noise * np.sqrt(4 * np.pi / (2 * np.log(2))) * PSF_HALF_LIGHT * fwhm
    return Shapes.points(x, y), error * np.exp(rng.uniform(np.log(_STAR_FLUXES[0]), np.log(_STAR_FLUXES[1]), n))


def catalogued(
    galaxies: FrameGalaxies, scatter: CatalogScatter, fwhm: float, rng: np.random.Generator
) -> tuple[Shapes, FloatArray]:
    """Return what a catalogue with errors says of galaxies.

    Parameters
    ----------
    galaxies : FrameGalaxies
        n galaxies.
    scatter : CatalogScatter
        Errors of the catalogue of an average frame; the centre's in pixels for a PSF of 4 pixels.
    fwhm : float
        Of the PSF, pixels.
    rng : numpy.random.Generator
        The same state gives the same catalogue.

    Returns
    -------
    shapes : Shapes
        n galaxies.
    errors : float array, shape (4, n)
        Stated errors: of radius and index over these, of axis ratio, of the position in pixels.
    """
    n = len(galaxies)
    level = 0.0 if rng.uniform() < _EXACT else float(np.exp(rng.normal(0, 0.6)))
    widths = level * np.array(
        [scatter.half_light_radius, scatter.sersic_n, scatter.axis_ratio, scatter.centre * fwhm / 4]
    )
    factor = np.exp(scatter.spread * rng.standard_normal(n).clip(-3, 3))
    errors = widths[:, None] * factor
    x, y, radius, index, ratio, angle = rng.standard_normal((6, n))
    turn = level * np.deg2rad(scatter.angle) * factor
    deviations = (errors[0] * radius, errors[1] * index, errors[2] * ratio, turn * angle, errors[3] * x, errors[3] * y)
    shapes = deviating_shapes(galaxies.shapes, np.stack(deviations))
    if rng.uniform() < _ONE_ERROR:
        errors = np.broadcast_to(widths[:, None] * np.exp(rng.normal(0, 0.3)), errors.shape)
    return shapes, errors
