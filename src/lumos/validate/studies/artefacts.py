"""What spoils pixels and what it does to fluxes: Fig. 15 and section 6.1.4 of the paper, on simulated exposures.

Each row has one kind of artefact and none of the others: cosmic rays of which a fifth are not in the mask, a satellite
on every exposure, crosstalk ghosts of every saturated star, hot pixels and dead columns, saturated stars with bleed
trails, strong scattered light. *Flagged* are rows without a usable flux. Of the others: σ68 of the pulls, share beyond
5 errors. *Told*: of fluxes that are off by more than 5 errors, those that some flag tells; *not told*: share beyond 5
errors of the rows without any flag; *doubted*: rows with a usable flux that are called unlike the training, too bright
for the catalogue, or hiding a source; *false*: the same of rows above a signal-to-noise ratio of 10 that are not off.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from lumos.conventions import BoolArray, FloatArray
from lumos.errors import LumosDataError, LumosValueError
from lumos.flags import UNUSABLE, Flag, has_flag
from lumos.photometry.exposure import estimators_of
from lumos.photometry.run import measure_run
from lumos.photometry.settings import NETWORK, MeasureSettings
from lumos.runs.shards import read_shards
from lumos.simulate.exposures import simulate_survey
from lumos.simulate.settings import load_simulation
from lumos.statistics import sigma68
from lumos.surveys import load_survey
from lumos.validate.accuracy import look_up_truth
from lumos.validate.studies.artefact_figures import ArtefactFigures

__all__ = ["KINDS", "artefacts"]

BASE = (
    "bands=[NB625, NB785]",
    "states=[after]",
    "exposures_per_band=3",
    "sky.galaxies=900",
    "sky.catalog_limit=23.0",
    "sky.mag_range=[17.5, 23.0]",
    "camera.zeropoint_err=0",
    "artefacts.cosmic_rays=0",
    "artefacts.satellites=0",
    "artefacts.ghosts=0",
    "artefacts.hot_pixels=0",
    "artefacts.dead_columns=0",
    "sky.star_mag_range=[17, 22]",
    "background.scattered_light={after: [0.0, 0.0]}",
)
KINDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "cosmic rays": ("artefacts.cosmic_rays=150",),
    "satellites": ("artefacts.satellites=1",),
    "saturated stars": ("sky.star_mag_range=[11, 22]", "sky.stars=250"),
    "ghosts": ("sky.star_mag_range=[11, 22]", "sky.stars=250", "artefacts.ghosts=1", "artefacts.ghost_level=0.01"),
    "hot pixels, dead columns": ("artefacts.hot_pixels=400", "artefacts.dead_columns=10"),
    "scattered light": ("background.scattered_light={after: [0.15, 0.35]}",),
}

#: What is said of fluxes that can be used.
DOUBTS = Flag.OUT_OF_DOMAIN | Flag.HIDDEN_SOURCE | Flag.CATALOG_MISMATCH


def artefacts(
    out: Path, model: str | None = "generic", *, side: int = 1536, kinds: Sequence[str] = tuple(KINDS), workers: int = 1
) -> list[ArtefactFigures]:
    """Simulate exposures with one kind of artefact at a time and measure them.

    Parameters
    ----------
    out : Path
        Folder of the simulated surveys; what is finished there is not made again.
    model : str, optional
        Model to measure with, beside aperture and optimal weights.
    side : int, optional
        Of the exposures, pixels.
    kinds : sequence of str, optional
        Some of ``KINDS``.
    workers : int, optional
        Processes.

    Returns
    -------
    list of ArtefactFigures
        Kind by kind, in it by estimator.

    Raises
    ------
    LumosValueError
        If there is no such kind.
    LumosConfigError
        If there is no such model.
    LumosDataError
        If an exposure cannot be measured.
    """
    wrong = next((kind for kind in kinds if kind not in KINDS), None)
    if wrong is not None:
        raise LumosValueError("kind of artefact", wrong, ", ".join(KINDS))
    found: list[ArtefactFigures] = []
    # A flag is about the default estimator of a run: each has its own.
    runs = {name: MeasureSettings(estimators=(name,)) for name in ("aperture", "optimal")}
    if model is not None:
        runs[NETWORK] = MeasureSettings(estimators=("optimal",), model=model)
    for settings in runs.values():
        estimators_of(settings)
    for kind in kinds:
        folder = out / kind.replace(" ", "_").replace(",", "")
        simulation = load_simulation("paucam-mini", [*BASE, f"camera.shape=[{side}, {side}]", *KINDS[kind]])
        exposures = simulate_survey(simulation, folder, workers=workers).exposures
        parent, survey = folder / "parent.parquet", load_survey("paucam")
        for name, settings in runs.items():
            report = measure_run(exposures, parent, folder / f"run-{name}", survey, settings, workers=workers)
            if report.failed:
                raise LumosDataError("; ".join(report.failed.values()))
            table = read_shards(folder / f"run-{name}")
            found.append(_judge(kind, name, table, look_up_truth(table, folder / "truth.parquet")))
    return found


def _judge(kind: str, name: str, table: pa.Table, truth: FloatArray) -> ArtefactFigures:
    """Return the figures of the default estimator of a run."""
    flags = table["flags"].to_numpy()
    flux, error = (table[f"{name}_{part}"].to_numpy().astype(float) for part in ("flux", "flux_err"))
    # Masked light, edges and doubts tell; a neighbour that is fitted does not.
    unusable, doubted, tells = (has_flag(flags, bits) for bits in (UNUSABLE, DOUBTS, ~Flag.NEIGHBOUR))
    known = np.isfinite(flux) & (error > 0)
    pull = np.where(known, (flux - truth) / np.where(known, error, 1), np.nan)
    kept = known & ~unusable
    off = known & (np.abs(pull) > 5)

    def share(of: BoolArray, rows: BoolArray) -> float:
        return float(np.mean(of[rows])) if rows.any() else float("nan")

    return ArtefactFigures(
        kind=kind,
        estimator=name,
        galaxies=len(np.unique(table["object_id"].to_numpy())),
        rows=len(flux),
        flagged=float(np.mean(~kept)),
        pull=sigma68(pull[kept]),
        beyond5=float(np.mean(off[kept])),
        n_off=int(off.sum()),
        told=share(tells, off),
        not_told=share(off, kept & ~tells),
        doubted=share(doubted, kept),
        false=share(doubted, kept & ~off & (truth > 10 * error)),
    )
