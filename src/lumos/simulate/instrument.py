"""Gain, read noise and zero point of a simulated camera, tied to those of a real one."""

from dataclasses import dataclass

from lumos.simulate.population import read_shipped

__all__ = ["InstrumentNoise", "load_instrument"]


@dataclass(frozen=True)
class InstrumentNoise:
    """Sky, throughput and detector of a camera with one smooth curve over wavelength for each.

    Parameters
    ----------
    zeropoint_peak : float
        AB magnitude of 1 e⁻/s at ``peak_wavelength``.
    peak_wavelength : float
        Wavelength of the highest throughput, nm.
    zeropoint_loss : float
        Magnitudes lost 200 nm from the peak, growing with the square of the distance.
    sky_brightness : float
        AB magnitude per square arcsec at 685 nm, scattered light included.
    sky_slope : float
        Change of the sky's magnitude per nm, negative: the sky is brighter in the red.
    gain : float
        Electrons per image unit.
    read_noise : float
        Electrons per pixel.
    pixel_scale : float
        Arcsec per pixel.
    """

    zeropoint_peak: float
    peak_wavelength: float
    zeropoint_loss: float
    sky_brightness: float
    sky_slope: float
    gain: float
    read_noise: float
    pixel_scale: float

    def zeropoint(self, wavelength: float) -> float:
        """Return the AB magnitude of 1 e⁻/s in a band.

        Parameters
        ----------
        wavelength : float
            Centre of the band, nm.

        Returns
        -------
        float
            Magnitude.
        """
        return self.zeropoint_peak - self.zeropoint_loss * ((wavelength - self.peak_wavelength) / 200.0) ** 2

    def sky_rate(self, wavelength: float) -> float:
        """Return the sky's level in a band.

        Parameters
        ----------
        wavelength : float
            Centre of the band, nm.

        Returns
        -------
        float
            Electrons per second and pixel.
        """
        magnitude = self.sky_brightness + self.sky_slope * (wavelength - 685.0)
        return float(self.pixel_scale**2 * 10 ** (0.4 * (self.zeropoint(wavelength) - magnitude)))


def load_instrument() -> InstrumentNoise:
    """Return the noise model of a PAUCam-like camera.

    Returns
    -------
    InstrumentNoise
        Tied to the errors of one real NB685 exposure; the variation with wavelength is ours.
    """
    return InstrumentNoise(**read_shipped("instrument"))
