"""The one table of passbands, for simulated surveys and for simulated stamps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lumos.conventions import FloatArray
from lumos.errors import LumosConfigError, LumosValueError

__all__ = ["PASSBANDS", "PAUCAM_PASSBANDS", "REFERENCE_PASSBAND", "Passband", "find_passbands"]


@dataclass(frozen=True)
class Passband:
    """A band with flat top and smooth edges.

    Parameters
    ----------
    wavelength : float
        Centre in nm.
    width : float
        Full width at half maximum in nm.

    Raises
    ------
    LumosValueError
        If the width is not positive or reaches wavelength 0.
    """

    wavelength: float
    width: float

    def __post_init__(self) -> None:
        if not 0 < self.width < self.wavelength:
            raise LumosValueError("width of a passband in nm", self.width, f"0 to the centre, {self.wavelength}")

    @property
    def half_range(self) -> float:
        """Return the distance from the centre in nm beyond which the response is below 1 %."""
        return 0.63 * self.width

    def response(self, wavelength: FloatArray) -> FloatArray:
        """Return the response at given wavelengths.

        Parameters
        ----------
        wavelength : float array
            In nm.

        Returns
        -------
        float array
            Between 0 and 1: ½ [tanh((d + w/2)/s) − tanh((d − w/2)/s)], d the distance from the centre, w the width,
            s = 0.05 w.
        """
        d, edge = wavelength - self.wavelength, 0.05 * self.width
        rise, fall = np.tanh((d + self.width / 2) / edge), np.tanh((d - self.width / 2) / edge)
        return np.asarray(0.5 * (rise - fall))

    def nodes(self) -> tuple[FloatArray, FloatArray]:
        """Return wavelengths in nm and the weights of the mean flux per unit frequency over the band.

        Returns
        -------
        wavelengths, weights : float array, shape (n_nodes,)
            The centre alone for a band narrower than 2.5 %, else one node per 2 % of wavelength; weights of photons,
            summing to 1.
        """
        if self.width < 0.025 * self.wavelength:
            return np.array([self.wavelength]), np.ones(1)
        n = int(np.ceil(2 * self.half_range / (0.02 * self.wavelength)))
        wavelengths = self.wavelength + self.half_range * ((2 * np.arange(n) + 1) / n - 1)
        weights = self.response(wavelengths) / wavelengths
        return wavelengths, weights / weights.sum()


#: The 40 narrow bands of PAUCam: 13 nm wide, every 10 nm. Our closed form, not the measured curves.
PAUCAM_PASSBANDS: dict[str, Passband] = {f"NB{nm}": Passband(float(nm), 13.0) for nm in range(455, 846, 10)}
#: Band of the reference magnitude, an i band on the red side: the population was fitted with it.
REFERENCE_PASSBAND = Passband(770.0, 160.0)
#: Bands by name, where a survey file does not say more: centre and full width at half maximum, nm, of filter,
#: telescope and detector together. u to y are means of SDSS, Pan-STARRS, HSC, DECam and Rubin, whose own differ from
#: them by up to 4 % in the centre and, in z, by 77 to 152 nm in width. Z to Ks are VISTA's, K is that of the Mauna Kea
#: set, U to I are Johnson's and Cousins'.
PASSBANDS: dict[str, Passband] = PAUCAM_PASSBANDS | {
    "u": Passband(360.0, 57.0),
    "g": Passband(476.0, 144.0),
    "r": Passband(622.0, 142.0),
    "i": Passband(762.0, 141.0),
    "z": Passband(889.0, 107.0),
    "y": Passband(970.0, 83.0),
    "Z": Passband(877.0, 97.0),
    "Y": Passband(1020.0, 93.0),
    "J": Passband(1252.0, 172.0),
    "H": Passband(1645.0, 291.0),
    "K": Passband(2200.0, 340.0),
    "Ks": Passband(2147.0, 309.0),
    "U": Passband(366.0, 65.0),
    "B": Passband(436.0, 89.0),
    "V": Passband(545.0, 84.0),
    "R": Passband(641.0, 158.0),
    "I": Passband(798.0, 154.0),
}


def find_passbands(bands: Sequence[str], given: Mapping[str, tuple[float, float]] | None = None) -> dict[str, Passband]:
    """Return the passband of each band.

    Parameters
    ----------
    bands : sequence of str
        Names.
    given : mapping, optional
        Centre and width in nm by name; these come before those of the table.

    Returns
    -------
    dict of Passband
        By name.

    Raises
    ------
    LumosConfigError
        If a band is neither given nor in the table.
    """
    known = PASSBANDS | {name: Passband(*values) for name, values in (given or {}).items()}
    missing = sorted(set(bands) - set(known))
    if missing:
        raise LumosConfigError(
            f"no passband of {missing} is known; give stamps.passbands: {{NAME: [centre, width]}}, nm"
        )
    return {name: known[name] for name in bands}
