"""Dust in galaxies: attenuation laws from tables, in closed form, and of the package dust_extinction."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units

from lumos.conventions import FloatArray
from lumos.errors import LumosDataError, LumosError, LumosShapeError, LumosValueError
from lumos.spectra.tables import read_columns

__all__ = ["DustLaw", "calzetti_law", "library_law", "read_law"]

#: Where closed forms are tabulated, nm: steps of 0.5 %.
_GRID = np.exp(np.arange(np.log(30.0), np.log(30_000.0), 0.005))
#: Place and width of the bump in nm.
_BUMP, _BUMP_WIDTH = 217.5, 35.0


@dataclass(frozen=True)
class DustLaw:
    """An attenuation law k(λ) = A(λ) / E(B−V), straight between points and constant beyond them.

    Parameters
    ----------
    wavelength : float array, shape (m,)
        At rest, nm, increasing.
    k : float array, shape (m,)
        At least 0.

    Raises
    ------
    LumosShapeError
        If the shapes are not two equal ones of two points or more.
    LumosValueError
        If wavelengths are not above 0 and increasing, or k is negative or not finite.
    """

    wavelength: FloatArray
    k: FloatArray

    def __post_init__(self) -> None:
        wavelength, k = (np.array(values, dtype=np.float64) for values in (self.wavelength, self.k))
        if wavelength.ndim != 1 or wavelength.shape != k.shape or len(wavelength) < 2:
            raise LumosShapeError("dust law", (wavelength.shape, k.shape), "two equal shapes (m,), m > 1")
        if not (np.diff(wavelength) > 0).all() or not wavelength[0] > 0:
            raise LumosValueError("wavelengths of a dust law", wavelength[:3].tolist(), "nm above 0, increasing")
        if not np.isfinite(k).all() or (k < 0).any():
            raise LumosValueError("k of a dust law", float(k.min()), "finite, at least 0")
        object.__setattr__(self, "wavelength", wavelength)
        object.__setattr__(self, "k", k)

    def transmission(self, wavelength: FloatArray, reddening: float) -> FloatArray:
        """Return the share of the light that gets through, 10^(−0.4 E(B−V) k).

        Parameters
        ----------
        wavelength : float array, any shape
            At rest, nm.
        reddening : float
            E(B−V), mag.

        Returns
        -------
        float array, same shape
            0 to 1.
        """
        return np.asarray(10 ** (-0.4 * reddening * np.interp(wavelength, self.wavelength, self.k)))


def read_law(path: Path, unit: str = "Angstrom") -> DustLaw:
    """Read a law from a text file of two columns, wavelength and k.

    Parameters
    ----------
    path : Path
        The file, as those of LePhare.
    unit : str, optional
        Of the wavelengths: ``nm``, ``Angstrom`` or ``um``.

    Returns
    -------
    DustLaw
        The law.

    Raises
    ------
    LumosDataError
        If the file cannot be read or holds no law.
    """
    wavelength, k = read_columns(path, unit, "vacuum")
    try:
        return DustLaw(wavelength, k)
    except LumosError as error:
        raise LumosDataError(f"{path}: {error}") from error


def calzetti_law(bump: float = 0.0) -> DustLaw:
    r"""Return the law of starbursts of Calzetti et al. 2000 (eq. 4, R_V = 4.05), with a bump at 217.5 nm.

    Parameters
    ----------
    bump : float, optional
        Height of the bump in k; it is added as in Noll et al. 2009 (eq. 3): a Drude profile of 35 nm. The Milky Way
        has about 3.5.

    Returns
    -------
    DustLaw
        The two polynomials, carried on beyond 120 nm and 2.2 µm and cut at 0.
    """
    x = 1000.0 / _GRID
    blue, red = -2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3, -1.857 + 1.040 * x
    k = 2.659 * np.where(_GRID < 630.0, blue, red) + 4.05
    width = (_GRID * _BUMP_WIDTH) ** 2
    return DustLaw(_GRID, np.maximum(k, 0.0) + bump * width / ((_GRID**2 - _BUMP**2) ** 2 + width))


def library_law(name: str) -> DustLaw:
    """Return an average law of the package dust_extinction.

    Parameters
    ----------
    name : str
        A class of ``dust_extinction.averages``, as ``G03_SMCBar``, or of ``dust_extinction.parameter_averages`` with
        its default R_V.

    Returns
    -------
    DustLaw
        k = R_V A(λ)/A(V), over the range of wavelengths in which the package defines it; constant beyond.

    Raises
    ------
    LumosDataError
        If the package is not installed or has no such law.
    """
    try:
        from dust_extinction import averages, parameter_averages  # noqa: PLC0415 (optional)
    except ImportError as error:
        text = f"dust law {name!r} needs dust_extinction: pip install 'lumos-photometry[photoz]'"
        raise LumosDataError(text) from error
    known = {one: getattr(module, one) for module in (averages, parameter_averages) for one in module.__all__}
    known = {one: kind for one, kind in known.items() if hasattr(kind, "Rv")}
    if name not in known:
        raise LumosDataError(f"dust law {name!r}, allowed: {', '.join(known)}")
    law = known[name]()
    low, high = (1000.0 / x for x in reversed(law.x_range))
    grid = _GRID[(low * 1.000001 < _GRID) & (high > _GRID * 1.000001)]
    # A Parameter of a model, or a number.
    ratio = float(getattr(law.Rv, "value", law.Rv))
    return DustLaw(grid, ratio * np.maximum(law(grid * units.nm), 0.0))
