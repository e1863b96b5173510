"""Settings of ``lumos measure``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from lumos.background.geometry import StampGeometry
from lumos.background.settings import NoiseSettings
from lumos.config import NotNegative, Positive, StageSettings
from lumos.conventions import DEFAULT_MAX_MASKED

if TYPE_CHECKING:
    from lumos.catalogs.formats import TableFile
    from lumos.catalogs.parent import ParentCatalog

__all__ = ["CatalogColumns", "CatalogErrors", "MeasureSettings"]


#: Name of the network among the estimators.
NETWORK = "lumos"


class CatalogErrors(StageSettings):
    """Errors of the parent catalogue's positions and shapes, for objects of which it states none.

    Models that were trained on scenes take them into account; other estimators do not.
    """

    position: NotNegative = 0.02
    """Along each axis, arcsec."""
    half_light_radius: NotNegative = 0.05
    """Over the radius."""
    sersic_n: NotNegative = 0.1
    """Over the index."""
    axis_ratio: NotNegative = 0.03
    """Of the axis ratio."""


class CatalogColumns(StageSettings):
    """How the parent catalogue's file names its columns."""

    columns: dict[str, str | float] = {}
    """Name in the file, or a number for a constant, of each column that differs from the standard."""
    units: dict[str, str] = {}
    """Unit of a column where the file states none or another: of a radius in pixels ``0.2 arcsec``, if a pixel is that
    large; of a ``ref_mag`` that is a flux its unit, as ``nJy``, or ``zp 26`` for the flux of that zero point."""
    radius: Literal["major", "circularised"] = "major"
    """Whether the half-light radius runs along the major axis or is sqrt(a b)."""
    errors: CatalogErrors = CatalogErrors()
    """What the catalogue does not say of its own errors."""
    made_from: tuple[str, ...] = ()
    """Identifiers of the exposures in whose pixels the objects were found, beside those that the file names; their
    rows are flagged CATALOG_EXPOSURE."""

    def read(self, source: "Path | TableFile") -> "ParentCatalog":
        """Read a parent catalogue.

        Parameters
        ----------
        source : Path or TableFile
            Its file, or a table that is open or in memory.

        Returns
        -------
        ParentCatalog
            As :func:`lumos.catalogs.parent.read_parent` reads it, with these names and units.
        """
        from lumos.catalogs.parent import read_parent  # noqa: PLC0415 - settings are read before anything slow is loaded

        return read_parent(source, self.columns, self.radius, self.made_from, self.units)


class MeasureSettings(StageSettings):
    """Settings of ``lumos measure``."""

    estimators: tuple[str, ...] = ("aperture", "profile_fit", "optimal", "optimal_free", "scene")
    """Classical estimators to run."""
    model: str | None = None
    """Shipped model, or model folder, that runs beside them under the name ``lumos``."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network's convolutions."""
    default: str | None = None
    """The estimator whose result becomes ``flux``, ``flux_err`` and the PDF; null: ``lumos`` if there is a model,
    else ``optimal``, else the first."""
    scene: Literal["joint", "off"] = "joint"
    """``joint``: neighbours in the catalogue are fitted together with each object and subtracted before it is measured.
    ``off``: stamps as they are; what neighbours add is only told and flagged."""
    stamp_size: Annotated[int, Field(ge=20, le=200, multiple_of=2)] = 60
    """Side of a stamp in pixels."""
    max_stamp_size: Annotated[int, Field(ge=20, le=1000)] = 240
    """Stamps are doubled for large objects, up to this side."""
    annulus_inner: Positive = 30.0
    """Inner radius of the background annulus in pixels; grows with the stamp."""
    annulus_outer: Annotated[float, Field(gt=0, le=500)] = 45.0
    """Outer radius of the background annulus in pixels; grows with the stamp."""
    options: dict[str, dict[str, bool | int | float | str]] = {}
    """Options of single estimators by their names, as ``{aperture: {fraction: 0.5}}``."""
    max_masked: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Largest share of an object's light on masked pixels that is corrected; 0.25 at most for a model."""
    trails: bool = True
    """Whether to look for trails of satellites, long straight lines of light, and to mask them."""
    noise: NoiseSettings = NoiseSettings()
    """Where the noise comes from."""
    catalog: CatalogColumns = CatalogColumns()
    """How to read the parent catalogue."""

    @field_validator("scene", mode="before")
    @classmethod
    def _no_is_off(cls, value: object) -> object:
        # YAML reads a bare off as false.
        return "off" if value is False else value

    @property
    def all_estimators(self) -> tuple[str, ...]:
        """Return the names of all estimators of the run."""
        return (*self.estimators, *(() if self.model is None else (NETWORK,)))

    @property
    def default_estimator(self) -> str:
        """Return the name of the default estimator."""
        if self.default is not None:
            return self.default
        names = self.all_estimators
        return next((name for name in (NETWORK, "optimal") if name in names), names[0])

    @property
    def masked_limit(self) -> float:
        """Return the share of masked light above which the default estimator's flux is NaN."""
        # Networks see no stamps with more in training.
        return min(self.max_masked, DEFAULT_MAX_MASKED) if self.default_estimator == NETWORK else self.max_masked

    @model_validator(mode="after")
    def _has_default(self) -> Self:
        if not self.all_estimators:
            raise ValueError("estimators: give at least one, or a model")
        if self.default is not None and self.default not in self.all_estimators:
            raise ValueError(f"default={self.default!r} is not one of {', '.join(self.all_estimators)}")
        return self

    @property
    def geometry(self) -> StampGeometry:
        """Return stamp and annulus as one."""
        return StampGeometry(self.stamp_size, self.annulus_inner, self.annulus_outer)

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.max_stamp_size < self.geometry.size:
            raise ValueError(f"max_stamp_size={self.max_stamp_size} must be at least stamp_size={self.stamp_size}")
        return self
