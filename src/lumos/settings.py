"""The settings of all stages: one YAML file, overridden by ``--set stage.field=value``."""

from collections.abc import Sequence
from pathlib import Path

from lumos.adaptation.settings import AdaptSettings
from lumos.coadds.settings import CoaddSettings
from lumos.config import StageSettings, apply_override, read_yaml, validated
from lumos.injection.settings import InjectSettings
from lumos.photometry.settings import MeasureSettings
from lumos.photoz.settings import PhotozSettings
from lumos.pools.settings import BackgroundSettings
from lumos.simulate.settings import load_simulation
from lumos.sources.settings import CatalogSettings, PsfSettings
from lumos.training.settings import BackgroundTraining, TrainSettings, read_training
from lumos.validate.paper.settings import PaperSettings

__all__ = ["Settings", "load_settings", "load_simulation", "load_training"]


class Settings(StageSettings):
    """Settings of every stage."""

    measure: MeasureSettings = MeasureSettings()
    coadd: CoaddSettings = CoaddSettings()
    photoz: PhotozSettings = PhotozSettings()
    catalog: CatalogSettings = CatalogSettings()
    psf: PsfSettings = PsfSettings()
    backgrounds: BackgroundSettings = BackgroundSettings()
    adapt: AdaptSettings = AdaptSettings()
    inject: InjectSettings = InjectSettings()
    paper: PaperSettings = PaperSettings()


def load_settings(config: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read settings from a YAML file and apply overrides.

    Parameters
    ----------
    config : Path, optional
        YAML file with a mapping per stage.
    overrides : sequence of str, optional
        Each ``stage.field=value``, the value in YAML; ``measure.options`` may be left out before an estimator.

    Returns
    -------
    Settings
        Defaults where nothing is given.

    Raises
    ------
    LumosConfigError
        If the file cannot be read, or a key or value is not allowed; the message lists what is.
    """
    content: dict[str, object] = {}
    source = "--set"
    if config is not None:
        source = str(config)
        content = read_yaml(config, may_be_empty=True)
    for override in overrides:
        # An option of an estimator may be named without the way to it.
        of_estimator = override.partition(".")[0] in MeasureSettings.model_fields["estimators"].default
        apply_override(content, f"measure.options.{override}" if of_estimator else override)
    hint = ""
    if {"header", "flux_unit"} & set(content):
        hint = " (is this a survey file? give it with --survey)"
    elif source == "--set" and set(content) - set(Settings.model_fields):
        hint = " (write stage.field=value, as measure.stamp_size=40)"
    return validated(Settings, content, source, hint)


def load_training(name_or_path: str, overrides: Sequence[str] = ()) -> TrainSettings | BackgroundTraining:
    """Read the description of a training run and apply overrides.

    Parameters
    ----------
    name_or_path : str
        Name of a shipped run, or the path of a YAML file.
    overrides : sequence of str, optional
        Each ``field=value`` or ``group.field=value``, the value in YAML.

    Returns
    -------
    TrainSettings or BackgroundTraining
        Defaults where nothing is given.

    Raises
    ------
    LumosConfigError
        If there is no such run or file, or a key or value is not allowed; the message lists what is.
    """
    content = read_training(name_or_path)
    for override in overrides:
        apply_override(content, override)
    if content.get("architecture") == "bkgnet":
        return validated(BackgroundTraining, content, name_or_path)
    return validated(TrainSettings, content, name_or_path)
