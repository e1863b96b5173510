"""ExposureF files as the LSST pipelines write them: three images, an index of objects, tables of their rows."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from helpers.fits_files import wcs_cards

#: Corner of the image in the image that it is a part of.
ORIGIN = (300, 1200)
_PLANES = ("BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "SUSPECT", "NO_DATA")


def part_of(origin) -> dict:
    """Return the linear WCS of an image whose first pixel lies at ``origin`` of the whole."""
    named = {"CTYPE": "LINEAR", "CRPIX": 1}
    cards = {f"{key}{axis}A": value for key, value in named.items() for axis in "12"}
    return cards | {f"CRVAL{axis}A": value for axis, value in zip("12", origin, strict=True)}


def column(name, value):
    """Return a column of one row; text, one number or an array of them."""
    if isinstance(value, str):
        return fits.Column(name, f"{max(len(value), 1)}A", array=np.array([value]))
    values = np.atleast_1d(value)
    code = {"i": "J", "f": "D" if values.dtype.itemsize == 8 else "E", "b": "X"}[values.dtype.kind]
    return fits.Column(name, f"{values.size}{code}", array=values[None])


def kernel(image):
    """Return the row of a FixedKernel."""
    height, width = image.shape
    return {
        "dimensions_x": width,
        "dimensions_y": height,
        "center_x": width // 2,
        "center_y": height // 2,
        "image": image.ravel(),
    }


def psfex(basis, degree, offset, scale, sampling=1.0):
    """Return the two rows of a PsfexPsf of a basis of shape (n, height, width)."""
    n, height, width = basis.shape
    sizes = {"ndim": 2, "ngroup": 1, "ncoeff": n, "_size_size": 3, "_comp_size": basis.size, "_context_size": 2}
    sizes |= {"averagePosition_x": 0.0, "averagePosition_y": 0.0, "_pixstep": np.float32(sampling)}
    content = {"group": np.array([0, 0]), "degree": degree, "basis": np.zeros(n), "coeff": np.zeros(n)}
    content |= {"_size": np.array([width, height, n]), "_comp": basis.astype(np.float32).ravel()}
    content |= {"_context_first": np.array(offset, float), "_context_second": np.array(scale, float)}
    return [sizes, content]


def write_exposuref(path: Path, data, objects: dict, roles: dict, *, variance=4.0, dot="_", **cards) -> Path:
    """Write an ExposureF; ``objects`` are (class, rows) by number, ``roles`` numbers by keyword, as PSF_ID."""
    primary = fits.Header({"AR_HDU": 5, "EXPTIME": 30.0})
    for key, value in {**roles, **cards}.items():
        primary[key if len(key) <= 8 else f"HIERARCH {key}"] = value
    image = fits.Header({**wcs_cards(scale=0.2), "INHERIT": True, "LTV1": -ORIGIN[0], "LTV2": -ORIGIN[1]})
    image.update(part_of(ORIGIN))
    mask = image.copy()
    for bit, name in enumerate(_PLANES):
        mask[f"HIERARCH MP_{name}"] = bit
    hdus = [
        fits.PrimaryHDU(header=primary),
        fits.CompImageHDU(
            np.asarray(data, np.float32), image, name="IMAGE", compression_type="GZIP_1", quantize_level=0
        ),
        fits.CompImageHDU(np.zeros(data.shape, np.int32), mask, name="MASK"),
        fits.ImageHDU(np.full(data.shape, variance, np.float32), image, name="VARIANCE"),
    ]
    index, tables = [], []
    for number, (name, rows) in objects.items():
        for order, row in enumerate(rows):
            tables.append(fits.BinTableHDU.from_columns([column(*item) for item in row.items()]))
            tables[-1].header.update({"EXTTYPE": "ARCHIVE_DATA", "AR_CATN": len(tables), "AR_NAME": name})
            index.append((number, len(tables), order, 0, 1, name))
    names = ("id", f"cat{dot}archive", f"cat{dot}persistable", "row0", "nrows")
    columns = [fits.Column(one, "J", array=[row[i] for row in index]) for i, one in enumerate(names)]
    columns.append(fits.Column("name", "64A", array=[row[5] for row in index]))
    first = fits.BinTableHDU.from_columns(columns)
    first.header.update({"EXTTYPE": "ARCHIVE_INDEX", "AR_CATN": 0, "AR_NCAT": len(tables) + 1})
    fits.HDUList([*hdus, first, *tables]).writeto(path)
    return path
