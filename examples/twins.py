"""Real galaxies beside simulated twins on blank sky of the same exposure: central rows, two-sample tests.

Usage: ``python examples/twins.py OUT [--sdss DATA] [--vista DATA]``. A mock exposure is simulated; with the
folders of real data (see ``sdss_stripe82.py`` and ``vista_repeats.py``) their galaxies get twins too.
"""

import argparse
from pathlib import Path

import numpy as np
from sdss_stripe82 import load_galaxies

from lumos.catalogs.parent import ParentCatalog, read_parent
from lumos.flags import Flag
from lumos.images import read_exposure
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.objects import place_objects
from lumos.photometry.settings import MeasureSettings
from lumos.pools.cut import make_backgrounds
from lumos.pools.pool import BackgroundPool
from lumos.pools.settings import BackgroundSettings
from lumos.report.accuracy import draw_twins
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.sources.settings import CatalogSettings, PsfSettings
from lumos.surveys import Survey, load_survey
from lumos.validate.twins import Twins, compare_twins, make_twins
from lumos.workflows.catalog import make_catalog
from lumos.workflows.psf import make_psfs

#: Galaxies with a signal-to-noise ratio in this range have twins: light enough to compare, sky enough to matter.
SNR = (8.0, 200.0)
#: Twins are of isolated galaxies on clean pixels.
CLEAN = ~int(Flag.NO_ZEROPOINT)


def twins_of(path: Path, survey: Survey, catalog: ParentCatalog, out: Path, psf_dir: Path | None = None) -> Twins:
    """Return twins of the isolated galaxies of one exposure."""
    settings = BackgroundSettings(n_per_exposure=400, source_free_radius=12)
    pool_path = out / f"pool_{path.name.split('.')[0]}"
    make_backgrounds([path], pool_path, survey, settings, psf_dir=psf_dir)
    exposure = next(read_exposure(path, survey, psf_dir=psf_dir))
    # Stamps of real galaxies hold what little light their neighbours add; so do the fluxes of their twins.
    table = measure_exposure(exposure, catalog, MeasureSettings(estimators=("optimal",), scene="off"))
    flux, error = (table[name].to_numpy().astype(np.float64) for name in ("flux", "flux_err"))
    clean = ((table["flags"].to_numpy() & CLEAN) == 0) & (flux > SNR[0] * error) & (flux < SNR[1] * error)
    scale = 10 ** (0.4 * (31.4 - exposure.zeropoint)) if np.isfinite(exposure.zeropoint) else 1.0
    objects = place_objects(exposure, catalog, MeasureSettings())
    rng = np.random.default_rng(1)
    return make_twins(exposure, objects, np.where(clean, flux / scale, np.nan), BackgroundPool.open(pool_path), rng)


def mock_twins(out: Path) -> Twins:
    """Return twins of a simulated exposure: the yardstick, since there the recipe is exact."""
    overrides = [
        "bands=[NB785]",
        "states=[after]",
        "exposures_per_band=1",
        "background.scattered_light={after: 0.01}",
        "camera.shape=[2048, 2048]",
    ]
    overrides += ["sky.mag_range=[17.5, 22.0]", "sky.galaxies=500", "sky.clustered=0"]
    report = simulate_survey(load_simulation("paucam-mini", overrides), out)
    return twins_of(report.exposures[0], load_survey("paucam"), read_parent(out / "parent.parquet"), out)


def sdss_twins(data: Path, out: Path) -> Twins:
    """Return twins of SDSS galaxies, with the shapes of the coadd."""
    catalog = load_galaxies(data, coadd_shapes=True).catalog
    return twins_of(next(data.glob("frame-i-*.fits.bz2")), load_survey("sdss"), catalog, out)


def vista_twins(data: Path, out: Path) -> Twins:
    """Return twins of VISTA objects, catalogued on another exposure."""
    images, survey = sorted(data.glob("image_*.fits"))[1:3], load_survey("vircam")
    if not (out / "parent.parquet").exists():
        make_psfs(images, out / "psf", survey, PsfSettings(model="moffat"))
        make_catalog(images[1], out / "parent.parquet", survey, CatalogSettings(), psf_dir=out / "psf")
    return twins_of(images[0], survey, read_parent(out / "parent.parquet"), out, out / "psf")


def main() -> None:
    """Print the tests and draw the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sdss", type=Path)
    parser.add_argument("--vista", type=Path)
    arguments = parser.parse_args()
    found = {"mock NB785": mock_twins(arguments.out / "mock")}
    if arguments.sdss:
        found["SDSS i"] = sdss_twins(arguments.sdss, arguments.out / "sdss")
    if arguments.vista:
        found["VISTA H"] = vista_twins(arguments.vista, arguments.out / "vista")
    for name, twins in found.items():
        print(f"\n{name}: {len(twins)} pairs\n{'statistic':22}{'KS':>7}{'p':>8}{'shift':>8}")
        for test in compare_twins(twins):
            print(f"{test.name:22}{test.distance:>7.3f}{test.p_value:>8.3f}{test.shift:>+8.2f}")
    draw_twins(arguments.out / "twins.png", found)


if __name__ == "__main__":
    main()
