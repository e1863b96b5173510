"""Blends as in Fig. 8 and 9 of the paper: a target and one neighbour, with and without the joint fit of the scene.

Fig. 8: a target of i = 22 and a neighbour of i = 20 at 3600 offsets. Fig. 9: a target of i = 21, with a neighbour 5 px
away of many magnitudes, and with one of i = 22 at many distances. Seeing 1 arcsec on pixels of 0.263 arcsec; the
signal-to-noise ratio of a target of i = 22 is 5. Both are in the catalogue, with their true shapes.

Usage: ``python benchmarks/bench_blends.py OUT [--model generic] [--repeats 4]``.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from astropy.wcs import WCS
from scipy.stats import kstest

from lumos.catalogs.parent import ParentCatalog
from lumos.catalogs.schema import list_column
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.pdf import GaussianMixture
from lumos.photometry.batches import stamp_batch
from lumos.photometry.ccd import prepare_ccd
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.objects import on_image, place_objects
from lumos.photometry.settings import MeasureSettings
from lumos.profiles.scene import draw_light
from lumos.profiles.shapes import Shapes
from lumos.statistics import sigma68

mpl.use("Agg")
import matplotlib.pyplot as plt

SCALE, FWHM, BETA, NOISE, ZEROPOINT = 0.263, 1.0, 4.765, 10.0, 26.0
#: Half-light radius in arcsec, index, axis ratio: of the target and of the neighbour.
TARGET, NEIGHBOUR = (0.45, 1.0, 0.6), (0.7, 1.5, 0.7)
#: Side of the square that each pair has, and pairs along a side of an image.
CELL, ALONG = 128, 10
#: Flux of i = 22 in units of the noise of a pixel: a signal-to-noise ratio of 5.
FLUX_22 = 5 * NOISE * 7.6
DISTANCES = (0, 2, 4, 6, 8, 10, 30)


def pairs(offsets: np.ndarray, target: float, neighbour: np.ndarray, rng: np.random.Generator):
    """Yield exposures of up to 100 pairs each, with catalogue and number of pairs."""
    for start in range(0, len(offsets), ALONG**2):
        some = offsets[start : start + ALONG**2]
        n = len(some)
        column, row = np.arange(n) % ALONG, np.arange(n) // ALONG
        x, y = (CELL * (place + 0.5) + rng.uniform(-0.5, 0.5, n) for place in (column, row))
        shapes = Shapes(
            x=np.concatenate([x, x + some[:, 0]]),
            y=np.concatenate([y, y + some[:, 1]]),
            half_light_radius=np.repeat([TARGET[0], NEIGHBOUR[0]], n) / SCALE,
            sersic_n=np.repeat([TARGET[1], NEIGHBOUR[1]], n),
            axis_ratio=np.repeat([TARGET[2], NEIGHBOUR[2]], n),
            theta=rng.uniform(0, np.pi, 2 * n),
        )
        magnitude = np.concatenate([np.full(n, target), neighbour[start : start + ALONG**2]])
        flux = FLUX_22 * 10 ** (-0.4 * (magnitude - 22))
        side = CELL * ALONG
        psf = MoffatModel(FWHM / SCALE, BETA)
        light = draw_light(shapes, flux, psf.at(x[:1], y[:1]), (side, side), NOISE)
        # A sky of 100 electrons: the photons of the galaxies count.
        data = rng.poisson(light.clip(0) + NOISE**2) - NOISE**2
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = (
            ["RA---TAN", "DEC--TAN"],
            [150.0, 2.0],
            [-SCALE / 3600, SCALE / 3600],
        )
        wcs.wcs.crpix = [side / 2, side / 2]
        ra, dec = wcs.all_pix2world(shapes.x, shapes.y, 0)
        image, mask = data.astype(np.float32), np.zeros((side, side), np.int32)
        exposure = Exposure(
            "pairs", "1", "blends", "NB", "", image, mask, wcs, SCALE, psf,
            variance=np.full((side, side), NOISE**2, np.float32), gain=1.0, zeropoint=ZEROPOINT,
        )  # fmt: skip
        catalog = ParentCatalog(
            object_id=np.arange(2 * n),
            ra=ra,
            dec=dec,
            half_light_radius=shapes.half_light_radius * SCALE,
            sersic_n=shapes.sersic_n,
            axis_ratio=shapes.axis_ratio,
            # East is towards -x.
            position_angle=np.rad2deg(shapes.theta) - 90,
            ref_mag=magnitude,
        )
        yield exposure, catalog, n


def measured(offsets, target, neighbour, settings, seed):
    """Return by estimator the measured over the true flux of the targets, pulls and PIT values."""
    rng = np.random.default_rng(seed)
    truth = FLUX_22 * 10 ** (-0.4 * (target - 22)) * 10 ** (0.4 * (31.4 - ZEROPOINT))
    found: dict[str, list] = {}
    for exposure, catalog, n in pairs(offsets, target, neighbour, rng):
        table = measure_exposure(exposure, catalog, settings).slice(0, n)
        for name in settings.all_estimators:
            flux, error = (table[f"{name}_{part}"].to_numpy().astype(float) for part in ("flux", "flux_err"))
            if name == "lumos":
                pdf = GaussianMixture(*(list_column(table, f"pdf_{part}") for part in ("weights", "means", "stds")))
                pit = pdf.cdf(np.full((n, 1), truth))[:, 0]
            else:
                pit = GaussianMixture(np.ones((n, 1)), flux[:, None], error[:, None]).cdf(np.full((n, 1), truth))[:, 0]
            found.setdefault(name, []).append(np.stack([flux / truth - 1, (flux - truth) / error, pit]))
    return {name: np.concatenate(parts, axis=1) for name, parts in found.items()}


def grid() -> np.ndarray:
    """Return the 3600 offsets."""
    along = (np.arange(60) - 29.5) / 2
    return np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)


def fig8(settings, repeats: int) -> dict[str, np.ndarray]:
    """Measure the 3600 offsets, some times over."""
    offsets = np.tile(grid(), (repeats, 1))
    return measured(offsets, 22.0, np.full(len(offsets), 20.0), settings, 8)


def table_of(results: dict[str, dict[str, np.ndarray]], radius: np.ndarray) -> None:
    """Print bias, pull and PIT-KS by distance."""
    print("| estimator | " + " | ".join(f"{low}-{high} px" for low, high in pairwise(DISTANCES)) + " |")
    print("| --- " * len(DISTANCES) + "|")
    for title, found in results.items():
        for name, values in found.items():
            cells = []
            for low, high in pairwise(DISTANCES):
                some = values[:, (radius >= low) & (radius < high)]
                error = 1.25 * np.std(some[0]) / np.sqrt(some.shape[1])
                uniform = kstest(some[2], "uniform").statistic
                cells.append(f"{np.median(some[0]):+.1%} ± {error:.1%}, {sigma68(some[1]):.2f}, {uniform:.3f}")
            print(f"| {name}, {title} | " + " | ".join(cells) + " |")


def gallery(settings: MeasureSettings, out: Path) -> None:
    """Draw some blends: stamp, scene, cleaned stamp, residual, PDFs before and after."""
    offsets = np.array([[1.5, 1.0], [4.0, -2.0], [-6.0, 4.0], [10.0, 5.0]])
    exposure, catalog, n = next(pairs(offsets, 22.0, np.full(4, 20.0), np.random.default_rng(4)))
    around = place_objects(exposure, catalog, settings)
    ccd = prepare_ccd(exposure, 1.0, around, on_image(around, exposure), settings)
    rows = np.arange(n)
    batch, _, _ = stamp_batch(ccd, rows)
    assert batch.scene is not None
    off = measure_exposure(exposure, catalog, settings.model_copy(update={"scene": "off", "model": None}))
    joint = measure_exposure(exposure, catalog, settings)
    truth = FLUX_22 * 10 ** (0.4 * (31.4 - ZEROPOINT))
    figure, axes = plt.subplots(n, 5, figsize=(13, 2.6 * n), constrained_layout=True)
    for i, line in enumerate(axes):
        others, own = batch.scene.others[i].numpy(), (batch.scene.flux[i] * batch.profile[i]).numpy()
        cleaned = (batch.data[i] - batch.background[i]).numpy()
        images = {
            "stamp": cleaned + others,
            "scene": own + others,
            "cleaned stamp": cleaned,
            "residual": cleaned - own,
        }
        for axis, (name, image) in zip(line, images.items(), strict=False):
            axis.imshow(image[14:46, 14:46], origin="lower", vmin=-3 * NOISE, vmax=12 * NOISE, cmap="magma")
            axis.set_title(name if i == 0 else "")
            axis.set_axis_off()
        flux = np.linspace(-1, 6, 400) * truth
        for table, label, style in ((off, "optimal, neighbours left in", "--"), (joint, "lumos, joint scene", "-")):
            pdf = GaussianMixture(
                *(list_column(table, f"pdf_{part}")[i : i + 1] for part in ("weights", "means", "stds"))
            )
            line[4].plot(flux / truth, np.exp(pdf.log_pdf(flux[None]))[0] * truth, style, label=label)
        line[4].axvline(1, color="k", lw=0.8)
        line[4].set_xlabel("flux / true flux")
        line[4].set_yticks([])
        if i == 0:
            line[4].set_title("flux PDF")
            line[4].legend(fontsize=8)
    figure.savefig(out / "blends_gallery.png", dpi=90)
    plt.close(figure)


def main() -> None:
    """Print the tables and draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="generic")
    parser.add_argument("--repeats", type=int, default=4)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    joint = MeasureSettings(estimators=("aperture", "optimal", "scene"), model=args.model)
    # Models on scenes are for cleaned stamps alone.
    runs = {"neighbours left in": joint.model_copy(update={"scene": "off", "model": None}), "joint scene": joint}
    results = {title: fig8(settings, args.repeats) for title, settings in runs.items()}
    radius = np.hypot(*np.tile(grid(), (args.repeats, 1)).T)
    print("Fig. 8: median (f - f0) / f0 with its error, sigma68 of the pulls, PIT-KS, by distance of the neighbour\n")
    table_of(results, radius)
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    chosen = (
        ("neighbours left in", "aperture"),
        ("joint scene", "aperture"),
        ("joint scene", "lumos"),
    )
    edges = np.arange(0, 15, 1.0)
    for title, name in chosen:
        values = results[title][name][0]
        medians = [np.median(values[(radius >= low) & (radius < low + 1)]) for low in edges]
        axes[0].plot(edges + 0.5, 100 * np.array(medians), label=f"{name}, {title}")
    axes[0].set(xlabel="distance / px", ylabel="median bias / %", ylim=(-30, 120), title="i = 22 beside i = 20")
    n = 100 * args.repeats
    magnitudes, steps = np.linspace(18.5, 23, 10), np.arange(1.0, 11.0)
    rng = np.random.default_rng(9)
    curves: dict[tuple[str, str], list[list[float]]] = {}
    print("\nFig. 9: median bias of i = 21, neighbour at 5 px by its magnitude; neighbour of i = 22 by distance\n")
    for panel, axis in enumerate(axes[1:]):
        values = magnitudes if panel == 0 else steps
        for title, settings in runs.items():
            for value in values:
                angle = rng.uniform(0, 2 * np.pi, n)
                distance, magnitude = (5.0, value) if panel == 0 else (value, 22.0)
                offsets = distance * np.column_stack([np.cos(angle), np.sin(angle)])
                found = measured(offsets, 21.0, np.full(n, magnitude), settings, 9)
                for name in (one for one in ("aperture", "lumos") if one in found):
                    curves.setdefault((title, name), [[], []])[panel].append(float(np.median(found[name][0])))
        for title, name in chosen:
            curve = curves[title, name][panel]
            axis.plot(values, 100 * np.array(curve), label=f"{name}, {title}")
            print(
                f"{name}, {title}: " + " ".join(f"{v:g}: {100 * c:+.1f} %" for v, c in zip(values, curve, strict=True))
            )
        axis.set(ylim=(-30, 120), title=("i = 21, neighbour at 5 px", "i = 21 beside i = 22")[panel])
        axis.set_xlabel(("magnitude of the neighbour", "distance / px")[panel])
    for axis in axes:
        axis.axhline(0, color="k", lw=0.8)
    axes[0].legend(fontsize=8)
    figure.savefig(args.out / "blends.png", dpi=90)
    gallery(joint, args.out)


if __name__ == "__main__":
    main()
