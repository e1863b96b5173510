"""A small set of simulated exposures with truth: galaxies, stars, sky, noise, masks, written as FITS."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.wcs import WCS

from lumos.catalogs.parent import ParentCatalog, write_parent
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, Float32Array, FloatArray
from lumos.flags import MaskPlane
from lumos.profiles.sersic import render_sersic
from lumos.psf import MoffatPsf

__all__ = ["DemoSurvey", "simulate_demo"]

#: Reference magnitudes of the galaxies and the slope of their counts per magnitude (dex).
_MAG_RANGE = (17.5, 23.0)
_COUNT_SLOPE = 0.3
#: Side of the image of a galaxy, large enough for the wings of the largest.
_DRAWN = 192
_SATURATION = 60_000.0


@dataclass(frozen=True)
class DemoSurvey:
    """What the demonstration exposures look like.

    Parameters
    ----------
    n_exposures, n_galaxies, n_stars : int
        How many.
    side : int
        Pixels along each side of an exposure.
    pixel_scale : float
        Arcsec per pixel.
    zeropoint : float
        AB magnitude of one electron per second.
    exposure_time : float
        Seconds.
    gain, read_noise : float
        Electrons per image unit; electrons per pixel.
    sky : float
        Image units per pixel.
    beta : float
        Moffat exponent of the PSF.
    """

    n_exposures: int = 3
    n_galaxies: int = 600
    n_stars: int = 40
    side: int = 1024
    pixel_scale: float = 0.263
    zeropoint: float = 23.6
    exposure_time: float = 100.0
    gain: float = 2.0
    read_noise: float = 6.0
    sky: float = 60.0
    beta: float = 4.765


def simulate_demo(out: Path, *, seed: int = 1, survey: DemoSurvey | None = None) -> list[Path]:
    """Write simulated exposures, their parent catalogue and the truth.

    Parameters
    ----------
    out : Path
        Folder; gets ``exposures/*.fits``, ``parent.parquet`` and ``truth.parquet``.
    seed : int, optional
        The same seed gives the same files.
    survey : DemoSurvey, optional
        What the exposures look like.

    Returns
    -------
    list of Path
        The exposures.
    """
    survey = survey or DemoSurvey()
    rng = np.random.default_rng(seed)
    (out / "exposures").mkdir(parents=True, exist_ok=True)
    wcs = _wcs(survey, (0.0, 0.0))
    galaxies, flux = _draw_galaxies(survey, wcs, rng)
    stars = rng.uniform(0, survey.side, (survey.n_stars, 2)), 10 ** rng.uniform(2.5, 5.7, survey.n_stars)
    write_parent(galaxies, out / "parent.parquet")
    paths = []
    for number in range(survey.n_exposures):
        offset = rng.uniform(-20, 20, 2)
        hdus = _expose(survey, galaxies, flux, wcs.wcs_pix2world(stars[0], 0), stars[1], offset, rng)
        paths.append(out / "exposures" / f"demo_{number + 1}.fits")
        hdus[0].header["EXPOSURE"] = paths[-1].stem
        hdus.writeto(paths[-1], overwrite=True, checksum=True)
    truth = pa.table({"object_id": galaxies.object_id, "flux": flux, "ref_mag": galaxies.ref_mag})
    pq.write_table(truth, out / "truth.parquet", write_page_checksum=True)
    return paths


def _wcs(survey: DemoSurvey, offset: FloatArray | tuple[float, float]) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.1, 2.2]
    wcs.wcs.crpix = [(survey.side + 1) / 2 + offset[0], (survey.side + 1) / 2 + offset[1]]
    angle = np.deg2rad(12.0)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    wcs.wcs.cd = survey.pixel_scale / 3600 * np.diag([-1.0, 1.0]) @ rotation
    wcs.wcs.set()
    return wcs


def _draw_galaxies(survey: DemoSurvey, wcs: WCS, rng: np.random.Generator) -> tuple[ParentCatalog, FloatArray]:
    """Draw a parent catalogue with COSMOS-like sizes, and fluxes in nJy that scatter about the reference band."""
    n = survey.n_galaxies
    bright, faint = (10 ** (_COUNT_SLOPE * magnitude) for magnitude in _MAG_RANGE)
    mag = np.log10(rng.uniform(bright, faint, n)) / _COUNT_SLOPE
    ra, dec = wcs.wcs_pix2world(rng.uniform(0, survey.side, (n, 2)), 0).T
    spheroid = rng.uniform(size=n) < 0.25
    catalog = ParentCatalog(
        object_id=np.arange(1, n + 1),
        ra=ra,
        dec=dec,
        half_light_radius=np.clip(10 ** (-0.16 - 0.11 * (mag - 21) + rng.normal(0, 0.2, n)), 0.05, 4),
        sersic_n=np.clip(np.where(spheroid, 3.5, 1.1) * 10 ** rng.normal(0, 0.12, n), 0.35, 6),
        axis_ratio=np.clip(rng.beta(3, 2, n), 0.12, 1),
        position_angle=rng.uniform(0, 180, n),
        ref_mag=mag,
    )
    colour = 0.6 + rng.normal(0, 0.3, n)
    return catalog, 10 ** (0.4 * (AB_ZEROPOINT_NJY - mag - colour))


def _expose(
    survey: DemoSurvey,
    galaxies: ParentCatalog,
    flux: FloatArray,
    stars_sky: FloatArray,
    stars_counts: FloatArray,
    offset: FloatArray,
    rng: np.random.Generator,
) -> fits.HDUList:
    """Take one exposure."""
    wcs = _wcs(survey, offset)
    fwhm = float(np.clip(rng.lognormal(np.log(0.95), 0.15), 0.7, 1.6)) / survey.pixel_scale
    zeropoint = survey.zeropoint + 2.5 * np.log10(survey.exposure_time / survey.gain) + rng.normal(0, 0.03)
    electrons = _scene(survey, galaxies, flux, zeropoint, wcs, fwhm)
    x, y = wcs.wcs_world2pix(stars_sky, 0).T
    electrons += _points(survey, x, y, stars_counts, fwhm)
    counted = rng.poisson(electrons * survey.gain + survey.sky * survey.gain * _gradient(survey, rng))
    image = (counted + rng.normal(0, survey.read_noise, counted.shape)) / survey.gain
    mask = _spoil(image, rng)
    header = wcs.to_header()
    header["FILTER"] = "r"
    header["EXPTIME"] = survey.exposure_time
    header["GAIN"] = survey.gain
    header["RDNOISE"] = survey.read_noise
    header["MAGZERO"] = round(zeropoint, 5)
    header["MAGZERR"] = 0.005
    header["SEEING"] = round(fwhm * survey.pixel_scale, 5)
    return fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(image.astype(np.float32), header, name="SCI"),
            fits.ImageHDU(mask, name="MASK"),
        ]
    )


def _scene(
    survey: DemoSurvey, galaxies: ParentCatalog, flux: FloatArray, zeropoint: float, wcs: WCS, fwhm: float
) -> FloatArray:
    """Return the galaxies' light in image units."""
    x, y = wcs.wcs_world2pix(np.column_stack([galaxies.ra, galaxies.dec]), 0).T
    # North is 12 degrees from +y, and east lies to the left: see _wcs.
    theta = np.deg2rad(galaxies.position_angle + 90.0 - 12.0)
    counts = flux * 10 ** (0.4 * (zeropoint - AB_ZEROPOINT_NJY))
    column, row = np.rint(x).astype(int) - _DRAWN // 2, np.rint(y).astype(int) - _DRAWN // 2
    images = render_sersic(
        galaxies.half_light_radius / survey.pixel_scale,
        galaxies.sersic_n,
        galaxies.axis_ratio,
        theta,
        x - column,
        y - row,
        MoffatPsf(np.array([fwhm]), np.array([survey.beta])),
        size=_DRAWN,
    ).numpy()
    return _add(survey.side, images, column, row, counts)


def _points(survey: DemoSurvey, x: FloatArray, y: FloatArray, counts: FloatArray, fwhm: float) -> FloatArray:
    """Return the stars' light in image units."""
    one, zero = np.ones(len(x)), np.zeros(len(x))
    column, row = np.rint(x).astype(int) - _DRAWN // 2, np.rint(y).astype(int) - _DRAWN // 2
    psf = MoffatPsf(np.array([fwhm]), np.array([survey.beta]))
    images = render_sersic(zero, one, one, zero, x - column, y - row, psf, size=_DRAWN).numpy()
    return _add(survey.side, images, column, row, counts)


def _add(side: int, images: Float32Array, column: AnyArray, row: AnyArray, counts: FloatArray) -> FloatArray:
    """Add stamps into an image of ``side`` pixels."""
    total = np.zeros((side + 2 * _DRAWN, side + 2 * _DRAWN))
    for image, x0, y0, count in zip(images, column + _DRAWN, row + _DRAWN, counts, strict=True):
        if 0 <= x0 <= side + _DRAWN and 0 <= y0 <= side + _DRAWN:
            total[y0 : y0 + _DRAWN, x0 : x0 + _DRAWN] += count * np.maximum(image, 0)
    return total[_DRAWN:-_DRAWN, _DRAWN:-_DRAWN]


def _gradient(survey: DemoSurvey, rng: np.random.Generator) -> FloatArray:
    """Return the sky relative to its mean: a slope of a few per cent over the CCD."""
    y, x = np.mgrid[: survey.side, : survey.side] / survey.side - 0.5
    slope_x, slope_y = rng.normal(0, 0.03, 2)
    return np.asarray(1 + slope_x * x + slope_y * y)


def _spoil(image: FloatArray, rng: np.random.Generator) -> AnyArray:
    """Saturate, kill a column and add cosmic rays in place; return the mask."""
    mask = np.zeros(image.shape, dtype=np.int32)
    saturated = image > _SATURATION
    image[saturated] = _SATURATION
    mask[saturated] |= int(MaskPlane.SATURATED)
    column = int(rng.integers(image.shape[1]))
    image[:, column] = 0
    mask[:, column] |= int(MaskPlane.BAD)
    for y, x, angle in zip(*rng.uniform(0, image.shape[0], (2, 40)), rng.uniform(0, np.pi, 40), strict=True):
        steps = np.arange(int(rng.integers(2, 14)))
        rows = np.clip((y + steps * np.sin(angle)).astype(int), 0, image.shape[0] - 1)
        columns = np.clip((x + steps * np.cos(angle)).astype(int), 0, image.shape[1] - 1)
        image[rows, columns] += rng.uniform(200, 3000)
        mask[rows, columns] |= int(MaskPlane.COSMIC_RAY)
    return mask
