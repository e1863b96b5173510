"""Emission lines of galaxies."""

import numpy as np

from lumos.conventions import FloatArray
from lumos.errors import LumosValueError
from lumos.spectra.dust import DustLaw

__all__ = ["LINES", "LineSet"]

#: Rest wavelengths in vacuum, nm (NIST; [OII] is a doublet of which narrow bands see the mean).
LINES: dict[str, float] = {
    "Lya": 121.567,
    "OII3727": 372.709,
    "OII3730": 372.988,
    "Hbeta": 486.268,
    "OIII4960": 496.030,
    "OIII5008": 500.824,
    "NII6550": 654.986,
    "Halpha": 656.461,
    "NII6585": 658.527,
    "SII6718": 671.829,
    "SII6733": 673.268,
}


class LineSet:
    """Lines whose ratios are fixed.

    Parameters
    ----------
    strengths : mapping
        Flux of each line by name, in any unit.

    Raises
    ------
    LumosValueError
        If there is none, a line is unknown, or a flux is negative or not finite.
    """

    def __init__(self, strengths: dict[str, float]) -> None:
        unknown = [name for name in strengths if name not in LINES]
        if unknown or not strengths:
            raise LumosValueError("emission line", unknown[0] if unknown else None, ", ".join(LINES))
        bad = [flux for flux in strengths.values() if not 0 <= flux < np.inf]
        if bad:
            raise LumosValueError("flux of an emission line", bad[0], "finite, at least 0")
        self.wavelength: FloatArray = np.array([LINES[name] for name in strengths])
        self.strength: FloatArray = np.array(list(strengths.values()), dtype=np.float64)

    def behind(self, law: DustLaw | None, reddening: float) -> FloatArray:
        """Return the fluxes behind dust, at the lines' rest wavelengths.

        Parameters
        ----------
        law : DustLaw or None
            The law; None is no dust.
        reddening : float
            E(B−V), mag.

        Returns
        -------
        float array, shape (n_lines,)
            Fluxes.
        """
        return self.strength if law is None else self.strength * law.transmission(self.wavelength, reddening)
