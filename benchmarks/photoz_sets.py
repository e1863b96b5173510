"""Sets of galaxies with known redshifts, of real surveys and of mocks, for the benchmarks of photometric redshifts."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from bench_photoz import make_mock, observed
from lumos.conventions import AnyArray, FloatArray
from lumos.photoz.fluxes import Photometry
from lumos.photoz.models import build_grid
from lumos.photoz.templates import load_models
from lumos.spectra.curves import Curve, read_curve
from lumos.spectra.templates import Template, read_template

#: nJy of a nanomaggy.
NANOMAGGY = 3631.0


@dataclass(frozen=True, eq=False)
class Galaxies:
    """n galaxies with known redshifts, in bands with known curves; ``spectra`` are templates that come with them."""

    photometry: Photometry
    redshift: FloatArray
    curves: Mapping[str, Curve]
    spectra: Mapping[str, Template]

    def take(self, rows: AnyArray | slice) -> "Galaxies":
        """Return some of the galaxies."""
        return Galaxies(self.photometry.take(rows), self.redshift[rows], self.curves, self.spectra)


def sdss(data: Path, n: int) -> Galaxies:
    """Read galaxies of SDSS in ugriz, model fluxes without the dust of the Milky Way (10 000, of kcorrect)."""
    table = Table.read(data / "kcorrect" / "gst_tests_small.fits")
    table = table[np.sort(np.random.default_rng(1).permutation(len(table))[:n])]
    factor = NANOMAGGY * 10 ** (0.4 * np.asarray(table["EXTINCTION"], dtype=float)[:, :5])
    with np.errstate(divide="ignore"):
        error = np.asarray(table["MODELFLUX_IVAR"], dtype=float)[:, :5] ** -0.5
    flux = np.asarray(table["MODELFLUX"], dtype=float)[:, :5] * factor
    curves = {band: read_curve(data / "speclite" / f"sdss2010-{band}.ecsv") for band in "ugriz"}
    error = np.where(np.isfinite(error), error * factor, np.nan)
    seen = Photometry(np.arange(len(table)), flux, error, bands=tuple(curves))
    return Galaxies(seen, np.asarray(table["Z"], dtype=float), curves, {})


def dc2(data: Path, n: int, part: str) -> Galaxies:
    """Read galaxies of the DC2 mock in ugrizy, ``part`` training or validation; curves of the package speclite."""
    import h5py  # noqa: PLC0415 - an extra

    with h5py.File(data / "dc2" / f"test_dc2_{part}_9816.hdf5") as file:
        columns = {name: np.asarray(values[:], dtype=float) for name, values in file["photometry"].items()}
    rows = np.sort(np.random.default_rng(1).permutation(len(columns["redshift"]))[:n])
    magnitude, error = (
        np.stack([columns[f"{kind}_{b}_lsst"][rows] for b in "ugrizy"], 1) for kind in ("mag", "mag_err")
    )
    flux = np.where(magnitude < 40, 10 ** (-0.4 * (magnitude - 31.4)), np.nan)
    spec = find_spec("speclite")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data" / "filters"
    curves = {band: read_curve(folder / f"lsst2016-{band}.ecsv") for band in "ugrizy"}
    seen = Photometry(rows, flux, flux * error * np.log(10) / 2.5, bands=tuple(curves))
    return Galaxies(seen, columns["redshift"][rows], curves, {})


def hdfn(data: Path, curves: Path) -> Galaxies:
    """Read galaxies of the Hubble Deep Field North (eazy-photoz); ``curves`` holds BAND.dat in Angstrom."""
    path = data / "eazy-photoz" / "inputs" / "hdfn_fs99_eazy.cat.zspec.only"
    table = np.loadtxt(path)
    bands = ("f300w", "f450w", "f606w", "f814w", "irimj", "irimh", "irimk")
    read = {band: read_curve(curves / f"{band}.dat", "Angstrom") for band in bands}
    flux, error = table[:, 1:15:2], table[:, 2:16:2]
    seen = Photometry(table[:, 0].astype(int), flux, np.where(error > 0, error, np.nan), bands=bands)
    return Galaxies(seen, table[:, 15], read, {})


def brown_mock(data: Path, n: int) -> Galaxies:
    """Draw mock galaxies with real spectra in 46 bands, appendix D's depths; with the templates of ``eriksen2019``."""
    models = load_models("eriksen2019", ["redshifts={low: 0.1, high: 0.2, step: 0.1}"])
    seen = observed(mock := make_mock(data, n), build_grid(models, data), "perfect")
    return Galaxies(seen, mock.redshift, models.curves(data), models.spectra(data))


def kcorrect_templates(data: Path) -> dict[str, Template]:
    """Return the five templates of kcorrect, sums of which are galaxies (Blanton & Roweis 2007)."""
    with fits.open(data / "kcorrect" / "kcorrect-default-v4.fits") as file:
        wavelength, fluxes = file[1].data["wave"][0], file[1].data["flux"][0]
    kept = wavelength < 2e5
    return {
        f"kcorrect{number}": Template(wavelength[kept] / 10, flux[kept].astype(float))
        for number, flux in enumerate(fluxes)
    }


def eazy_templates(data: Path) -> dict[str, Template]:
    """Return the seven templates of EAZY with emission lines, version 1.1."""
    folder = data / "eazy-photoz" / "EAZY_v1.1_lines"
    return {f"eazy{n}": read_template(folder / f"eazy_v1.1_sed{n}.dat", "Angstrom") for n in range(1, 8)}
