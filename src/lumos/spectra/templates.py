"""Spectra of galaxies at rest, from files and in closed form."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from lumos.conventions import FloatArray
from lumos.errors import LumosDataError, LumosShapeError, LumosValueError, foreign_reader
from lumos.spectra.sed import continuum_basis
from lumos.spectra.tables import read_columns
from lumos.spectra.wavelengths import as_vacuum_nm

__all__ = ["Template", "closed_form", "list_templates", "read_template"]

#: Bytes of an archive once unpacked.
_LARGEST = 2**30
#: Where closed forms are tabulated, nm: steps of 0.05 %.
_GRID = np.exp(np.arange(np.log(40.0), np.log(8000.0), 0.0005))


@dataclass(frozen=True)
class Template:
    """A spectrum at rest, straight between its points.

    Parameters
    ----------
    wavelength : float array, shape (m,)
        In vacuum, nm, increasing; a point that is given twice with the same flux counts once.
    flux : float array, shape (m,)
        Per unit wavelength, any unit, at least 0.

    Raises
    ------
    LumosShapeError
        If the shapes are not two equal ones of two points or more.
    LumosValueError
        If wavelengths are not above 0 and increasing, or a flux is negative, not finite, or 0 everywhere.
    """

    wavelength: FloatArray
    flux: FloatArray

    def __post_init__(self) -> None:
        wavelength, flux = (np.array(values, dtype=np.float64) for values in (self.wavelength, self.flux))
        if wavelength.ndim != 1 or wavelength.shape != flux.shape or len(wavelength) < 2:
            raise LumosShapeError("template", (wavelength.shape, flux.shape), "two equal shapes (m,), m > 1")
        again = np.concatenate([[False], (np.diff(wavelength) == 0) & (np.diff(flux) == 0)])
        wavelength, flux = wavelength[~again], flux[~again]
        steps = np.diff(wavelength)
        if not (steps > 0).all() or not 0 < wavelength[0] < np.inf:
            place = int(np.argmin(steps > 0))
            near = wavelength[place : place + 2].tolist()
            raise LumosValueError("wavelengths of a template", near, "nm above 0, increasing")
        if not np.isfinite(flux).all() or (flux < 0).any() or not flux.any():
            raise LumosValueError("flux of a template", float(flux.min()), "finite, at least 0, not 0 everywhere")
        object.__setattr__(self, "wavelength", wavelength)
        object.__setattr__(self, "flux", flux)

    def on(self, points: FloatArray) -> "Template":
        """Return the same spectrum with more points.

        Parameters
        ----------
        points : float array, shape (n,)
            Wavelengths in nm; those beyond the ends are left out.

        Returns
        -------
        Template
            On its own points and these.
        """
        inside = points[(points > self.wavelength[0]) & (points < self.wavelength[-1])]
        wavelength = np.union1d(self.wavelength, inside)
        return Template(wavelength, np.interp(wavelength, self.wavelength, self.flux))


def read_template(
    path: Path,
    unit: str | None = None,
    medium: str = "vacuum",
    per: str = "wavelength",
    name: str | None = None,
) -> Template:
    """Read a template.

    Parameters
    ----------
    path : Path
        Text of two columns, as those of LePhare, EAZY and BC03; a table in ECSV, CSV, FITS or VOTable with the columns
        ``wavelength`` (or ``loglam``) and ``flux``; or an archive ``.npz`` that holds NAME__wave and NAME__flam.
    unit : str, optional
        Of the wavelengths: ``nm``, ``Angstrom`` or ``um``; needed where the file does not say.
    medium : str, optional
        ``vacuum`` or ``air``: what the wavelengths are in.
    per : str, optional
        ``wavelength``, or ``frequency`` where the flux is per unit frequency.
    name : str, optional
        Which template of an archive.

    Returns
    -------
    Template
        Per unit wavelength.

    Raises
    ------
    LumosDataError
        If the file cannot be read, does not say its unit where none is given, or holds no template.
    LumosValueError
        If ``per`` is neither.
    """
    if per not in {"wavelength", "frequency"}:
        raise LumosValueError("flux of a template per", per, "wavelength, frequency")
    try:
        if path.suffix.lower() == ".npz":
            wavelength, flux = _from_archive(path, unit, medium, name)
        else:
            wavelength, flux = read_columns(path, unit, medium, ("flux", "flam", "f_lambda", "fnu"))
        return Template(wavelength, flux if per == "wavelength" else flux / wavelength**2)
    except LumosValueError as error:
        raise LumosDataError(f"{path}{f', {name}' if name else ''}: {error}") from error


def list_templates(path: Path) -> tuple[str, ...]:
    """Return the names of the templates in an archive.

    Parameters
    ----------
    path : Path
        A file ``.npz``.

    Returns
    -------
    tuple of str
        Sorted.

    Raises
    ------
    LumosDataError
        If it cannot be read.
    """
    with _archive(path) as content:
        return tuple(sorted(key.removesuffix("__wave") for key in content if key.endswith("__wave")))


@contextmanager
def _archive(path: Path) -> Iterator[Mapping[str, FloatArray]]:
    """Open an archive; what goes wrong in the block names the file."""
    if not path.is_file():
        raise LumosDataError(f"{path}: missing or no regular file")
    with foreign_reader(f"{path}: no archive of templates"):
        with ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _LARGEST:
            raise LumosDataError(f"{path}: unpacks to {size} bytes, allowed: at most {_LARGEST}")
        with np.load(path, allow_pickle=False) as content:
            yield content


def _from_archive(path: Path, unit: str | None, medium: str, name: str | None) -> tuple[FloatArray, FloatArray]:
    known = list_templates(path)
    if name not in known:
        raise LumosDataError(f"{path}: has no template {name!r}, it has {', '.join(known)}")
    if unit is None:
        raise LumosDataError(f"{path}: does not say the unit of its wavelengths")
    with _archive(path) as content:
        wavelength, flux = (np.asarray(content[f"{name}__{key}"], dtype=np.float64) for key in ("wave", "flam"))
    return as_vacuum_nm(wavelength, unit, medium), flux


def closed_form(coefficients: Sequence[float]) -> Template:
    """Return a smooth spectrum in closed form.

    Parameters
    ----------
    coefficients : sequence of float, length 5
        Of :func:`lumos.spectra.sed.continuum_basis`: slopes of ln f_ν in ln λ, and the break.

    Returns
    -------
    Template
        From 40 nm to 8 µm.

    Raises
    ------
    LumosShapeError
        If there are not five.
    """
    values = np.asarray(coefficients, dtype=np.float64)
    if values.shape != (5,):
        raise LumosShapeError("coefficients of a spectrum in closed form", values.shape, "(5,)")
    log_flux = continuum_basis(np.log(_GRID / 400.0)) @ values
    return Template(_GRID, np.exp(log_flux) / (_GRID / 400.0) ** 2)
