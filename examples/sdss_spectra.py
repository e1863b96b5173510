"""SDSS spectra against SDSS photometry: synthetic fluxes, and the scale of eq. 20 of the paper.

Usage: ``python examples/sdss_spectra.py DATA``. DATA holds ``sdss_spectra/spec-*.fits`` (SDSS), the responses
``speclite/sdss2010-{g,r,i}.ecsv`` (package speclite) and, for the last column, ``stonp/PAUS_filter_response.json``, the
measured responses of PAUCam.

For each spectrum: synthetic over stated fluxes (``SPECTROFLUX``, which SDSS made from the same spectrum), the scale
that brings it to the photometry of the same fibre (``CALIBFLUX``), its error and χ² for two degrees of freedom; σ68 of
fluxes through the measured narrow bands over those through the package's closed forms, minus 1.
"""

import sys
from pathlib import Path

import numpy as np
from astropy.io import fits

from lumos.spectra.curves import Curve, read_curve
from lumos.spectra.passbands import PAUCAM_PASSBANDS
from lumos.spectra.synthetic import per_frequency, synthetic_fluxes
from lumos.statistics import sigma68
from lumos.validate.studies.spectra import spectrum_scale

#: nJy of one nanomaggy.
NANOMAGGY = 3630.78
BANDS = ("g", "r", "i")


def narrow_bands(data: Path) -> dict[str, Curve]:
    """Return the measured responses of PAUCam, where there are any."""
    path = data / "stonp" / "PAUS_filter_response.json"
    return {name: read_curve(path, name=name) for name in PAUCAM_PASSBANDS} if path.exists() else {}


def main(data: Path) -> None:
    """Print the table."""
    curves = [read_curve(data / "speclite" / f"sdss2010-{band}.ecsv") for band in BANDS]
    measured = narrow_bands(data)
    closed = [Curve.of(PAUCAM_PASSBANDS[name]) for name in measured]
    print(f"{'spectrum':<18}{'class':<8}{'z':>7}{'g':>9}{'r':>9}{'i':>9}{'scale':>18}{'chi2':>8}{'narrow bands':>14}")
    for path in sorted((data / "sdss_spectra").glob("spec-*.fits")):
        with fits.open(path) as hdus:
            pixels, facts = hdus[1].data, hdus[2].data[0]
            wavelength = 10.0 ** pixels["loglam"].astype(float) / 10
            good = pixels["ivar"] > 0
            error = np.where(good, 1 / np.sqrt(np.where(good, pixels["ivar"], 1)), np.nan)
            spectrum, noise = (per_frequency(wavelength, v.astype(float)[None]) for v in (pixels["flux"], error))
            stated, photometry, weight = (
                np.array(facts[name][1:4], dtype=float) for name in ("SPECTROFLUX", "CALIBFLUX", "CALIBFLUX_IVAR")
            )
            kind, redshift = facts["CLASS"], facts["Z"]
        flux, flux_err = (values / NANOMAGGY for values in synthetic_fluxes(wavelength, spectrum, curves, noise))
        with np.errstate(divide="ignore"):
            scale = spectrum_scale(photometry[None], weight[None] ** -0.5, flux, flux_err)
        narrow = ""
        if measured:
            ours, theirs = (synthetic_fluxes(wavelength, spectrum, c)[0][0] for c in (closed, list(measured.values())))
            narrow = f"{sigma68((theirs / ours - 1)[np.isfinite(theirs / ours)]):.3f}"
        ratios = "".join(f"{ratio:>9.4f}" for ratio in flux[0] / stated)
        print(
            f"{path.stem.removeprefix('spec-'):<18}{kind:<8}{redshift:>7.4f}{ratios}"
            f"{f'{scale.value[0]:.3f} ± {scale.error[0]:.3f}':>18}{scale.chi2[0]:>8.1f}{narrow:>14}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
