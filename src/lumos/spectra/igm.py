"""What the intergalactic medium lets through."""

import numpy as np

from lumos.conventions import FloatArray

__all__ = ["madau_transmission"]

#: Wavelengths in nm and coefficients of Lyman alpha to delta (Madau 1995, eq. 12 and 15).
_LYMAN = ((121.6, 3.6e-3), (102.6, 1.7e-3), (97.3, 1.2e-3), (95.0, 9.3e-4))
_LIMIT = 91.2


def madau_transmission(wavelength: FloatArray, redshift: FloatArray) -> FloatArray:
    r"""Return the mean transmission of the gas between a galaxy and us (Madau 1995, ApJ 441, 18).

    .. math:: \tau = \sum_i c_i (\lambda / \lambda_i)^{3.46} \;\text{for}\; \lambda < \lambda_i (1 + z),

    and below the redshifted Lyman limit the photoelectric absorption of the approximation in its footnote 3.

    Parameters
    ----------
    wavelength, redshift : float array, same shape
        Observed wavelength, nm; redshift of the galaxy.

    Returns
    -------
    float array, same shape
        exp(−τ), 0 to 1.
    """
    stretch = 1 + np.asarray(redshift)
    depth = np.zeros(np.broadcast_shapes(np.shape(wavelength), stretch.shape))
    for line, strength in _LYMAN:
        depth += np.where(wavelength < line * stretch, strength * (wavelength / line) ** 3.46, 0.0)
    x = np.minimum(wavelength / _LIMIT, stretch)
    continuum = (
        0.25 * x**3 * (stretch**0.46 - x**0.46)
        + 9.4 * x**1.5 * (stretch**0.18 - x**0.18)
        - 0.7 * x**3 * (x**-1.32 - stretch**-1.32)
        - 0.023 * (stretch**1.68 - x**1.68)
    )
    # Far below the limit the approximation turns negative, where it does not hold.
    return np.exp(-(depth + np.where(x < stretch, np.maximum(continuum, 0.0), 0.0)))
