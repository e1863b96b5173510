"""Tiny cutouts of DECam exposures with masks, weights and PSFEx models: catalogue, forced fluxes, repeats.

Usage: ``python examples/decam_cutouts.py DATA OUT``, where DATA holds ``images/``, ``calib/psfex-single/``
and the table ``survey-ccds-1.fits.gz`` with the zero points of the exposures.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.table import Table

from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.sources.settings import CatalogSettings
from lumos.surveys import load_survey
from lumos.workflows.catalog import make_catalog

#: The cutouts are 41 x 51 pixels around one galaxy: an annulus of 30-45 pixels has no room, and the sky
#: is too little to tell a steep profile from the background, so that the index is given.
SETTINGS = MeasureSettings(stamp_size=40, max_stamp_size=40, annulus_inner=15, annulus_outer=26, max_masked=0.4)
SHAPES = CatalogSettings(threshold=3.0, min_snr=1e9, default_n=2.0)
#: The exposure that the catalogue is made from: z band, good seeing.
DEEP = "c4d_180218_090701_ooi_z_ls9.N10.fits"


def zeropoints(data: Path) -> dict[str, float]:
    """Return the AB magnitude of one count of each exposure."""
    table = Table.read(data / "survey-ccds-1.fits.gz")
    values = table["ccdzpt"] + 2.5 * np.log10(table["exptime"])
    return {str(number): float(value) for number, value in zip(table["expnum"], values, strict=True)}


def measure(data: Path, out: Path) -> pa.Table:
    """Make the catalogue and measure all exposures; fluxes are in counts."""
    out.mkdir(parents=True, exist_ok=True)
    survey, psf_dir = load_survey("decam"), data / "calib" / "psfex-single"
    images = sorted((data / "images").rglob("*_ooi_*.fits"))
    parent = out / "parent.parquet"
    if not parent.exists():
        deep = next(path for path in images if path.name == DEEP)
        make_catalog(deep, parent, survey, SHAPES, psf_dir=psf_dir)
    report = measure_run(images, parent, out / "run", survey, SETTINGS, psf_dir=psf_dir)
    assert not report.failed, report.failed
    return read_shards(out / "run")


def main() -> None:
    """Print magnitudes by band, exposure by exposure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    table, zeropoint = measure(arguments.data, arguments.out), zeropoints(arguments.data)
    print(f"{'object':>7}{'band':>5}{'exposure':>10}{'magnitude':>11}{'error':>8}{'aperture':>10}{'flags':>9}")
    for row in sorted(table.to_pylist(), key=lambda row: (row["object_id"], row["band"], row["exposure_id"])):
        snr, zero = row["flux"] / row["flux_err"], zeropoint[row["exposure_id"]]
        if not snr > 3:
            continue
        magnitudes = [zero - 2.5 * np.log10(max(row[name], 1e-9)) for name in ("flux", "aperture_flux")]
        print(
            f"{row['object_id']:>7}{row['band']:>5}{row['exposure_id']:>10}{magnitudes[0]:>11.3f}{1.0857 / snr:>8.3f}"
            f"{magnitudes[1]:>10.3f}{row['flags']:>9}"
        )


if __name__ == "__main__":
    main()
