"""Can a classifier tell Teahupoo stamps from cutouts of galaxies? Gradient-boosted trees on simple statistics.

Usage: ``python examples/realism.py OUT [--sdss DATA] [--vista DATA]``. An area under the curve of 0.5 is a coin.
On mock exposures the stamps have galaxies drawn anew at the magnitudes of the real ones; on real exposures, whose
population nobody knows, they have the catalogue's shapes and the measured fluxes.
"""

import argparse
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from sdss_stripe82 import load_galaxies
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from twins import CLEAN, SNR

from lumos.background.geometry import STANDARD_GEOMETRY
from lumos.catalogs.parent import ParentCatalog, read_parent
from lumos.flags import Flag
from lumos.images import cut_stamps, read_exposure
from lumos.images.exposure import Exposure
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.objects import PlacedObjects, place_objects
from lumos.photometry.settings import MeasureSettings
from lumos.pools.cut import make_backgrounds
from lumos.pools.pool import BackgroundPool
from lumos.pools.settings import BackgroundSettings
from lumos.profiles import Shapes
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.simulate.population import load_population
from lumos.sources.settings import CatalogSettings, PsfSettings
from lumos.spectra.passbands import PAUCAM_PASSBANDS
from lumos.surveys import load_survey
from lumos.teahupoo.simulated import simulate_stamps
from lumos.workflows.catalog import make_catalog
from lumos.workflows.psf import make_psfs

SIZE = 60
#: Half-light radius in pixels of the largest galaxies that are compared.
LARGEST = 12.0
#: Side in pixels of the parts of a CCD that are kept together in training or in test.
BLOCK = 256
RINGS = (0.0, 1.5, 3.0, 4.5, 6.0, 8.0, 11.0, 15.0, 20.0, 26.0)


@dataclass(frozen=True)
class Samples:
    """Stamps of real galaxies and Teahupoo's, with the centres in them."""

    real: np.ndarray
    simulated: np.ndarray
    x: tuple[np.ndarray, np.ndarray]
    y: tuple[np.ndarray, np.ndarray]
    block: tuple[np.ndarray, np.ndarray]
    """Part of the CCD that each stamp comes from."""


def features(stamps: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return statistics of each stamp in units of its own sky: profile, extremes, moments, symmetry."""
    step = np.arange(stamps.shape[1])
    dx, dy = step - x[:, None, None], step[:, None] - y[:, None, None]
    radius = np.hypot(dx, dy)
    low, level, high = np.nanquantile(np.where(radius > 18, stamps, np.nan), [0.16, 0.5, 0.84], axis=(1, 2))
    light = (stamps - level[:, None, None]) / ((high - low) / 2)[:, None, None]
    columns = []
    for inner, outer in pairwise(RINGS):
        ring = np.where((radius >= inner) & (radius < outer), light, np.nan)
        columns += [np.nanmean(ring, axis=(1, 2)), np.nanstd(ring, axis=(1, 2)), np.nanmax(ring, axis=(1, 2))]
        columns.append(np.nanmin(ring, axis=(1, 2)))
    core = light * (radius < 8)
    total = np.where(np.abs(core.sum(axis=(1, 2))) > 1, core.sum(axis=(1, 2)), 1)
    for weight in (dx**2 + dy**2, dx**2 - dy**2, dx * dy):
        columns.append((core * weight).sum(axis=(1, 2)) / total)
    columns.append(np.abs(core - core[:, ::-1, ::-1]).sum(axis=(1, 2)) / np.abs(total))
    return np.column_stack(columns)


def area_under_curve(samples: Samples, *, shuffled: bool = False) -> float:
    """Return the cross-validated area under the curve; with shuffled labels, what chance gives."""
    parts = (samples.real, samples.simulated)
    table = np.concatenate([features(stamps, samples.x[i], samples.y[i]) for i, stamps in enumerate(parts)])
    labels = np.repeat([0, 1], [len(stamps) for stamps in parts])
    if shuffled:
        labels = np.random.default_rng(3).permutation(labels)
    # Stamps that overlap must not lie in training and test both: a bright star would give them away.
    folds = list(GroupKFold(5).split(table, labels, np.concatenate(samples.block)))
    trees = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05, random_state=1)
    score = cross_val_predict(trees, table, labels, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(labels, score))


def draw(
    exposure: Exposure, objects: PlacedObjects, rows: np.ndarray, flux: np.ndarray, shapes: Shapes, pool: Path
) -> Samples:
    """Return cutouts of some objects, and Teahupoo stamps with given fluxes and shapes."""
    rng = np.random.default_rng(2)
    # The same is asked of both: few masked pixels in the stamp, and a galaxy that it holds.
    masks = cut_stamps(exposure.data, objects.x[rows], objects.y[rows], SIZE, mask=exposure.mask).mask
    fit = (masks != 0).mean(axis=(1, 2)) <= BackgroundSettings().max_masked
    fit &= (objects.half_light_radius[rows] < LARGEST) & (shapes.half_light_radius < LARGEST)
    shapes = shapes.take(fit)
    rows, flux = rows[fit], flux[fit]
    real = cut_stamps(exposure.data, objects.x[rows], objects.y[rows], SIZE)
    backgrounds = BackgroundPool.open(pool).sample(rng, len(rows))
    simulated = simulate_stamps(backgrounds, shapes, flux, rng, geometry=replace(STANDARD_GEOMETRY, size=SIZE))
    blocks = tuple(
        x.astype(int) // BLOCK + 100 * (y.astype(int) // BLOCK)
        for x, y in ((objects.x[rows], objects.y[rows]), (backgrounds.ccd_x, backgrounds.ccd_y))
    )
    return Samples(real.data, simulated.stamps.numpy(), (real.x, shapes.x), (real.y, shapes.y), blocks)


def random_centres(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return centres anywhere in the middle pixel of a stamp."""
    return tuple(SIZE // 2 + np.random.default_rng(4).uniform(-0.5, 0.5, (2, n)))


def mock_samples(out: Path, overrides: tuple[str, ...] = ()) -> Samples:
    """Return samples from a simulated exposure: galaxies of its catalogue, and newly drawn ones."""
    options = ["bands=[NB785]", "states=[after]", "exposures_per_band=1", "background.scattered_light={after: 0.01}"]
    options += ["camera.shape=[3072, 3072]", "sky.galaxies=300", "sky.clustered=0", *overrides]
    path = simulate_survey(load_simulation("paucam-mini", options), out).exposures[0]
    survey = load_survey("paucam")
    make_backgrounds([path], out / "pool", survey, BackgroundSettings(n_per_exposure=4000))
    exposure = next(read_exposure(path, survey))
    objects = place_objects(exposure, read_parent(out / "parent.parquet"), MeasureSettings())
    rows = np.flatnonzero(objects.usable & (objects.stamp_size == SIZE))
    galaxies = load_population().draw_at(objects.catalog.ref_mag[rows], np.random.default_rng(5))
    njy = galaxies.band_flux([PAUCAM_PASSBANDS["NB785"]])[:, 0]
    x, y = random_centres(len(rows))
    shapes = Shapes(
        x,
        y,
        galaxies.half_light_radius / exposure.pixel_scale,
        galaxies.sersic_n,
        galaxies.axis_ratio,
        np.deg2rad(galaxies.position_angle),
    )
    return draw(exposure, objects, rows, njy * 10 ** (0.4 * (exposure.zeropoint - 31.4)), shapes, out / "pool")


def survey_samples(path: Path, name: str, catalog: ParentCatalog, out: Path, psf_dir: Path | None = None) -> Samples:
    """Return samples from a real exposure: its galaxies, and copies of them elsewhere on it."""
    survey = load_survey(name)
    make_backgrounds([path], out / "pool", survey, BackgroundSettings(n_per_exposure=2000), psf_dir=psf_dir)
    exposure = next(read_exposure(path, survey, psf_dir=psf_dir))
    objects = place_objects(exposure, catalog, MeasureSettings())
    table = measure_exposure(exposure, catalog, MeasureSettings(estimators=("optimal",)))
    flux, error = (table[column].to_numpy().astype(np.float64) for column in ("flux", "flux_err"))
    flags = table["flags"].to_numpy() & CLEAN & ~int(Flag.NEIGHBOUR)
    rows = np.flatnonzero((flags == 0) & (flux > SNR[0] * error) & (objects.stamp_size == SIZE))
    scale = 10 ** (0.4 * (31.4 - exposure.zeropoint))
    x, y = random_centres(len(rows))
    shapes = objects.take(rows).at(x, y)
    return draw(exposure, objects, rows, flux[rows] / scale, shapes, out / "pool")


def main() -> None:
    """Print the areas."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sdss", type=Path)
    parser.add_argument("--vista", type=Path)
    arguments = parser.parse_args()
    out = arguments.out
    found = {
        "mock, galaxies anywhere": mock_samples(out / "mock"),
        "mock, 40 % in groups": mock_samples(out / "groups", ("sky.clustered=0.4",)),
    }
    if arguments.sdss:
        catalog = load_galaxies(arguments.sdss, coadd_shapes=True).catalog
        frame = next(arguments.sdss.glob("frame-i-*.fits.bz2"))
        found["SDSS i"] = survey_samples(frame, "sdss", catalog, out / "sdss")
    if arguments.vista:
        images, folder = sorted(arguments.vista.glob("image_*.fits"))[1:3], out / "vista"
        if not (folder / "parent.parquet").exists():
            make_psfs(images, folder / "psf", load_survey("vircam"), PsfSettings(model="moffat"))
            make_catalog(
                images[1], folder / "parent.parquet", load_survey("vircam"), CatalogSettings(), psf_dir=folder / "psf"
            )
        catalog = read_parent(folder / "parent.parquet")
        found["VISTA H"] = survey_samples(images[0], "vircam", catalog, folder, folder / "psf")
    print(f"{'':26}{'stamps':>8}{'AUC':>8}{'shuffled':>10}")
    for name, samples in found.items():
        area, chance = area_under_curve(samples), area_under_curve(samples, shuffled=True)
        print(f"{name:26}{2 * len(samples.real):>8}{area:>8.3f}{chance:>10.3f}")


if __name__ == "__main__":
    main()
