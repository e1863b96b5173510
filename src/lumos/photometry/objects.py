"""Which catalogue objects lie on an exposure, and what they look like there, in pixels."""

from dataclasses import dataclass

import numpy as np
import torch

from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import AXIS_RATIO_RANGE, SERSIC_N_RANGE, AnyArray, BoolArray, FloatArray, IntArray
from lumos.estimators import ShapeErrors
from lumos.flags import DOUBTFUL, Flag
from lumos.images.exposure import Exposure
from lumos.images.wcs import pixel_jacobian, pixel_to_sky, sky_to_pixel, unit_vectors
from lumos.photometry.settings import CatalogErrors, MeasureSettings
from lumos.profiles.shapes import Shapes
from lumos.psfs import PSF_HALF_LIGHT

__all__ = ["PlacedObjects", "catalog_near", "on_image", "place_objects", "stamp_sizes"]

#: A stamp reaches this many half-light radii of the convolved profile from the centre, at least.
_STAMP_RADII = 2.0
#: A PSF wider than this, in pixels, is none.
_WIDEST_PSF = 60.0
#: Objects off the exposure, but within so many pixels of it, may still matter to those on it.
_AROUND = 1000
#: Errors beyond this say no more.
_LARGEST_ERROR = 10.0


@dataclass(frozen=True)
class PlacedObjects(Shapes):
    """Objects of a parent catalogue on one exposure, one entry per object.

    Parameters
    ----------
    x, y : float array, shape (n,)
        Position in 0-based pixels.
    half_light_radius : float array, shape (n,)
        Half-light radius along the major axis in pixels; 0 for a point source, 1 where the shape is bad.
    sersic_n, axis_ratio, theta : float array, shape (n,)
        Sérsic index, axis ratio, angle of the major axis from +x to +y in radians; 1, 1, 0 where bad or a point.
    catalog : ParentCatalog
        The objects on the exposure, n rows.
    psf_fwhm : float array, shape (n,)
        Pixels; NaN where unknown.
    semi_major, semi_minor : float array, shape (n,)
        Half-light ellipse of the convolved profile in pixels.
    stamp_size : int array, shape (n,)
        Side of the stamp that the object needs.
    flags : int array, shape (n,)
        Bits of :class:`lumos.flags.Flag` known before the pixels are looked at.
    shape_errors : ShapeErrors
        How well positions and shapes are known.
    """

    catalog: ParentCatalog
    psf_fwhm: FloatArray
    semi_major: FloatArray
    semi_minor: FloatArray
    stamp_size: AnyArray
    flags: AnyArray
    shape_errors: ShapeErrors

    @property
    def usable(self) -> BoolArray:
        """Return which objects have a shape and a PSF, bool array of shape (n,)."""
        return np.asarray((self.flags & int(Flag.BAD_SHAPE | Flag.NO_PSF)) == 0)


def catalog_near(exposure: Exposure, catalog: ParentCatalog) -> ParentCatalog:
    """Return the objects of a catalogue on an exposure and around it, read into memory.

    Parameters
    ----------
    exposure : Exposure
        Its footprint.
    catalog : ParentCatalog
        All objects, perhaps memory-mapped (:func:`lumos.catalogs.mapped.map_catalog`).

    Returns
    -------
    ParentCatalog
        Every object within 1000 pixels of the exposure, and some more, in catalogue order.
    """
    ny, nx = exposure.shape
    x, y = np.meshgrid(np.linspace(-0.5, nx - 0.5, 9), np.linspace(-0.5, ny - 0.5, 9))
    vectors = unit_vectors(*pixel_to_sky(exposure.wcs, x.ravel(), y.ravel()))
    centre_ra, centre_dec = pixel_to_sky(exposure.wcs, np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))
    centre = unit_vectors(centre_ra, centre_dec)[0]
    chord = float(np.nanmax(np.linalg.norm(vectors - centre, axis=1)))
    # Between the points of the frame the image bulges by far less than 2 per cent.
    around = np.sqrt(2) * _AROUND * exposure.pixel_scale / 3600
    radius = 1.02 * np.degrees(2 * np.arcsin(min(chord / 2, 1.0))) + around
    return catalog.near(float(centre_ra[0]), float(centre_dec[0]), float(radius))


def on_image(objects: Shapes, exposure: Exposure) -> IntArray:
    """Find the objects whose centre lies on a pixel of an image.

    Parameters
    ----------
    objects : Shapes
        n objects.
    exposure : Exposure
        The image.

    Returns
    -------
    int array
        Their numbers, ascending.
    """
    height, width = exposure.shape
    inside = (objects.x >= -0.5) & (objects.x < width - 0.5) & (objects.y >= -0.5) & (objects.y < height - 0.5)
    return np.flatnonzero(inside)


def place_objects(
    exposure: Exposure, catalog: ParentCatalog, settings: MeasureSettings, *, margin: float = 0.0
) -> PlacedObjects:
    """Select the objects inside an exposure's footprint and express their shapes in its pixels.

    The ellipse goes through the whole Jacobian of the WCS, so that pixels need not be square.

    Parameters
    ----------
    exposure : Exposure
        With a PSF.
    catalog : ParentCatalog
        All objects.
    settings : MeasureSettings
        Stamp sizes.
    margin : float
        Pixels by which an object may lie outside the image.

    Returns
    -------
    PlacedObjects
        Every object whose centre lies on a pixel of the exposure, or within the margin, in catalogue order.
    """
    assert exposure.psf is not None  # the caller refuses an exposure without a PSF
    x_all, y_all, inside = sky_to_pixel(exposure.wcs, catalog.ra, catalog.dec, exposure.shape, margin)
    here = catalog.take(inside)
    x, y = x_all[inside], y_all[inside]
    extended = here.shape_ok & ~here.is_point
    radius, axis_ratio, theta = _ellipses(
        pixel_jacobian(exposure.wcs, x, y),
        *(np.where(extended, v, 1.0) for v in (here.half_light_radius, here.axis_ratio, here.position_angle)),
    )
    # A radius that the largest stamp cannot hold is a failed fit; so is a place where the WCS breaks down.
    ok = here.shape_ok & ~(extended & ~(radius <= settings.max_stamp_size))
    extended &= ok
    radius = np.where(extended, radius, np.where(ok, 0.0, 1.0))
    axis_ratio = np.where(extended, axis_ratio, 1.0)
    psf_fwhm = exposure.psf.fwhm_at(x, y)
    has_psf = psf_fwhm <= _WIDEST_PSF
    psf_radius = PSF_HALF_LIGHT * np.where(has_psf, psf_fwhm, 1.0)
    semi_major = np.hypot(radius, psf_radius)
    flags: AnyArray = np.where(ok, 0, int(Flag.BAD_SHAPE)) | np.where(has_psf, 0, int(Flag.NO_PSF))
    stamp_size = stamp_sizes(semi_major, settings)
    flags |= np.where(2 * _STAMP_RADII * semi_major > stamp_size, int(Flag.TRUNCATED_PROFILE), 0)
    if here.flags is not None:
        flags |= np.where(here.flags & int(DOUBTFUL), int(Flag.DOUBTFUL_SHAPE), 0)
    if exposure.exposure_id in catalog.made_from:
        flags |= int(Flag.CATALOG_EXPOSURE)
    return PlacedObjects(
        catalog=here,
        x=x,
        y=y,
        half_light_radius=radius,
        sersic_n=np.where(extended, here.sersic_n, 1.0),
        axis_ratio=axis_ratio,
        theta=np.where(extended, theta, 0.0),
        psf_fwhm=psf_fwhm,
        semi_major=semi_major,
        semi_minor=np.hypot(radius * axis_ratio, psf_radius),
        stamp_size=stamp_size,
        flags=flags,
        shape_errors=_shape_errors(here, radius, semi_major, exposure.pixel_scale, settings.catalog.errors),
    )


def _shape_errors(
    catalog: ParentCatalog, radius: FloatArray, semi_major: FloatArray, pixel_scale: float, settings: CatalogErrors
) -> ShapeErrors:
    """Return the errors of shapes as far as they matter after the PSF; of the run where the catalogue states none."""

    def known(stated: FloatArray | None, otherwise: FloatArray) -> FloatArray:
        return otherwise if stated is None else np.where(np.isfinite(stated), stated, otherwise)

    extended = radius > 0
    own_radius, index = (
        np.where(extended & catalog.shape_ok, v, 1.0) for v in (catalog.half_light_radius, catalog.sersic_n)
    )
    share = (radius / semi_major) ** 2
    size = known(catalog.half_light_radius_err, settings.half_light_radius * own_radius)
    values = {
        "size": size / own_radius * share,
        "index": known(catalog.sersic_n_err, settings.sersic_n * index) / np.maximum(index, SERSIC_N_RANGE[0]) * share,
        "ratio": known(catalog.axis_ratio_err, np.full(len(catalog), settings.axis_ratio)) * share,
        "position": known(catalog.position_err, np.full(len(catalog), settings.position)) / pixel_scale / semi_major,
    }
    return ShapeErrors(**{name: torch.from_numpy(np.minimum(v, _LARGEST_ERROR)).float() for name, v in values.items()})


def _ellipses(
    jacobian: FloatArray, radius: FloatArray, axis_ratio: FloatArray, position_angle: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Bring ellipses on the sky (arcsec, ratio, degrees east of north) to pixels (pixels, ratio, radians).

    With the unit circle's images A on the sky and J from pixels to the sky, the ellipse in pixels is that of
    J^-1 A; its axes are the singular vectors. NaN where the Jacobian is not finite and regular.
    """
    known = np.isfinite(jacobian).all(axis=(1, 2)) & (np.abs(np.linalg.det(jacobian)) > 0)
    to_pixel = np.linalg.inv(np.where(known[:, None, None], jacobian, np.eye(2)))
    sin, cos = np.sin(np.deg2rad(position_angle)), np.cos(np.deg2rad(position_angle))
    unit = np.array([[sin, cos * axis_ratio], [cos, -sin * axis_ratio]]).transpose(2, 0, 1)
    vectors, sizes, _ = np.linalg.svd(to_pixel @ unit)
    with np.errstate(over="ignore"):
        semi_major = np.where(known, radius * sizes[:, 0], np.nan)
    ratio = np.clip(sizes[:, 1] / sizes[:, 0], *AXIS_RATIO_RANGE)
    return semi_major, ratio, np.arctan2(vectors[:, 1, 0], vectors[:, 0, 0])


def stamp_sizes(semi_major: FloatArray, settings: MeasureSettings) -> AnyArray:
    """Return the side of each object's stamp: the standard one, doubled until the object fits.

    Parameters
    ----------
    semi_major : float array, shape (n,)
        Half-light radii of the convolved profiles along the major axis, pixels.
    settings : MeasureSettings
        Standard and largest side.

    Returns
    -------
    int array, shape (n,)
        Pixels.
    """
    doublings = np.ceil(np.log2(np.maximum(2 * _STAMP_RADII * semi_major / settings.stamp_size, 1)))
    most = np.floor(np.log2(max(settings.max_stamp_size / settings.stamp_size, 1)))
    return (settings.stamp_size * 2 ** np.minimum(doublings, most)).astype(np.int64)
