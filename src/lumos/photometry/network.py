"""The models of a run, and what its tables say of them."""

from dataclasses import replace
from functools import cache

import torch

from lumos.catalogs.schema import Column
from lumos.estimators import Estimator, Measurement, StampBatch
from lumos.estimators.base import ANNULUS
from lumos.flags import Flag
from lumos.nets.bkgnet_model import BackgroundModel, load_background_model
from lumos.nets.checkpoint import find_model, load_model
from lumos.nets.model import FluxModel
from lumos.photometry.settings import MeasureSettings

__all__ = ["background_facts", "background_model_of", "model_facts", "model_of", "with_background"]


def model_of(name: str | None) -> FluxModel | None:
    """Return a model, read once per process as long as it does not change.

    Parameters
    ----------
    name : str or None
        Name of a shipped model, or a folder.

    Returns
    -------
    FluxModel or None
        None for None.
    """
    return None if name is None else _load(name, _changed_at(name))


def background_model_of(name: str) -> BackgroundModel | None:
    """Return a model of backgrounds, read once per process as long as it does not change.

    Parameters
    ----------
    name : str
        Name of a shipped model, or a folder.

    Returns
    -------
    BackgroundModel or None
        None for ``annulus``.
    """
    return None if name == ANNULUS else _load_background(name, _changed_at(name))


def with_background(estimator: Estimator, model: BackgroundModel) -> Estimator:
    """Let an estimator subtract the background that a model predicts.

    Parameters
    ----------
    estimator : Estimator
        With its options.
    model : BackgroundModel
        The model.

    Returns
    -------
    Estimator
        It also fills the columns ``NAME_background`` and ``NAME_background_err``. Where the model cannot tell, it takes
        the annulus and says so with ``ANNULUS_BACKGROUND``.
    """
    level, error = f"{estimator.name}_background", f"{estimator.name}_background_err"
    text = f"level that {estimator.name} subtracts, of model {model.config.name}"
    columns = (
        Column(level, "float32", "{flux}/pix", "instr.background", text),
        Column(error, "float32", "{flux}/pix", "stat.error;instr.background", "error of that level"),
    )

    def measure(batch: StampBatch) -> Measurement:
        changed, known = model.replace_background(batch)
        measured = estimator.function(changed)
        cannot = ~known & torch.isfinite(batch.background)
        return replace(
            measured,
            flags=measured.flags | torch.where(cannot, int(Flag.ANNULUS_BACKGROUND), 0).int(),
            columns={**measured.columns, level: changed.background, error: changed.background_err},
        )

    notes = estimator.notes | Flag.ANNULUS_BACKGROUND
    return replace(estimator, function=measure, columns=(*estimator.columns, *columns), notes=notes)


def background_facts(settings: MeasureSettings) -> dict[str, object]:
    """Return what an output must say of the models that predict backgrounds.

    Parameters
    ----------
    settings : MeasureSettings
        Estimators and their options.

    Returns
    -------
    dict
        Name and digest of the model by estimator, as ``background_models``; empty where all take the annulus.
    """
    facts = {}
    for name in settings.estimators:
        model = background_model_of(str(settings.options.get(name, {}).get("background", ANNULUS)))
        if model is not None:
            facts[name] = model.config.model_dump(include={"name", "sha256"})
    return {"background_models": facts} if facts else {}


def _changed_at(name: str) -> int:
    return (find_model(name) / "config.json").stat().st_mtime_ns


@cache
def _load(name: str, mtime_ns: int) -> FluxModel:  # noqa: ARG001 (the time is part of the cache's key)
    return load_model(name)


@cache
def _load_background(name: str, mtime_ns: int) -> BackgroundModel:  # noqa: ARG001 (as above)
    return load_background_model(name)


def model_facts(name: str | None) -> dict[str, object] | None:
    """Return what an output file must say of the model behind it.

    Parameters
    ----------
    name : str or None
        As of :func:`model_of`.

    Returns
    -------
    dict or None
        Name, kind of its PDFs, digest of its weights, magnitude from which components are cut at 0.
    """
    model = model_of(name)
    return None if model is None else model.config.model_dump(include={"name", "kind", "sha256", "cut_from"})
