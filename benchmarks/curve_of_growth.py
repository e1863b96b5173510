"""How much of a star's light lies within a circle: in the image, in its empirical PSF, and in its Moffat.

The stars that ``lumos psf`` fitted are summed by sep in circles around sep's own centres, over the clipped median of
the sky between 6 and 9 FWHM; the PSFs are drawn at the same places on the pixels. Each curve is divided by its value at
1 FWHM, where photometry is made, and is the median over isolated stars.

Usage: ``python benchmarks/curve_of_growth.py SURVEY PSF IMAGE...``, with PSF the folder of ``lumos psf`` on the images.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import sep
import torch
from astropy.stats import sigma_clip

from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.images.psf.table import read_psf_table
from lumos.images.reader import read_exposure
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import MoffatPsf, Psf
from lumos.sources.detect import Detections, detect
from lumos.surveys import load_survey

RADII = np.array([0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0])
#: Where the sky is, where nothing else may be detected, and what is left free to the edge, FWHM.
SKY, ALONE, EDGE = (6.0, 9.0), 4.0, 8.0


def main() -> None:
    """Print the curves of each image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("survey")
    parser.add_argument("psf", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    stars = pq.read_table(arguments.psf / "psf.quality.parquet").to_pylist()
    table = read_psf_table(arguments.psf / "psf.parquet")
    print(f"{'circle, FWHM':<30}" + "".join(f"{radius:>8.1f}" for radius in RADII))
    for image in arguments.images:
        for exposure in read_exposure(image, load_survey(arguments.survey), psf_dir=arguments.psf):
            ccd = exposure.exposure_id, exposure.detector
            here = np.array(
                [(star["x"], star["y"]) for star in stars if (star["exposure_id"], star["detector"]) == ccd]
            )
            row = table[ccd]
            moffat = MoffatPsf(np.array([row.fwhm / exposure.pixel_scale]), np.array([row.beta]))
            found = detect(exposure, threshold=3.0)
            all_curves = (curves_of(exposure, found, star, moffat) for star in here)
            curves = np.array([one for one in all_curves if one is not None])
            middle = np.median(curves, axis=0)
            error = 1.2533 * curves[:, 0].std(axis=0) / np.sqrt(len(curves))
            lines = (
                (f"{len(curves)} stars", middle[0]),
                ("  error", error),
                ("  PSF", middle[1]),
                ("  Moffat", middle[2]),
            )
            for name, curve in lines:
                text = f"{image.name}, {name}" if "stars" in name else name
                print(f"{text:<30}" + "".join(f"{value:>8.3f}" for value in curve), flush=True)


def curves_of(exposure: Exposure, found: Detections, star: np.ndarray, moffat: MoffatPsf) -> np.ndarray | None:
    """Return the curves of the pixels, the PSF and the Moffat, shape (3, radii); None for a star that is not alone."""
    fwhm = float(exposure.psf.fwhm_at(star[:1], star[1:])[0])
    if min(*star, exposure.shape[1] - 1 - star[0], exposure.shape[0] - 1 - star[1]) < EDGE * fwhm:
        return None
    corner = np.maximum(np.rint(star - (SKY[1] + 1) * fwhm).astype(int), 0)
    size = int(2 * (SKY[1] + 1) * fwhm)
    window = slice(corner[1], corner[1] + size), slice(corner[0], corner[0] + size)
    data, subtracted, number = (
        np.ascontiguousarray(image[window], float) for image in (exposure.data, found.subtracted, found.segmentation)
    )
    bad = ~good_pixels(exposure.mask)[window]
    x, y = star - corner
    others = (number > 0) & (number != number[round(y), round(x)])
    rows, columns = np.indices(data.shape)
    distance = np.hypot(columns - x, rows - y) / fwhm
    if others[distance < ALONE].any():
        return None
    centre_x, centre_y, _ = sep.winpos(np.where(bad | others, 0, subtracted), [x], [y], fwhm / 2.355)
    ring = (distance > SKY[0]) & (distance < SKY[1]) & ~bad & (number == 0)
    data -= np.median(sigma_clip(data[ring], 3.0, masked=False))
    sums = [growth(data, (centre_x[0], centre_y[0]), fwhm, bad | others)]
    psfs: tuple[Psf, ...] = (exposure.psf.at(star[:1], star[1:]), moffat)
    for psf in psfs:
        drawn = render(Shapes.points(centre_x, centre_y), psf, size=data.shape, dtype=torch.float64)[0].numpy()
        sums.append(growth(drawn, (centre_x[0], centre_y[0]), fwhm, np.zeros_like(bad)))
    return np.array(sums)


def growth(image: np.ndarray, centre: tuple[float, float], fwhm: float, mask: np.ndarray) -> np.ndarray:
    """Return the light in circles, over that in the one of 1 FWHM."""
    sums, _, _ = sep.sum_circle(
        image, *np.tile(np.reshape(centre, (2, 1)), len(RADII)), RADII * fwhm, mask=mask, subpix=0
    )
    return sums / sums[RADII == 1.0]


if __name__ == "__main__":
    main()
