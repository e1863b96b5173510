"""Where response curves, templates and dust laws of a set of model runs come from."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from lumos.config import NotNegative, StageSettings
from lumos.errors import LumosConfigError
from lumos.spectra.curves import Curve, read_curve
from lumos.spectra.dust import DustLaw, calzetti_law, library_law, read_law
from lumos.spectra.passbands import PASSBANDS
from lumos.spectra.templates import Template, closed_form, read_template
from lumos.spectra.wavelengths import Medium, Unit

__all__ = ["CurveSource", "LawSource", "TemplateSource", "check_place"]

#: How far the mean wavelength of a curve may be from that of the band of its name in the table of passbands.
MOST_FROM_NAME = 2.0


def check_place(path: Path, band: str, curve: Curve) -> None:
    """Refuse a curve that lies elsewhere than the band of its name in the table of passbands.

    Parameters
    ----------
    path : Path
        File of the curve, for messages.
    band : str
        Name of the band; one that the table lacks may lie anywhere.
    curve : Curve
        Its response.

    Raises
    ------
    LumosConfigError
        If its mean wavelength is less than half or more than twice that of the table.
    """
    known = PASSBANDS.get(band)
    if known is not None and abs(math.log(curve.mean_wavelength / known.wavelength)) > math.log(MOST_FROM_NAME):
        text = f"mean wavelength {curve.mean_wavelength:.4g} nm, band {band} lies at {known.wavelength:g} nm"
        raise LumosConfigError(f"{path}: {text}; is the unit right?")


class CurveSource(StageSettings):
    """Bands, and where their response curves are."""

    names: tuple[str, ...] | dict[str, str] = Field(min_length=1)
    """Names of the bands; as a mapping, each with its name in the files."""
    path: str | None = None
    """File, with ``{name}`` for the name where there is one for each band; null: the closed forms of the package's
    table of passbands."""
    unit: Unit | None = None
    """Unit of the wavelengths, where the file does not say."""
    medium: Medium = "vacuum"
    """What the wavelengths are in."""
    counting: Literal["photon", "energy"] = "photon"
    """What the response is to."""
    narrow: bool = False
    """Whether these are the narrow bands, which have a scale of their own beside the broad ones."""

    def read(self, data: Path) -> dict[str, Curve]:
        """Return the curves.

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
            If a file cannot be read, a band is not in the table of passbands, or its curve is far from there.
        """
        return {band: self._one(band, name, data) for band, name in _pairs(self.names).items()}

    def _one(self, band: str, name: str, data: Path) -> Curve:
        if self.path is None:
            if name not in PASSBANDS:
                raise LumosConfigError(f"no passband {name!r} in the table, allowed: {', '.join(PASSBANDS)}, or a path")
            return Curve.of(PASSBANDS[name])
        path = data / self.path.replace("{name}", name)
        curve = read_curve(path, self.unit, self.medium, self.counting, name)
        check_place(path, band, curve)
        return curve


class TemplateSource(StageSettings):
    """Templates, and where they are."""

    names: tuple[str, ...] | dict[str, str] = ()
    """Names of the templates; as a mapping, each with its name in the files."""
    path: str | None = None
    """File, with ``{name}`` for the name."""
    unit: Unit | None = None
    """Unit of the wavelengths, where the file does not say."""
    medium: Medium = "vacuum"
    """What the wavelengths are in."""
    per: Literal["wavelength", "frequency"] = "wavelength"
    """What the flux is per unit of."""
    closed_forms: dict[str, tuple[float, float, float, float, float]] = {}
    """Templates in closed form: coefficients of ``lumos.spectra.sed.continuum_basis``."""

    @model_validator(mode="after")
    def _files_or_forms(self) -> "TemplateSource":
        if (self.path is None) != (not self.names) or (self.path is None) != bool(self.closed_forms):
            raise ValueError("allowed: path and names, or closed_forms")
        return self

    def read(self, data: Path) -> dict[str, Template]:
        """Return the templates.

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
        LumosDataError
            If a file cannot be read or holds no template.
        """
        if self.path is None:
            return {name: closed_form(values) for name, values in self.closed_forms.items()}
        return {
            template: read_template(data / self.path.replace("{name}", name), self.unit, self.medium, self.per, name)
            for template, name in _pairs(self.names).items()
        }


class LawSource(StageSettings):
    """A dust law: one of a file, of a formula, or of the package dust_extinction."""

    path: str | None = None
    """Text of two columns, wavelength and k."""
    unit: Unit = "Angstrom"
    """Unit of the wavelengths of the file."""
    formula: Literal["calzetti"] | None = None
    """Calzetti et al. 2000."""
    bump: NotNegative = 0.0
    """Height in k of the bump at 217.5 nm that is added to the formula."""
    library: str | None = None
    """Name of a law of the package dust_extinction, as G03_SMCBar."""

    @model_validator(mode="after")
    def _one_source(self) -> "LawSource":
        if sum(source is not None for source in (self.path, self.formula, self.library)) != 1:
            raise ValueError("allowed: one of path, formula, library")
        return self

    def read(self, data: Path) -> DustLaw:
        """Return the law.

        Parameters
        ----------
        data : Path
            Folder from which paths start.

        Returns
        -------
        DustLaw
            The law.

        Raises
        ------
        LumosDataError
            If a file cannot be read, or the package is missing or has no such law.
        """
        if self.path is not None:
            return read_law(data / self.path, self.unit)
        return calzetti_law(self.bump) if self.library is None else library_law(self.library)


def _pairs(names: tuple[str, ...] | dict[str, str]) -> dict[str, str]:
    return names if isinstance(names, dict) else {name: name for name in names}
