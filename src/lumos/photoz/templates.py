"""What a set of model runs is made of: the YAML file that names curves, templates, dust laws, lines and runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from lumos.config import NotNegative, StageSettings, apply_override, read_shipped_yaml, shipped_yaml, validated
from lumos.conventions import FloatArray
from lumos.photoz.inputs import CurveSource, LawSource, TemplateSource
from lumos.spectra.curves import Curve
from lumos.spectra.lines import LINES, LineSet
from lumos.spectra.templates import Template

__all__ = ["ModelSettings", "RunSettings", "load_models", "shipped_sets"]

#: Redshifts that a grid may have.
MOST_REDSHIFTS = 20_000


class RedshiftGrid(StageSettings):
    """The redshifts of the models."""

    low: NotNegative = 0.01
    """First redshift."""
    high: NotNegative = 1.20
    """Last redshift."""
    step: Annotated[float, Field(gt=0)] = 0.001
    """Step between redshifts."""

    @model_validator(mode="after")
    def _in_order(self) -> "RedshiftGrid":
        if not self.low < self.high or (self.high - self.low) / self.step >= MOST_REDSHIFTS:
            text = f"low below high, and at most {MOST_REDSHIFTS} steps"
            raise ValueError(f"redshifts {self.low:g} to {self.high:g} in steps of {self.step:g}, allowed: {text}")
        return self

    def values(self) -> FloatArray:
        """Return the redshifts.

        Returns
        -------
        float array, shape (n_z,)
            Increasing.
        """
        return np.round(self.low + self.step * np.arange(int((self.high - self.low) / self.step + 1e-6) + 1), 12)


class RunSettings(StageSettings):
    """Templates that are summed, behind the same dust."""

    name: str
    """Name; runs with dust add the law and E(B−V)."""
    templates: tuple[str, ...] = Field(min_length=1)
    """Templates of which the sum is made."""
    lines: tuple[str, ...] = ()
    """Sets of emission lines that are added, each with an amplitude of its own."""
    laws: tuple[str, ...] = ()
    """Dust laws: one run for each and each reddening."""
    reddenings: tuple[NotNegative, ...] = ()
    """E(B−V), mag."""

    @model_validator(mode="after")
    def _dust(self) -> "RunSettings":
        if bool(self.laws) != bool(self.reddenings):
            raise ValueError("laws and reddenings come together")
        return self


class ModelSettings(StageSettings):
    """A set of model runs."""

    text: str = ""
    """What it is, in a sentence."""
    redshifts: RedshiftGrid = RedshiftGrid()
    """The grid of redshifts."""
    bands: tuple[CurveSource, ...] = Field(min_length=1)
    """Bands, in the order of the models."""
    templates: tuple[TemplateSource, ...] = Field(min_length=1)
    """Where the templates are."""
    laws: dict[str, LawSource] = {}
    """Dust laws by name."""
    lines: dict[str, dict[str, NotNegative]] = {}
    """Sets of emission lines by name: the flux of each line relative to the others of its set."""
    igm: bool = False
    """Whether the gas between galaxy and observer absorbs (Madau 1995): below 121.6 nm at rest."""
    runs: tuple[RunSettings, ...] = Field(min_length=1)
    """The runs."""

    @model_validator(mode="after")
    def _names(self) -> "ModelSettings":
        bands = [band for source in self.bands for band in source.names]
        templates = [name for one in self.templates for name in (*one.names, *one.closed_forms)]
        for what, names in (("band", bands), ("template", templates), ("run", [run.name for run in self.runs])):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is there twice")
        for run in self.runs:
            for what, wanted, known in (
                ("template", run.templates, tuple(templates)),
                ("lines", run.lines, tuple(self.lines)),
                ("law", run.laws, tuple(self.laws)),
            ):
                unknown = [name for name in wanted if name not in known]
                if unknown:
                    raise ValueError(f"run {run.name!r}: unknown {what} {unknown[0]!r}, allowed: {', '.join(known)}")
                if len(set(wanted)) < len(wanted):
                    raise ValueError(f"run {run.name!r}: {what} {list(wanted)}, each may be there once")
        for name, strengths in self.lines.items():
            unknown = [line for line in strengths if line not in LINES]
            if unknown or not any(strengths.values()):
                text = f"unknown line {unknown[0]!r}" if unknown else "no line above 0"
                raise ValueError(f"lines {name!r}: {text}, allowed: {', '.join(LINES)}")
        return self

    def curves(self, data: Path) -> dict[str, Curve]:
        """Return the curves of all bands.

        Parameters
        ----------
        data : Path
            Folder from which paths start.

        Returns
        -------
        dict of Curve
            By band.

        Raises
        ------
        LumosError
            If one cannot be read.
        """
        return {band: curve for source in self.bands for band, curve in source.read(data).items()}

    def spectra(self, data: Path) -> dict[str, Template]:
        """Return all templates.

        Parameters
        ----------
        data : Path
            Folder from which paths start.

        Returns
        -------
        dict of Template
            By name.

        Raises
        ------
        LumosError
            If one cannot be read.
        """
        return {name: one for source in self.templates for name, one in source.read(data).items()}

    def line_sets(self) -> dict[str, LineSet]:
        """Return the sets of emission lines.

        Returns
        -------
        dict of LineSet
            By name.
        """
        return {name: LineSet(strengths) for name, strengths in self.lines.items()}


def shipped_sets() -> tuple[str, ...]:
    """Return the names of the sets of runs that come with the package.

    Returns
    -------
    tuple of str
        Sorted names.
    """
    return shipped_yaml("lumos.photoz", "runs")


def load_models(name_or_path: str | Path, overrides: Sequence[str] = ()) -> ModelSettings:
    """Read a set of runs.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a shipped one, or the path of a YAML file.
    overrides : sequence of str, optional
        Each ``field=value`` or ``group.field=value``, the value in YAML: ``redshifts.step=0.002``.

    Returns
    -------
    ModelSettings
        The set.

    Raises
    ------
    LumosConfigError
        If there is none of that name, or a key or value is not allowed; the message lists what is.
    """
    content = read_shipped_yaml("lumos.photoz", "runs", "set of model runs", name_or_path)
    for override in overrides:
        apply_override(content, override)
    return validated(ModelSettings, content, name_or_path)
