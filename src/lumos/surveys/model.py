"""What a survey is: bands, header map, image layout, mask planes, PSF source.

Every class here is one level of a survey file (YAML). A key that is not a field is refused; see
:func:`lumos.surveys.load_survey`.
"""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from lumos.config import StageSettings
from lumos.conventions import DEFAULT_MOFFAT_BETA
from lumos.flags import MaskPlane
from lumos.spectra.passbands import PASSBANDS, Passband
from lumos.surveys.header import HeaderCondition, HeaderMap, StateRule, Substitution

__all__ = [
    "Band",
    "ImageLayout",
    "MaskSource",
    "NoiseSource",
    "PsfSource",
    "SkySource",
    "Survey",
    "VarianceSource",
    "ZeropointRule",
]

#: Centres of bands of one name differ by less than this share.
_SAME_BAND = 0.06


class Band(StageSettings):
    """One band of a survey."""

    wavelength: float | None = Field(None, gt=0)
    """Central wavelength, nm; without one, that of common bands of this name."""
    width: float | None = Field(None, gt=0)
    """Full width at half maximum, nm; without one, that of common bands of this name with nearly this wavelength."""
    exposure_time: float | None = Field(None, gt=0)
    """Seconds; used where the header states none."""

    @model_validator(mode="after")
    def _is_band(self) -> "Band":
        if self.width is not None and (self.wavelength is None or self.width >= self.wavelength):
            raise ValueError(f"width {self.width} needs a wavelength above it, got {self.wavelength}")
        return self


class _Companion(StageSettings):
    """An image that belongs to a science image: another extension or another file."""

    extension: tuple[str | int, ...] = ()
    """Extensions tried in order; empty in a sidecar: the one with the image's own name or index."""
    sidecar: tuple[Substitution, ...] = ()
    """File names tried in order, beside the image; empty: the image's own file."""
    required: bool = False
    """Refuse an exposure without it."""


class MaskSource(_Companion):
    """A mask and the meaning of its values."""

    kind: Literal["bits", "codes", "names", "nonzero", "sdss_spans"]
    """``bits``: sums of bit values. ``codes``: one code per pixel, every code listed.
    ``names``: bits whose numbers stand in ``MP_<NAME>`` cards. ``nonzero``: any other value than 0 is bad.
    ``sdss_spans``: the tables of an fpM file, planes by name."""
    planes: dict[str, tuple[int | str, ...]] = {}
    """Bit values, codes or plane names for each canonical plane."""
    ignore: tuple[int, ...] = ()
    """Codes without a meaning for photometry (kind ``codes``; any other unlisted code is refused)."""
    when: HeaderCondition | None = None
    """Use this entry only where the header says so."""

    @model_validator(mode="after")
    def _check_planes(self) -> "MaskSource":
        allowed = [plane.name for plane in MaskPlane]
        for plane, values in self.planes.items():
            if plane not in allowed:
                raise ValueError(f"mask plane {plane!r} is unknown, allowed: {allowed}")
            kind = str if self.kind in {"names", "sdss_spans"} else int
            if not all(isinstance(value, kind) for value in values):
                raise ValueError(f"mask plane {plane}: kind {self.kind!r} takes values of type {kind.__name__}")
            if self.kind == "bits" and not all(int(value).bit_count() == 1 and int(value) > 0 for value in values):
                raise ValueError(f"mask plane {plane}: bits must be powers of two, got {list(values)}")
        return self


class VarianceSource(_Companion):
    """A variance or weight image; its kind is never guessed."""

    kind: Literal["variance", "ivar", "rms", "relative_weight", "mask01", "sdss_sky"]
    """``variance``, inverse variance (``ivar``) or standard deviation (``rms``) in image units.
    ``relative_weight``: inverse variance up to a factor, which is taken from the scatter of the image.
    ``mask01``: 0 where a pixel is bad, no noise in it.
    ``sdss_sky``: from the sky table of a frame and the gain and dark variance of the photoField sidecar."""
    includes_sources: bool = False
    """True where it holds the photon noise of the sources too."""
    when: HeaderCondition | None = None
    """Use this entry only where the variance's own header says so."""


class SkySource(_Companion):
    """An image of the sky that was subtracted, image units."""


class NoiseSource(_Companion):
    """An image of noise alone, as its pipeline drew it: the correlation of the noise is measured on it."""


class ImageLayout(StageSettings):
    """Which images of a file are exposures."""

    extensions: Literal["all"] | tuple[str | int, ...] = "all"
    """Names or indices, or ``all``: every two-dimensional image that is no mask, variance or sky."""
    exclude: tuple[str, ...] = ()
    """Names of further extensions that are no exposures."""
    checksum: Literal["warn", "require", "ignore"] = "warn"
    """What is done about CHECKSUM and DATASUM. ``warn``: name those that fail, and measure (cutouts keep the sums
    of the image they come from). ``require``, for archives: refuse a file or companion in which one fails or is
    absent, or that lacks extensions which NEXTEND announces. ``ignore``: do not compute them."""


class ZeropointRule(StageSettings):
    """How the header gives the AB magnitude of 1 image unit."""

    kind: Literal["magnitude", "fluxmag0", "photflam", "photfnu", "mjysr"] = "magnitude"
    """What ``header.zeropoint`` holds, F. ``magnitude``: the zero point itself. ``fluxmag0``: the counts of magnitude
    0, zp = 2.5 log10 F. ``photflam``: erg/s/cm2/Angstrom of 1 unit, zp = -2.5 log10(F p^2 / c) - 48.6 with
    ``header.pivot`` p. ``photfnu``: Jy of 1 unit, zp = 8.9 - 2.5 log10 F. ``mjysr``: pixels are MJy/sr, nothing is
    looked up; zp = 8.9 - 2.5 log10(10^6 A) with the pixel's solid angle A from ``header.pixel_area`` or the WCS."""
    offset: float | dict[str, float] = 0.0
    """Magnitudes added to the zero point, one number or one for each band: AB minus Vega, an aperture correction.
    A band that is not listed gets none."""


class PsfSource(StageSettings):
    """Where the PSF comes from."""

    kind: Literal["header", "psfex", "stamp", "sdss", "lsst", "table", "none"] = "none"
    """``header``: Moffat with the FWHM of the header. ``psfex``: a PSFEx model. ``stamp``: one image.
    ``sdss``: psField. ``lsst``: the stamps of a coadd's cells (extension ``PSF``) or the tables of an ExposureF file; a
    stamp that ``files`` or ``sidecar`` find comes first. ``table``: the table that ``lumos psf`` writes (also used
    wherever it is given)."""
    beta: float = Field(DEFAULT_MOFFAT_BETA, gt=1)
    """Exponent of the Moffat PSF."""
    unit: Literal["arcsec", "pixel"] = "arcsec"
    """Unit of the header's FWHM; a FWHM in arcsec is that of a PSF which is round on the sky."""
    files: tuple[str, ...] = ()
    """Glob patterns below the PSF folder (or the image's), tried in order, with ``{stem}``, ``{base}`` (the stem
    without the detector at its end), ``{exposure_id}``, ``{detector}``, ``{band}``."""
    sidecar: tuple[Substitution, ...] = ()
    """The PSF's file name made from the image's (kinds psfex, stamp and sdss)."""
    extension: str | None = None
    """Name of the extension of the stamp (kind ``stamp``). Without ``files`` and ``sidecar`` it is one of the image's
    own file. An array of one stamp per cell is averaged over the cells that have one. With kind ``header``, a stamp in
    the image's own file comes before the FWHM."""
    sampling: float = Field(1.0, gt=0)
    """Size of a stamp's sample in image pixels."""
    includes_pixel: bool = True
    """True where the PSF was measured on pixels, so that it holds their response: a stamp, or the Moffat of a header or
    of a table that does not say so itself (column ``includes_pixel``). Seeing programs measure on pixels; what
    `lumos psf` writes is the Moffat before them, and says so. ``psf.beta`` is the exponent before the pixel."""


#: How a survey file may list its bands.
_Bands = Literal["any"] | list[str] | dict[str, Band | None]


class Survey(StageSettings):
    """A survey: everything that reading and calibrating its exposures needs.

    Mirrors a survey file level by level; no code is needed for a new survey.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_+-]{1,40}$")
    """Name of the survey in output files."""
    text: str
    """What the survey is, in a sentence."""
    bands: dict[str, Band] = {}
    """Bands by name. ``bands: any`` stands for no list and ``other_bands: true``."""
    other_bands: bool = False
    """Accept bands that are not listed. Their names are made safe as identifiers: whatever is no letter, digit or
    ``_+-`` becomes one ``_``, and none stands at the ends (``r.MP9601`` becomes ``r_MP9601``)."""
    states: StateRule = StateRule()
    """Camera states, for surveys whose camera changed."""
    pixel_scale: float | None = Field(None, gt=0)
    """Arcsec per pixel; null: not checked."""
    pixel_scale_tolerance: float = Field(0.03, gt=0)
    """Largest relative difference of the WCS from ``pixel_scale``."""
    recognised_by: tuple[HeaderCondition, ...] = ()
    """Header values, all of which tell `lumos init` that images are of this survey."""
    flux_unit: str
    """Unit of a pixel, in words."""
    sky_subtracted: bool
    """True where the images no longer hold the sky."""
    zeropoint_per_second: bool = False
    """False: the zero point is the magnitude of 1 image unit. True: of 1 image unit per second, so that
    2.5 log10(exposure time) is added."""
    zeropoint: ZeropointRule = ZeropointRule()
    """How the header gives the zero point."""
    header: HeaderMap
    """Where the header, file name or a constant gives each fact."""
    image: ImageLayout = ImageLayout()
    """Which images of a file are exposures."""
    mask: tuple[MaskSource, ...] = ()
    """Masks tried in order; the first that exists (and whose ``when`` holds) is used."""
    variance: tuple[VarianceSource, ...] = ()
    """Variances tried in order; the first that exists is used."""
    sky: tuple[SkySource, ...] = ()
    """Sky images tried in order."""
    noise: tuple[NoiseSource, ...] = ()
    """Images of noise alone, tried in order; without one the correlation of the noise is measured between sources."""
    psf: PsfSource = PsfSource()
    """Where the PSF comes from."""

    @model_validator(mode="before")
    @classmethod
    def _any_band(cls, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict) and value.get("bands") == "any":
            return {**value, "bands": {}, "other_bands": True}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Survey":
        if not self.bands and not self.other_bands:
            raise ValueError("no bands, allowed: at least one, or 'any'")
        offset = self.zeropoint.offset
        unknown = sorted(set(offset) - set(self.bands)) if isinstance(offset, dict) and not self.other_bands else []
        if unknown:
            raise ValueError(f"zeropoint.offset names the bands {unknown}, bands has {list(self.bands)}")
        entry = self.header.zeropoint
        if self.zeropoint.kind == "mjysr" and (entry.keys or entry.default is not None):
            raise ValueError("header.zeropoint is not used by zeropoint.kind 'mjysr', allowed: header.pixel_area")
        if self.zeropoint.kind == "photflam" and not (self.header.pivot.keys or self.header.pivot.default):
            raise ValueError("zeropoint.kind 'photflam' needs header.pivot, the pivot wavelength in Angstrom")
        return self

    def band(self, name: str) -> Band | None:
        """Return what is known of a band.

        Parameters
        ----------
        name : str
            Name of the band, after patterns and aliases.

        Returns
        -------
        Band or None
            None where the survey does not have it.
        """
        return self.bands.get(name, Band() if self.other_bands else None)

    def passband(self, name: str) -> Passband | None:
        """Return the passband of a band: the survey's own, or what it does not say from the table of common bands.

        Parameters
        ----------
        name : str
            Name of the band, after patterns and aliases.

        Returns
        -------
        Passband or None
            None where the survey does not have the band, or neither says enough.
        """
        band, common = self.band(name), PASSBANDS.get(name)
        if band is None or band.wavelength is None:
            return None if band is None else common
        width = band.width
        if width is None and common is not None and abs(band.wavelength / common.wavelength - 1) < _SAME_BAND:
            width = common.width
        return None if width is None else Passband(band.wavelength, width)

    @field_validator("bands", mode="before", json_schema_input_type=_Bands)
    @classmethod
    def _plain_bands(cls, value: Any) -> Any:  # noqa: ANN401
        """Accept a list of names, or null for a band without details."""
        if isinstance(value, list):
            return {str(name): {} for name in value}
        if isinstance(value, dict):
            return {str(name): ({} if band is None else band) for name, band in value.items()}
        return value
