"""What lies on the sky of a simulated survey, galaxies in groups and stars, and its light on a detector."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.wcs import WCS

from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import AB_ZEROPOINT_NJY, BoolArray, FloatArray, IntArray
from lumos.images.wcs import position_angle_to_pixel, sky_to_pixel
from lumos.profiles.scene import draw_light
from lumos.profiles.shapes import Shapes
from lumos.simulate.given import read_fluxes
from lumos.simulate.plan import PlannedExposure, detector_wcs, passband_of, random_stream
from lumos.simulate.population import Galaxies, load_population
from lumos.simulate.settings import SurveySimulation
from lumos.spectra.passbands import REFERENCE_PASSBAND, Passband

__all__ = ["Field", "clustered_positions", "draw_field", "field_light"]

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
    given : mapping of float array, shape (n,), or None
        Fluxes of the galaxies by band, nJy, in place of those of their own spectra.
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
    given: Mapping[str, FloatArray] | None = None

    def galaxy_flux(self, name: str, band: Passband) -> FloatArray:
        """Return the galaxies' fluxes in nJy.

        Parameters
        ----------
        name : str
            Name of the band, by which given fluxes are found.
        band : Passband
            Where to measure the spectra, if no fluxes are given.

        Returns
        -------
        float array, shape (n,)
            Total fluxes.
        """
        if self.given is not None:
            return self.given[name]
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
        galaxies = self.galaxies.take(seen)
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

    Raises
    ------
    LumosDataError
        If the table of given fluxes lacks a galaxy or a band, or a flux is negative or not finite.
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
    positions = clustered_positions(
        n, half, sky.clustered, sky.group_size, sky.group_radius / exposure.pixel_scale, rng
    )
    n_stars = round(rng.uniform(*sky.stars) * megapixels)
    wcs = _field_wcs(settings, exposure)
    ra, dec = wcs.wcs_pix2world(positions, 0).T
    star_ra, star_dec = wcs.wcs_pix2world(rng.uniform(-half, half, (n_stars, 2)), 0).T
    first = _IDS_PER_FIELD * exposure.field
    object_id = first + np.arange(1, n + 1)
    given = None if sky.fluxes is None else read_fluxes(Path(sky.fluxes), object_id, settings.bands)
    return Field(
        object_id=object_id,
        ra=ra,
        dec=dec,
        galaxies=galaxies,
        in_catalog=np.asarray(galaxies.ref_mag <= sky.catalog_limit),
        star_id=-(first + np.arange(1, n_stars + 1)),
        star_ra=star_ra,
        star_dec=star_dec,
        star_mag=_star_magnitudes(n_stars, sky.star_mag_range, sky.star_count_slope, rng),
        star_slope=rng.normal(0.8, 1.0, n_stars),
        given=given,
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


def clustered_positions(
    n: int, half: FloatArray, clustered: float, group_size: float, group_radius: float, rng: np.random.Generator
) -> FloatArray:
    """Draw positions, a share of them in groups.

    Parameters
    ----------
    n : int
        How many.
    half : float array, shape (2,)
        Half the sides of the field along x and y, pixels.
    clustered : float
        Share of the objects in groups.
    group_size : float
        Mean number of objects of a group.
    group_radius : float
        Mean distance from the centre of the group, pixels.
    rng : numpy.random.Generator
        The same state gives the same positions.

    Returns
    -------
    float array, shape (n, 2)
        x and y in pixels around the field's centre.
    """
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
    galaxies = field.galaxies.take(near)
    theta = position_angle_to_pixel(wcs, field.ra[near], field.dec[near], galaxies.position_angle)
    point = np.zeros(len(star_x))
    shapes = Shapes(
        x=np.concatenate([x[near], star_x]),
        y=np.concatenate([y[near], star_y]),
        half_light_radius=np.concatenate([galaxies.half_light_radius / exposure.pixel_scale, point]),
        sersic_n=np.concatenate([galaxies.sersic_n, point + 1]),
        axis_ratio=np.concatenate([galaxies.axis_ratio, point + 1]),
        theta=np.concatenate([theta, point]),
    )
    band = passband_of(settings, exposure.band)
    flux = np.concatenate([field.galaxy_flux(exposure.band, band)[near], field.star_flux(band)[star_near]])
    psf = exposure.psf_at(shapes.x, shapes.y, shape)
    noise = float(np.sqrt(exposure.sky + exposure.read_noise**2))
    light = draw_light(shapes, flux * to_electrons, psf, shape, noise)
    on = (star_x > -0.5) & (star_x < shape[1] - 0.5) & (star_y > -0.5) & (star_y < shape[0] - 0.5)
    return light, star_x[on], star_y[on]
