"""Pictures of the simulations: stamps as in the paper's Fig. 1, two camera states, distributions as in Fig. 2.

Usage: ``python benchmarks/simulation_figures.py OUT [--data DATA]``, where DATA holds ``paus/`` and ``cosmos/`` tables
whose histograms are drawn beside the model's.
"""

import argparse
from pathlib import Path

import numpy as np
from astropy.table import Table

from lumos.conventions import AnyArray
from lumos.images import read_exposure
from lumos.pools.cut import make_backgrounds
from lumos.pools.pool import BackgroundPool
from lumos.pools.settings import BackgroundSettings
from lumos.profiles import Shapes
from lumos.report.simulation import draw_distributions, draw_images
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.simulate.population import load_population
from lumos.spectra.passbands import PAUCAM_PASSBANDS
from lumos.surveys import load_survey
from lumos.teahupoo.simulated import simulate_stamps

MAGNITUDES = (18.5, 20.3, 22.3)
#: ACS pixels of the PAUS list's radii, arcsec.
ACS_PIXEL = 0.03


def exposures(out: Path) -> dict[str, AnyArray]:
    """Return one exposure of NB685 in each camera state."""
    options = ["bands=[NB685]", "exposures_per_band=2", "camera.shape=[1024, 1024]"]
    report = simulate_survey(load_simulation("paucam-mini", options), out)
    return {path.stem: next(read_exposure(path, load_survey("paucam"))).data for path in report.exposures}


def stamps(out: Path) -> dict[str, AnyArray]:
    """Return simulated stamps of NB685 at three magnitudes, on four backgrounds each."""
    paths = sorted((out / "exposures").glob("*.fits"))
    make_backgrounds(paths, out / "pool", load_survey("paucam"), BackgroundSettings(n_per_exposure=50))
    pool, rng = BackgroundPool.open(out / "pool"), np.random.default_rng(3)
    magnitude = np.repeat(MAGNITUDES, 4)
    galaxies, backgrounds = load_population().draw_at(magnitude, rng), pool.sample(rng, len(magnitude))
    shapes = Shapes(
        *(30 + rng.uniform(-0.5, 0.5, (2, len(magnitude)))),
        galaxies.half_light_radius / 0.263,
        galaxies.sersic_n,
        galaxies.axis_ratio,
        np.deg2rad(galaxies.position_angle),
    )
    njy = galaxies.band_flux([PAUCAM_PASSBANDS["NB685"]])[:, 0]
    images = simulate_stamps(backgrounds, shapes, njy * 10 ** (0.4 * (backgrounds.zeropoint - 31.4)), rng).stamps
    return {
        f"i = {mag}, {number % 4 + 1}": image.numpy()
        for number, (mag, image) in enumerate(zip(magnitude, images, strict=True))
    }


def distributions(data: Path | None) -> dict[str, dict[str, AnyArray]]:
    """Return shapes of the model, and of the PAUS list where it is at hand."""
    rng = np.random.default_rng(1)
    model = load_population().draw(20_000, rng, mag_range=(17.5, 22.5))
    quantities = {
        "i (AB)": {"model": model.ref_mag},
        "log₁₀ half-light radius (arcsec)": {"model": np.log10(model.half_light_radius)},
        "Sérsic index": {"model": model.sersic_n},
        "PSF FWHM (arcsec)": {"model": _seeing()},
    }
    if data is not None:
        source = Table.read(data / "paus" / "example_sources_img.csv", format="ascii.csv")
        source = source[source["I_auto"] < 22.5]
        real = (source["I_auto"], np.log10(source["r50"] * ACS_PIXEL), source["sersic_n_gim2d"])
        for label, values in zip(quantities, real, strict=False):
            quantities[label]["PAUS list"] = np.asarray(values, dtype=np.float64)
    return quantities


def _seeing() -> AnyArray:
    """Return the widths that the mock survey draws for its exposures."""
    from lumos.simulate.plan import plan_exposures  # noqa: PLC0415 - only here

    return np.array([exposure.fwhm for exposure in plan_exposures(load_simulation("paucam-field", []))])


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    out = arguments.out
    draw_images(out / "exposures.png", exposures(out), columns=2, width=3.6)
    draw_images(out / "stamps.png", stamps(out), columns=4, width=2.0)
    draw_distributions(out / "distributions.png", distributions(arguments.data))


if __name__ == "__main__":
    main()
