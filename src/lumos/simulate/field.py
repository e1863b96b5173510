"""What lies on the sky of a simulated survey, galaxies in groups and stars, and its light on a detector."""

from dataclasses import dataclass

import numpy as np
import torch
from astropy.wcs import WCS
from scipy.special import gammaincinv, gammaln

from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, BoolArray, FloatArray, IntArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.images.wcs import position_angle_to_pixel, sky_to_pixel
from lumos.profiles.sersic import render_sersic
from lumos.psfs import MoffatPsf
from lumos.simulate.plan import PlannedExposure, detector_wcs, passband_of, random_stream
from lumos.simulate.population import Galaxies, load_population
from lumos.simulate.settings import SurveySimulation
from lumos.spectra.passbands import REFERENCE_PASSBAND, Passband

__all__ = ["Field", "Shapes", "draw_field", "draw_light", "field_light"]

#: Sides of the stamps that objects are drawn on; each gets the smallest that holds its visible light.
_SIZES = (48, 96, 192, 384, 768)
#: Brightness at the edge of a stamp that nobody sees, in units of the noise of a pixel.
_INVISIBLE = 0.02
#: Pixels of all stamps that are held at once.
_BATCH_PIXELS = 4_000_000
#: Pixels around the detectors on which there are galaxies too: they dither in, and their wings reach in.
_MARGIN = 60
#: Objects further than this from a detector send no visible light onto it, pixels.
_REACH = 200
#: Identifiers of the objects of field f begin after f times this.
_IDS_PER_FIELD = 1_000_000


@dataclass(frozen=True)
class Field:
    """Galaxies and stars of one field.

    Parameters
    ----------
    object_id : int array, shape (n,)
        Identifiers of the galaxies, positive.
    ra, dec : float array, shape (n,)
        Positions of the galaxies, degrees.
    galaxies : Galaxies
        Their shapes and spectra, n of them.
    in_catalog : bool array, shape (n,)
        Which of them the parent catalogue holds.
    star_id : int array, shape (n_stars,)
        Identifiers of the stars, negative.
    star_ra, star_dec, star_mag : float array, shape (n_stars,)
        Positions in degrees, reference AB magnitudes.
    star_slope : float array, shape (n_stars,)
        Slope of the logarithm of the stars' flux per unit frequency against that of the wavelength.
    """

    object_id: IntArray
    ra: FloatArray
    dec: FloatArray
    galaxies: Galaxies
    in_catalog: BoolArray
    star_id: IntArray
    star_ra: FloatArray
    star_dec: FloatArray
    star_mag: FloatArray
    star_slope: FloatArray

    def galaxy_flux(self, band: Passband) -> FloatArray:
        """Return the galaxies' fluxes in nJy.

        Parameters
        ----------
        band : Passband
            Where to measure.

        Returns
        -------
        float array, shape (n,)
            Total fluxes.
        """
        return self.galaxies.band_flux([band])[:, 0]

    def star_flux(self, band: Passband) -> FloatArray:
        """Return the stars' fluxes in nJy.

        Parameters
        ----------
        band : Passband
            Where to measure.

        Returns
        -------
        float array, shape (n_stars,)
            Total fluxes.
        """
        ratio = band.wavelength / REFERENCE_PASSBAND.wavelength
        return np.asarray(10 ** (0.4 * (AB_ZEROPOINT_NJY - self.star_mag)) * ratio**self.star_slope)

    def parent(self) -> ParentCatalog:
        """Return the parent catalogue: the galaxies that it holds.

        Returns
        -------
        ParentCatalog
            With the true shapes.
        """
        seen = self.in_catalog
        galaxies = self.galaxies[seen]
        return ParentCatalog(
            object_id=self.object_id[seen],
            ra=self.ra[seen],
            dec=self.dec[seen],
            half_light_radius=galaxies.half_light_radius,
            sersic_n=galaxies.sersic_n,
            axis_ratio=galaxies.axis_ratio,
            position_angle=galaxies.position_angle,
            ref_mag=galaxies.ref_mag,
        )


@dataclass(frozen=True)
class Shapes:
    """Objects on a detector, as the renderer takes them; a star is a galaxy of radius 0.

    Parameters
    ----------
    x, y : float array, shape (n,)
        Centres in 0-based pixels, on the detector or not.
    radius : float array, shape (n,)
        Half-light radius along the major axis, pixels.
    sersic_n, axis_ratio, theta : float array, shape (n,)
        Sérsic index; minor over major axis; angle from +x towards +y in radians.
    """

    x: FloatArray
    y: FloatArray
    radius: FloatArray
    sersic_n: FloatArray
    axis_ratio: FloatArray
    theta: FloatArray


def draw_field(settings: SurveySimulation, exposure: PlannedExposure) -> Field:
    """Draw the galaxies and stars that the exposures of a field can see.

    Parameters
    ----------
    settings : SurveySimulation
        Densities, clustering, the detectors' layout.
    exposure : PlannedExposure
        Any exposure of the field.

    Returns
    -------
    Field
        The same for every exposure of the field.
    """
    rng = random_stream(settings.seed, "field", exposure.field)
    sky = settings.sky
    rows, columns = settings.camera.shape
    width = settings.camera.detectors * (columns + settings.camera.gap) - settings.camera.gap
    half = np.array([width, rows]) / 2 + settings.dither + _MARGIN
    megapixels = float(np.prod(2 * half)) / 1e6
    population = load_population()
    density = float(np.exp(rng.uniform(*np.log(sky.galaxies))))
    n = round(density * megapixels / _share_in_catalog(sky.mag_range, sky.catalog_limit, population.count_slope))
    galaxies = population.draw(n, rng, sky.mag_range)
    positions = _positions(n, half, sky.clustered, sky.group_size, sky.group_radius / exposure.pixel_scale, rng)
    n_stars = round(rng.uniform(*sky.stars) * megapixels)
    wcs = _field_wcs(settings, exposure)
    ra, dec = wcs.wcs_pix2world(positions, 0).T
    star_ra, star_dec = wcs.wcs_pix2world(rng.uniform(-half, half, (n_stars, 2)), 0).T
    first = _IDS_PER_FIELD * exposure.field
    return Field(
        object_id=first + np.arange(1, n + 1),
        ra=ra,
        dec=dec,
        galaxies=galaxies,
        in_catalog=np.asarray(galaxies.ref_mag <= sky.catalog_limit),
        star_id=-(first + np.arange(1, n_stars + 1)),
        star_ra=star_ra,
        star_dec=star_dec,
        star_mag=_star_magnitudes(n_stars, sky.star_mag_range, sky.star_count_slope, rng),
        star_slope=rng.normal(0.8, 1.0, n_stars),
    )


def _share_in_catalog(mag_range: tuple[float, float], limit: float, slope: float) -> float:
    """Return the share of galaxies brighter than the catalogue's limit, for counts that go as 10^(slope m)."""
    bright, faint = mag_range
    return float((10 ** (slope * (min(limit, faint) - bright)) - 1) / (10 ** (slope * (faint - bright)) - 1))


def _field_wcs(settings: SurveySimulation, exposure: PlannedExposure) -> WCS:
    """Return a WCS whose pixel (0, 0) is the field's centre, aligned with the detectors."""
    wcs = detector_wcs(settings, exposure, 0)
    wcs.wcs.crpix = [1.0, 1.0]
    wcs.wcs.set()
    return wcs


def _positions(
    n: int, half: FloatArray, clustered: float, group_size: float, group_radius: float, rng: np.random.Generator
) -> FloatArray:
    """Return positions in pixels around the field's centre, shape (n, 2), a share of them in groups."""
    positions = rng.uniform(-half, half, (n, 2))
    member = rng.uniform(size=n) < clustered
    n_groups = max(1, round(member.sum() / group_size))
    centres = rng.uniform(-half, half, (n_groups, 2))
    # An exponential surface density: the radius is a gamma variate of shape 2, its mean twice the scale.
    radius = rng.gamma(2.0, group_radius / 2, n)
    angle = rng.uniform(0, 2 * np.pi, n)
    around = centres[rng.integers(n_groups, size=n)] + radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    # Members that fall off the field come in on the other side, so that the density stays.
    around = (around + half) % (2 * half) - half
    return np.where(member[:, None], around, positions)


def _star_magnitudes(n: int, span: tuple[float, float], slope: float, rng: np.random.Generator) -> FloatArray:
    bright, faint = span
    uniform = rng.uniform(size=n)
    if slope == 0 or faint == bright:
        return bright + (faint - bright) * uniform
    share = 10 ** (slope * (bright - faint))
    return np.asarray(faint + np.log10(share + (1 - share) * uniform) / slope)


def field_light(
    settings: SurveySimulation, exposure: PlannedExposure, detector: int, field: Field
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the light of a field on a detector, before noise.

    Parameters
    ----------
    settings : SurveySimulation
        Layout of the detectors.
    exposure : PlannedExposure
        PSF, zero point, exposure time.
    detector : int
        Number of the detector.
    field : Field
        What lies there.

    Returns
    -------
    light : float array, shape (ny, nx)
        Expected electrons.
    star_x, star_y : float array, shape (n_on,)
        Positions of the stars on the detector, pixels.
    """
    shape = settings.camera.shape
    wcs = detector_wcs(settings, exposure, detector)
    to_electrons = 10 ** (0.4 * (exposure.electrons_zeropoint - AB_ZEROPOINT_NJY))
    x, y, near = sky_to_pixel(wcs, field.ra, field.dec, shape, _REACH)
    star_x, star_y, star_near = sky_to_pixel(wcs, field.star_ra, field.star_dec, shape, _REACH)
    star_x, star_y = star_x[star_near], star_y[star_near]
    galaxies = field.galaxies[near]
    theta = position_angle_to_pixel(wcs, field.ra[near], field.dec[near], galaxies.position_angle)
    point = np.zeros(len(star_x))
    shapes = Shapes(
        x=np.concatenate([x[near], star_x]),
        y=np.concatenate([y[near], star_y]),
        radius=np.concatenate([galaxies.half_light_radius / exposure.pixel_scale, point]),
        sersic_n=np.concatenate([galaxies.sersic_n, point + 1]),
        axis_ratio=np.concatenate([galaxies.axis_ratio, point + 1]),
        theta=np.concatenate([theta, point]),
    )
    band = passband_of(settings, exposure.band)
    flux = np.concatenate([field.galaxy_flux(band)[near], field.star_flux(band)[star_near]])
    psf = exposure.psf_at(shapes.x, shapes.y, shape)
    noise = float(np.sqrt(exposure.sky + exposure.read_noise**2))
    light = draw_light(shapes, flux * to_electrons, psf, shape, noise)
    on = (star_x > -0.5) & (star_x < shape[1] - 0.5) & (star_y > -0.5) & (star_y < shape[0] - 0.5)
    return light, star_x[on], star_y[on]


def draw_light(shapes: Shapes, flux: FloatArray, psf: MoffatPsf, shape: tuple[int, int], noise: float) -> FloatArray:
    """Draw objects into an image, each on a stamp large enough for its visible light.

    Parameters
    ----------
    shapes : Shapes
        n objects.
    flux : float array, shape (n,)
        Total flux of each, electrons.
    psf : MoffatPsf
        Of n objects, or one for all.
    shape : tuple of int
        Shape of the image, (ny, nx).
    noise : float
        Noise of a pixel in electrons, against which light is visible or not.

    Returns
    -------
    float array, shape (ny, nx)
        Electrons.

    Raises
    ------
    LumosShapeError
        If the number of fluxes is not that of the objects.
    LumosValueError
        If a flux is negative or not finite.
    """
    if flux.shape != shapes.x.shape:
        raise LumosShapeError("fluxes to draw", flux.shape, shapes.x.shape)
    bad = ~(np.isfinite(flux) & (flux >= 0))
    if bad.any():
        raise LumosValueError(f"flux of object {int(np.flatnonzero(bad)[0])}", float(flux[bad][0]), "finite, 0 or more")
    image = torch.zeros(shape[0] * shape[1], dtype=torch.float64)
    sizes = _stamp_sizes(shapes, flux, psf, noise)
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        for rows in np.array_split(members, -(-len(members) * int(size) ** 2 // _BATCH_PIXELS)):
            _add_stamps(image, shape, shapes, flux, psf, rows, int(size))
    return np.asarray(image.view(shape).numpy())


def _add_stamps(
    image: torch.Tensor,
    shape: tuple[int, int],
    shapes: Shapes,
    flux: FloatArray,
    psf: MoffatPsf,
    rows: AnyArray,
    size: int,
) -> None:
    """Draw some objects on stamps of one size and add them to a flat image in place."""
    first_x = np.rint(shapes.x[rows]).astype(np.int64) - size // 2
    first_y = np.rint(shapes.y[rows]).astype(np.int64) - size // 2
    own_psf = psf if len(psf.fwhm) == 1 else MoffatPsf(psf.fwhm[rows], psf.beta[rows])
    stamps = render_sersic(
        shapes.radius[rows],
        shapes.sersic_n[rows],
        shapes.axis_ratio[rows],
        shapes.theta[rows],
        shapes.x[rows] - first_x,
        shapes.y[rows] - first_y,
        own_psf,
        size=size,
    )
    stamps = stamps.double() * torch.from_numpy(flux[rows])[:, None, None]
    steps = torch.arange(size)
    column, row = torch.from_numpy(first_x)[:, None] + steps, torch.from_numpy(first_y)[:, None] + steps
    inside = ((row >= 0) & (row < shape[0]))[:, :, None] & ((column >= 0) & (column < shape[1]))[:, None, :]
    pixel = row[:, :, None] * shape[1] + column[:, None, :]
    image.index_add_(0, pixel[inside], stamps[inside])


def _stamp_sizes(shapes: Shapes, flux: FloatArray, psf: MoffatPsf, noise: float) -> AnyArray:
    """Return the side of each object's stamp: beyond it galaxy and PSF are fainter than what is visible."""
    edge = np.array(_SIZES[:-1]) / 2.0
    brightness = flux[:, None] * (_sersic_brightness(shapes, edge) + _moffat_brightness(psf, edge))
    return np.asarray(np.array(_SIZES)[(brightness > _INVISIBLE * noise).sum(axis=1)])


def _sersic_brightness(shapes: Shapes, distance: FloatArray) -> FloatArray:
    """Return the brightness of unit flux along the major axis, shape (n, n_distances); 0 for stars."""
    n, radius = shapes.sersic_n[:, None], np.maximum(shapes.radius, 1e-3)[:, None]
    b = gammaincinv(2 * n, 0.5)
    log_norm = 2 * n * np.log(b) - gammaln(2 * n) - np.log(2 * np.pi * n * radius**2 * shapes.axis_ratio[:, None])
    return np.asarray(np.exp(log_norm - b * (distance / radius) ** (1 / n)))


def _moffat_brightness(psf: MoffatPsf, distance: FloatArray) -> FloatArray:
    """Return the brightness of a PSF of unit flux, shape (n or 1, n_distances)."""
    beta = psf.beta[:, None]
    alpha2 = (psf.fwhm[:, None] / 2) ** 2 / (2 ** (1 / beta) - 1)
    return np.asarray((beta - 1) / (np.pi * alpha2) * (1 + distance**2 / alpha2) ** -beta)
