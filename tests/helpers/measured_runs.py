"""Small exposures with their catalogues, and runs of `measure` on them."""

import numpy as np
from astropy.io import fits

from helpers.fits_files import header
from lumos.catalogs.parent import ParentCatalog, write_parent
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.surveys import load_survey

SHAPE = (200, 220)


def write_exposure(path, rng, *, extensions=None, spoil=None, **cards):
    data = rng.normal(100, 5, SHAPE)
    if spoil is not None:
        spoil(data)
    primary = fits.PrimaryHDU(data.astype(">f4"), header(CRPIX1=110.5, CRPIX2=100.5, **cards))
    hdus = [primary, *(fits.ImageHDU(values, name=name) for name, values in (extensions or {}).items())]
    fits.HDUList(hdus).writeto(path)
    return path


def catalog_at(x, y, **columns):
    """Return a catalogue of objects at pixel positions of `write_exposure`'s images."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n = len(x)
    scale = 0.25 / 3600
    values = {
        "object_id": np.arange(1, n + 1),
        "ra": 150.0 - (x - 109.5) * scale / np.cos(np.deg2rad(2.0)),
        "dec": 2.0 + (y - 99.5) * scale,
        "half_light_radius": np.full(n, 0.5),
        "sersic_n": np.ones(n),
        "axis_ratio": np.full(n, 0.7),
        "position_angle": np.full(n, 30.0),
        "ref_mag": np.full(n, 21.0),
    }
    return ParentCatalog(**(values | columns))


def run(tmp_path, exposures, catalog, *, survey="generic", out="run", **options):
    if isinstance(catalog, ParentCatalog):
        write_parent(catalog, tmp_path / "parent.parquet")
        catalog = tmp_path / "parent.parquet"
    settings = options.pop("settings", MeasureSettings())
    return measure_run(exposures, catalog, tmp_path / out, load_survey(survey), settings, **options)
