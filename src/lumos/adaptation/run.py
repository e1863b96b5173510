"""Adapt a model to the exposures of a run, without labels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lumos import __version__
from lumos.adaptation.compare import compare_held_out, figures_table, find_excesses
from lumos.adaptation.held_out import measure_held_out
from lumos.adaptation.injected import InjectedStamps, inject_round, training_stamps
from lumos.adaptation.inputs import PreparedStamps, ScaledCcd, iterate_ccds, prepare
from lumos.adaptation.pairs import RunPairs, choose_pairs
from lumos.adaptation.settings import AdaptSettings
from lumos.adaptation.transfer import PairedInputs, SplitModel, labelled_inputs, pair_inputs, split_model, transfer
from lumos.conventions import AnyArray, IntArray
from lumos.errors import LumosDataError, LumosError
from lumos.files import read_json, write_json
from lumos.nets.checkpoint import find_model, load_model, save_model
from lumos.nets.model import FluxModel
from lumos.photometry.ccd import Ccd
from lumos.photometry.measured import MeasuredRun, open_run
from lumos.runs.locks import lock_folder, locked
from lumos.runs.outputs import check_settings, settle_settings
from lumos.teahupoo.draws import FluxProposal
from lumos.training.data import LabelledInputs

__all__ = ["adapt_model"]

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Samples:
    """Pairs and injected galaxies of one part of the sky."""

    pairs: PairedInputs
    injected: LabelledInputs


@locked(lock_folder)
def adapt_model(
    model_name: str,
    run_path: Path,
    out: Path,
    settings: AdaptSettings,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> str:
    """Adapt a model to the exposures of a run, and write it if known fluxes are measured as well as before.

    Parameters
    ----------
    model_name : str
        Name of a shipped model, or a model folder.
    run_path : Path
        Folder that ``lumos measure`` wrote.
    out : Path
        Folder of the adapted model; gets ``adapt.json`` with all figures too.
    settings : AdaptSettings
        Settings of ``lumos adapt``.
    force : bool, optional
        Write the model even if known fluxes are measured worse.
    progress : callable, optional
        Told after each CCD and each epoch.

    Returns
    -------
    str
        One line for the user.

    Raises
    ------
    LumosError
        If a figure of the injected galaxies becomes worse than is allowed; ``adapt.json`` is written all the same.
    LumosConfigError
        If there is no such model or run, the run's stamps are not those of the model, or ``out`` holds something else.
    LumosDataError
        If the run has no pairs, its catalogue changed, or its exposures are missing or none for the model.
    """
    model, run = load_model(model_name), open_run(run_path)
    model.config.check_geometry(run.settings.geometry)
    inputs = {
        "model": {"name": model.config.name, "sha256": model.config.sha256},
        "run": {
            "catalog": run.catalog_sha256,
            "shards": {name: entry["sha256"] for name, entry in run.finished.items()},
        },
        "adapt": settings.model_dump(mode="json"),
    }
    path = out / "adapt.json"
    begun = path.exists() and bool(read_json(path).get("written"))
    check_settings(out, "adapt", inputs, begun=begun, alone=True)
    if begun:
        return f"{out}: finished before"
    pairs = choose_pairs(run, settings.n_pairs, settings.held_out, np.random.default_rng([settings.seed, 0]))
    split = split_model(model, settings.layers)
    training, test = _samples(split, run, pairs, settings, progress)
    proposal = FluxProposal(**training_stamps(model.config.training).proposal.model_dump())
    before = measure_held_out(split.tail, test.pairs, test.injected, proposal)
    curve = transfer(split, settings, training.pairs, training.injected, proposal, progress=progress)
    after = measure_held_out(split.tail, test.pairs, test.injected, proposal)
    figures = compare_held_out(before, after)
    excesses = find_excesses(figures, settings.max_bias_change, settings.max_pit_change, settings.max_pull_change)
    written = force or not excesses
    numbers = {"pairs": len(training.pairs), "injected": len(training.injected)}
    report = {"version": __version__, "training": numbers, "held_out": figures, "curve": curve}
    settle_settings(out, "adapt", inputs, begun=begun)
    # Whoever finds the folder after a kill sees by this file that the adaptation is not finished.
    write_json(path, report | {"excesses": excesses, "written": False})
    if written:
        _write_model(split.whole, model_name, out, inputs, list(run.finished), figures)
        write_json(path, report | {"excesses": excesses, "written": True})
    if not written:
        raise LumosError(f"{out}: not adapted (--force writes the model all the same): {'; '.join(excesses)}")
    first, last = figures["before"], figures["after"]
    return (
        f"{out}: {len(training.pairs)} pairs, {len(training.injected)} injected galaxies; on held-out sky sigma68 of "
        f"differences {first['difference_sigma68']:.3f} -> {last['difference_sigma68']:.3f}, PIT-KS of injected "
        f"galaxies {first['pit_ks']:.4f} -> {last['pit_ks']:.4f}" + ("; forced" if excesses else "")
    )


def _samples(
    split: SplitModel, run: MeasuredRun, pairs: RunPairs, settings: AdaptSettings, progress: Progress | None
) -> tuple[_Samples, _Samples]:
    """Return what the model is trained on and what it is tested on."""
    keys = np.array([f"{name}/{detector}" for name, detector in zip(pairs.exposure_id, pairs.detector, strict=True)])
    n_ccds = len(np.unique(keys))
    stamps: list[PreparedStamps] = []
    injected: list[InjectedStamps] = []
    rows: list[AnyArray] = []
    for scaled in iterate_ccds(run, split.whole):
        ccd = scaled.ccd
        key = f"{ccd.exposure.exposure_id}/{ccd.exposure.detector}"
        here = np.flatnonzero(keys == key)
        if len(here):
            some = replace(scaled, ccd=ccd.take(_rows(ccd, pairs.object_id[here])))
            stamps.append(prepare(split.whole, some, split.reduce))
            rows.append(here)
            injected += _inject(split, scaled, settings, -(-settings.n_injected // n_ccds), len(rows))
            if progress is not None:
                progress(len(rows), n_ccds, key)
    if not injected:
        raise LumosDataError(f"{run.path}: its exposures have no room for injected galaxies")
    return _divide(
        PreparedStamps.concatenate(stamps), np.concatenate(rows), pairs, InjectedStamps.concatenate(injected)
    )


def _rows(ccd: Ccd, object_id: IntArray) -> IntArray:
    """Return the numbers of objects of a CCD by their identifiers, in that order."""
    known = ccd.objects.catalog.object_id
    order = np.argsort(known)
    place = np.searchsorted(known, object_id, sorter=order)
    return np.asarray(order[place])


def _inject(split: SplitModel, scaled: ScaledCcd, settings: AdaptSettings, n: int, number: int) -> list[InjectedStamps]:
    """Inject n galaxies into a CCD, in as many rounds as that takes."""
    stamps = training_stamps(split.whole.config.training)
    rounds: list[InjectedStamps] = []
    for turn in range(settings.injection_rounds):
        rng = np.random.default_rng([settings.seed, 1, number, turn])
        left = n - sum(int(one.stamps.inputs.usable.sum()) for one in rounds)
        if left <= 0:
            break
        one = inject_round(split.whole, scaled, stamps, left, settings.injection_distance, rng, split.reduce)
        if one is None:
            break
        rounds.append(one)
    return rounds


def _divide(
    stamps: PreparedStamps, rows: IntArray, pairs: RunPairs, injected: InjectedStamps
) -> tuple[_Samples, _Samples]:
    """Divide pairs and injected galaxies between training and test, by their place on the sky."""
    place = np.full(len(pairs.object_id), -1)
    place[rows] = np.arange(len(rows))
    # CCDs that nothing calibrates have been left out.
    whole = (place[pairs.first] >= 0) & (place[pairs.second] >= 0)
    first, second, held = place[pairs.first[whole]], place[pairs.second[whole]], pairs.held_out[whole]
    joined, usable = pair_inputs(stamps.inputs, stamps.flux_scale, stamps.ref_mag, first, second)
    far = pairs.is_held_out(injected.ra)
    parts = []
    for part, is_far in ((~held[usable], ~far), (held[usable], far)):
        of = injected.stamps
        labelled = labelled_inputs(of.inputs, injected.flux, of.flux_scale, of.ref_mag, is_far)
        parts.append(_Samples(joined.take(part), labelled))
        if min(len(parts[-1].pairs), len(labelled)) == 0:
            counts = f"{len(parts[-1].pairs)} pairs and {len(labelled)} injected galaxies"
            raise LumosDataError(f"{counts} on one part of the sky, allowed: at least one of each")
    return parts[0], parts[1]


def _write_model(
    model: FluxModel, source: str, out: Path, inputs: dict[str, Any], exposures: list[str], figures: dict[str, Any]
) -> None:
    """Write the folder of the adapted model."""
    facts = {"from": inputs["model"], "exposures": exposures, "settings": inputs["adapt"], "version": __version__}
    after = figures["after"]
    config = model.config.model_copy(
        update={
            "name": f"{model.config.name}-adapted",
            "training": {**model.config.training, "adapted": facts},
            "metrics": {"pit_ks": after["pit_ks"], "pull": after["pull_sigma68"]},
        }
    )
    text = (find_model(source) / "README.md").read_text(encoding="utf-8").rstrip()
    section = [
        f"## Adapted to {len(exposures)} exposures",
        "",
        f"The above is the card of `{model.config.name}`, from which this model was adapted with `lumos adapt`.",
        "On held-out sky of the same exposures:",
        "",
        figures_table(figures),
        "",
    ]
    # In single precision: the steps of so small a learning rate would be lost in half.
    save_model(replace(model, config=config), out, "\n".join([text, "", *section]))
