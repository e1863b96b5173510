"""How well a model knows stamps that are unlike its training stamps: faults caught, good stamps flagged.

Usage: ``python benchmarks/out_of_training.py MODEL POOL [--other POOL] [--n N]``. POOL is a pool of backgrounds like
those of the training, of exposures that training did not see (another seed), ``--other`` that of another survey, all of
whose stamps must be good.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lumos.conventions import FloatArray
from lumos.nets.checkpoint import load_model
from lumos.nets.domain_box import exposure_verdict
from lumos.nets.model import FluxModel
from lumos.pools.pool import BackgroundPool
from lumos.teahupoo.faults import simulate_faulty
from lumos.teahupoo.settings import StampSettings
from lumos.teahupoo.simulated import SimulatedStamps
from lumos.training.data import describe_inputs
from lumos.training.settings import read_training

#: Signal-to-noise ratios of the table.
BINS = ((5, 10), (10, 30), (30, 100), (100, 300))
#: What is tried: name of the row, fault, strength.
TRIALS: dict[str, tuple[str, float | None]] = {
    "stretched by 1.5": ("stretched", 1.5),
    "sheared by 1.5": ("sheared", 1.5),
    "trailed by 4 px": ("trailed", 4.0),
    "trailed by 8 px": ("trailed", 8.0),
    "two images 1 FWHM apart": ("double", 1.0),
    "PSF twice the catalogue's": ("PSF too narrow", 0.5),
    "scale wrong by 1 / 2": ("scale too small", 0.5),
    "scale wrong by 1 / 1.5": ("scale too small", 1 / 1.5),
    "scale wrong by 1.5": ("scale too large", 1.5),
    "scale wrong by 2": ("scale too large", 2.0),
    "place wrong by 3 px": ("displaced", 3.0),
    "saturated star": ("saturated star", None),
    "noise underestimated by 3": ("noise underestimated", 3.0),
}
#: Objects of an exposure, and exposures drawn, for the verdict.
N_OBJECTS, N_EXPOSURES = 50, 200


def constant(stamps: SimulatedStamps) -> SimulatedStamps:
    """Return stamps in which every pixel has the same value."""
    return replace(stamps, data=torch.full_like(stamps.data, 100.0))


def over_subtracted(stamps: SimulatedStamps) -> SimulatedStamps:
    """Return stamps with a hollow of 2 sigma and 10 px in the sky around the galaxy."""
    middle = torch.arange(stamps.data.shape[1]) - stamps.data.shape[1] // 2
    hollow = torch.exp(-(middle[:, None].square() + middle.square()) / (2 * 10.0**2))
    sigma = stamps.sky_variance.flatten(1).median(1).values.sqrt()
    return replace(stamps, data=stamps.data - 2 * sigma[:, None, None] * hollow)


#: What is done to the pixels of good stamps; these are not fitted.
EDITS: dict[str, Callable[[SimulatedStamps], SimulatedStamps]] = {
    "constant stamp": constant,
    "background over-subtracted": over_subtracted,
}


def scores_of(
    model: FluxModel,
    pool: BackgroundPool,
    settings: StampSettings,
    snr: FloatArray,
    rng: np.random.Generator,
    *,
    fault: str | None = None,
    strength: float | None = None,
    edit: Callable[[SimulatedStamps], SimulatedStamps] | None = None,
) -> FloatArray:
    """Return the scores of simulated stamps; those that cannot be measured have NaN."""
    scores = []
    for part in np.array_split(snr, -(-len(snr) // 512)):
        stamps = simulate_faulty(pool, settings, len(part), rng, rows=None, fault=fault, strength=strength, snr=part)
        inputs = describe_inputs(stamps if edit is None else edit(stamps), model, pool).inputs
        scores.append(model.ood_score(inputs, model.predict(inputs)).numpy())
    return np.concatenate(scores)


def flagged(scores: FloatArray) -> float:
    """Return the share of stamps that are flagged or cannot be measured."""
    return float(np.mean(~(scores <= 1)))


def suspect_exposures(scores: FloatArray, rng: np.random.Generator) -> float:
    """Return the share of exposures of N_OBJECTS such objects whose verdict is above 1."""
    draws = rng.integers(len(scores), size=(N_EXPOSURES, N_OBJECTS))
    return float(np.mean([exposure_verdict(scores[draw]) > 1 for draw in draws]))


def print_rows(
    model: FluxModel,
    pool: BackgroundPool,
    settings: StampSettings,
    n: int,
    trials: dict[str, dict[str, Any]],
) -> None:
    """Print the shares of flagged stamps and of suspect exposures for each kind of stamps."""
    for number, (name, options) in enumerate(trials.items()):
        rng = np.random.default_rng([7, number])
        size = n if options else 4 * n
        cells = []
        for low, high in BINS:
            snr = np.exp(rng.uniform(np.log(low), np.log(high), size))
            scores = scores_of(model, pool, settings, snr, rng, **options)
            cells.append(f"{100 * flagged(scores):.1f} / {100 * suspect_exposures(scores, rng):.0f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("pool", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--n", type=int, default=300, help="stamps of each kind in each bin")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(arguments.model)
    facts = model.config.training.get("settings") or read_training("generic")
    settings = StampSettings(**facts["stamps"])
    pool = BackgroundPool.open(arguments.pool, mixed=True)
    heads = " | ".join(f"{low}-{high}" for low, high in BINS)
    print(f"flagged stamps / suspect exposures of {N_OBJECTS} objects, %, by signal-to-noise ratio\n")
    print(f"| | {heads} |\n| --- |{' --- |' * len(BINS)}")
    trials: dict[str, dict[str, Any]] = {"good": {}}
    trials |= {name: {"fault": fault, "strength": strength} for name, (fault, strength) in TRIALS.items()}
    trials |= {name: {"edit": edit} for name, edit in EDITS.items()}
    print_rows(model, pool, settings, arguments.n, trials)
    if arguments.other is not None:
        other = BackgroundPool.open(arguments.other, mixed=True)
        print_rows(model, other, settings, arguments.n, {"good, other survey": {}})


if __name__ == "__main__":
    main()
