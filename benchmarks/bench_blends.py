"""A picture of four blends: stamp, scene, cleaned stamp, residual, and PDFs with and without the joint fit.

The figures of blends are those of ``lumos validate --suite paper --set paper.studies=[blends]``.

Usage: ``python benchmarks/bench_blends.py OUT [--model generic]``.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

from lumos.catalogs.schema import list_column
from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.pdf import GaussianMixture
from lumos.photometry.batches import stamp_batch
from lumos.photometry.ccd import prepare_ccd
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.objects import on_image, place_objects
from lumos.photometry.settings import MeasureSettings
from lumos.validate.studies.pairs import ZEROPOINT, draw_pairs, pair_flux

mpl.use("Agg")
import matplotlib.pyplot as plt

#: Offsets of the neighbours, pixels; range of the pictures in electrons.
OFFSETS, RANGE = np.array([[1.5, 1.0], [4.0, -2.0], [-6.0, 4.0], [10.0, 5.0]]), (-30, 120)


def gallery(settings: MeasureSettings, out: Path) -> None:
    """Draw the picture: i = 22 beside i = 20."""
    n = len(OFFSETS)
    exposure, catalog, _ = next(draw_pairs(OFFSETS, 22.0, np.full(n, 20.0), np.random.default_rng(4)))
    around = place_objects(exposure, catalog, settings)
    ccd = prepare_ccd(exposure, 1.0, around, on_image(around, exposure), settings)
    batch, _, _ = stamp_batch(ccd, np.arange(n))
    assert batch.scene is not None
    off = measure_exposure(exposure, catalog, settings.model_copy(update={"scene": "off", "model": None}))
    joint = measure_exposure(exposure, catalog, settings)
    truth = float(pair_flux(22.0)) * 10 ** (0.4 * (AB_ZEROPOINT_NJY - ZEROPOINT))
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
            axis.imshow(image[14:46, 14:46], origin="lower", vmin=RANGE[0], vmax=RANGE[1], cmap="magma")
            axis.set_title(name if i == 0 else "")
            axis.set_axis_off()
        flux = np.linspace(-1, 6, 400) * truth
        for table, label, style in ((off, "optimal, neighbours left in", "--"), (joint, "lumos, joint scene", "-")):
            parts = (list_column(table, f"pdf_{part}")[i : i + 1] for part in ("weights", "means", "stds"))
            pdf = GaussianMixture(*parts)
            line[4].plot(flux / truth, pdf.pdf(flux[None])[0] * truth, style, label=label)
        line[4].axvline(1, color="k", lw=0.8)
        line[4].set_xlabel("flux / true flux")
        line[4].set_yticks([])
        if i == 0:
            line[4].set_title("flux PDF")
            line[4].legend(fontsize=8)
    figure.savefig(out / "blends_gallery.png", dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="generic")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    gallery(MeasureSettings(estimators=("aperture", "optimal", "scene"), model=args.model), args.out)
