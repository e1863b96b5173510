"""Units of wavelengths, and wavelengths in air and in vacuum. The package counts in nm, in vacuum."""

from typing import Literal

import numpy as np

from lumos.conventions import FloatArray
from lumos.errors import LumosValueError

__all__ = ["NANOMETRES", "Medium", "Unit", "as_vacuum_nm", "refractive_index", "vacuum_from_air"]

Unit = Literal["nm", "Angstrom", "um"]
Medium = Literal["vacuum", "air"]
#: nm of one unit.
NANOMETRES: dict[str, float] = {"nm": 1.0, "Angstrom": 0.1, "um": 1000.0}
#: Wavelengths in vacuum, nm, below which spectra are given in vacuum even where the rest of them is in air.
AIR_BEGINS = 200.0


def refractive_index(wavelength: FloatArray) -> FloatArray:
    r"""Return the refractive index of standard air (Ciddor 1996, Appl. Opt. 35, 1566, eq. 1: 15 °C, 450 ppm CO₂).

    Parameters
    ----------
    wavelength : float array, any shape
        In vacuum, nm, at least 200.

    Returns
    -------
    float array, same shape
        :math:`1 + 10^{-8} [5792105 / (238.0185 - s^2) + 167917 / (57.362 - s^2)]`, s the wavenumber in 1/µm.
    """
    wavenumber2 = (1000.0 / np.asarray(wavelength)) ** 2
    return np.asarray(1 + 1e-8 * (5792105 / (238.0185 - wavenumber2) + 167917 / (57.362 - wavenumber2)))


def vacuum_from_air(wavelength: FloatArray) -> FloatArray:
    """Return wavelengths in vacuum from those in air.

    Parameters
    ----------
    wavelength : float array, any shape
        In air, nm; one below 200 nm counts as in vacuum, as is the custom.

    Returns
    -------
    float array, same shape
        In vacuum, nm, to 1e-9.
    """
    air = np.asarray(wavelength, dtype=np.float64)
    vacuum = np.maximum(air, AIR_BEGINS)
    for _ in range(3):
        # The index changes by 1e-5 of itself per step: three are exact.
        vacuum = np.maximum(air, AIR_BEGINS) * refractive_index(vacuum)
    return np.asarray(np.where(air < AIR_BEGINS, air, vacuum))


def as_vacuum_nm(wavelength: FloatArray, unit: str, medium: str = "vacuum") -> FloatArray:
    """Return wavelengths in nm, in vacuum: the only function through which files are read.

    Parameters
    ----------
    wavelength : float array, any shape
        As a file has them.
    unit : str
        ``nm``, ``Angstrom`` or ``um``.
    medium : str, optional
        ``vacuum``, or ``air``.

    Returns
    -------
    float array, same shape
        Wavelengths.

    Raises
    ------
    LumosValueError
        If the unit or the medium is none of these.
    """
    if unit not in NANOMETRES:
        raise LumosValueError("unit of wavelengths", unit, ", ".join(NANOMETRES))
    if medium not in {"vacuum", "air"}:
        raise LumosValueError("medium of wavelengths", medium, "vacuum, air")
    nm = np.asarray(wavelength, dtype=np.float64) * NANOMETRES[unit]
    return vacuum_from_air(nm) if medium == "air" else nm
