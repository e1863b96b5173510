"""The one registry of mask planes (per pixel) and object flags (per row).

Both enumerations are the single source for constants, the metadata of output files and the
documentation: the text of a bit is its entry in ``MASK_TEXT`` or ``FLAG_TEXT``.
"""

from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CATALOG_FLAG_TEXT",
    "DOUBTFUL",
    "FLAG_TEXT",
    "MASK_TEXT",
    "NAN_FLUX",
    "PHOTOZ_FLAG_TEXT",
    "UNUSABLE",
    "CatalogFlag",
    "Flag",
    "MaskPlane",
    "PhotozFlag",
    "catalog_flag_metadata",
    "flag_metadata",
    "flag_names",
    "good_pixels",
    "has_flag",
    "photoz_flag_metadata",
]


class MaskPlane(IntFlag):
    """Canonical planes of a pixel mask; a survey's own bits are mapped onto these."""

    BAD = 1
    SATURATED = 2
    COSMIC_RAY = 4
    NO_DATA = 8
    BLEED = 16
    SUSPECT = 32
    NON_FINITE = 64
    NO_VARIANCE = 128
    TRAIL = 256


MASK_TEXT: dict[MaskPlane, str] = {
    MaskPlane.BAD: "defect of the detector or of the reduction",
    MaskPlane.SATURATED: "saturated",
    MaskPlane.COSMIC_RAY: "hit by a cosmic ray",
    MaskPlane.NO_DATA: "outside the image or never observed",
    MaskPlane.BLEED: "bleed trail or crosstalk of a saturated star",
    MaskPlane.SUSPECT: "usable with care (interpolated, near saturation); not excluded",
    MaskPlane.NON_FINITE: "NaN or infinite value",
    MaskPlane.NO_VARIANCE: "variance zero, negative or not finite",
    MaskPlane.TRAIL: "trail of a satellite or an aeroplane, by the image's mask or as `lumos measure` finds it",
}


class Flag(IntFlag):
    """Bits of the ``flags`` column, int32."""

    EDGE = 1
    OFF_DATA = 2
    MASKED = 4
    MASKED_CENTRE = 8
    TOO_MASKED = 16
    SATURATED = 32
    COSMIC_RAY = 64
    BAD_SHAPE = 128
    NO_PSF = 256
    BAD_BACKGROUND = 512
    BAD_NOISE = 1024
    TRUNCATED_PROFILE = 2048
    FIT_FAILED = 4096
    NEIGHBOUR = 8192
    NO_ZEROPOINT = 16384
    OUT_OF_DOMAIN = 32768
    NO_EXPOSURE = 65536
    OUTLIER_REJECTED = 131072
    CONTRADICTORY = 262144
    DOUBTFUL_ZEROPOINT = 524288
    NO_REFERENCE = 1048576
    POOR_MIXTURE = 2097152
    DOUBTFUL_SHAPE = 4194304
    CATALOG_EXPOSURE = 8388608
    INSEPARABLE = 16777216
    HIDDEN_SOURCE = 33554432
    CATALOG_MISMATCH = 67108864
    ANNULUS_BACKGROUND = 134217728


FLAG_TEXT: dict[Flag, str] = {
    Flag.EDGE: "the stamp leaves the image; missing pixels are treated as masked",
    Flag.OFF_DATA: "the object's centre lies on a pixel without data",
    Flag.MASKED: "some of the object's light falls on masked pixels; corrected with the profile",
    Flag.MASKED_CENTRE: "a masked pixel within the central 3 x 3 pixels",
    Flag.TOO_MASKED: "more of the light is masked than the limit allows; fluxes are NaN",
    Flag.SATURATED: "a saturated pixel or bleed trail within the footprint",
    Flag.COSMIC_RAY: "a cosmic ray within the footprint",
    Flag.BAD_SHAPE: "catalogue shape not finite or outside the allowed range; fluxes are NaN",
    Flag.NO_PSF: "no usable PSF at the object's position; fluxes are NaN",
    Flag.BAD_BACKGROUND: "too few usable pixels in the annulus, which the default estimator needs; fluxes are NaN",
    Flag.BAD_NOISE: "the noise of the stamp is not positive and finite; fluxes are NaN",
    Flag.TRUNCATED_PROFILE: "the object is larger than the largest stamp",
    Flag.FIT_FAILED: "the default estimator has no finite solution, and no other flag says why; its fluxes are NaN",
    Flag.NEIGHBOUR: "neighbours add over half an error to the flux, or their own errors a fifth to its error",
    Flag.NO_ZEROPOINT: "no zero point is known: fluxes are in image units",
    Flag.OUT_OF_DOMAIN: "the stamp is unlike those that the model was trained on (ood_score above 1)",
    Flag.NO_EXPOSURE: "coadd: every exposure is flagged, unmeasured or without a zero point; fluxes are NaN",
    Flag.OUTLIER_REJECTED: "coadd: an exposure contradicts the others and was left out",
    Flag.CONTRADICTORY: "coadd: exposures contradict each other, no majority tells which is wrong; all were used",
    Flag.DOUBTFUL_ZEROPOINT: "coadd: the zero point of an exposure departs from its stated value by over 5 errors",
    Flag.NO_REFERENCE: "coadd: no catalogue magnitude, so there is no prior; the flux and PDF with a prior are NaN",
    Flag.POOR_MIXTURE: "coadd: the mixture differs from the PDF by more probability than the limit (pdf_fit_err)",
    Flag.DOUBTFUL_SHAPE: "the catalogue itself flags the object's shape or position as doubtful",
    Flag.CATALOG_EXPOSURE: "the catalogue was made from this very exposure: fluxes near its limit are biased high",
    Flag.INSEPARABLE: "the pixels tell only the sum of this flux and a neighbour's: each has the error of not knowing",
    Flag.HIDDEN_SOURCE: "a source that the catalogue lacks is seen; it adds over 3 errors and a fifth to the flux",
    Flag.CATALOG_MISMATCH: "the flux is over 3 errors above any that its catalogue magnitude lets expect in this band",
    Flag.ANNULUS_BACKGROUND: "the model that was to predict the background cannot tell; that of the annulus was taken",
}

#: The flux and PDF of a measured row are NaN if and only if one of these is set.
NAN_FLUX = Flag.TOO_MASKED | Flag.BAD_SHAPE | Flag.NO_PSF | Flag.BAD_BACKGROUND | Flag.BAD_NOISE | Flag.FIT_FAILED
#: Rows with one of these are left out: nobody would use their fluxes.
UNUSABLE = Flag.TOO_MASKED | Flag.MASKED_CENTRE | Flag.OFF_DATA | Flag.SATURATED | Flag.COSMIC_RAY | Flag.BAD_SHAPE


class CatalogFlag(IntFlag):
    """Bits of the ``flags`` column of a catalogue that ``lumos catalog`` made, int32."""

    SATURATED = 1
    EDGE = 2
    MASKED = 4
    BLENDED = 8
    RADIUS_AT_LIMIT = 16
    POOR_FIT = 32
    CENTRE_KEPT = 64
    FIT_FAILED = 128
    POINT_SOURCE = 256


CATALOG_FLAG_TEXT: dict[CatalogFlag, str] = {
    CatalogFlag.SATURATED: "a saturated pixel or bleed trail on the object, or a flat top that looks like one",
    CatalogFlag.EDGE: "the object reaches the edge of the image",
    CatalogFlag.MASKED: "masked pixels on the object; the fit goes without them",
    CatalogFlag.BLENDED: "touches another detection; the pixels were divided between them",
    CatalogFlag.RADIUS_AT_LIMIT: "the fitted half-light radius is the largest that is allowed",
    CatalogFlag.POOR_FIT: "the profile does not describe the pixels",
    CatalogFlag.CENTRE_KEPT: "the fit strayed from the detection: position and shape are the detection's own",
    CatalogFlag.FIT_FAILED: "the fit gave no positive flux: position and shape are the detection's own",
    CatalogFlag.POINT_SOURCE: "no larger than the PSF: the shape is that of a point source",
}

#: Rows with one of these have a shape or a position that is not to be relied on (``Flag.DOUBTFUL_SHAPE``).
DOUBTFUL = (
    CatalogFlag.SATURATED
    | CatalogFlag.EDGE
    | CatalogFlag.RADIUS_AT_LIMIT
    | CatalogFlag.POOR_FIT
    | CatalogFlag.CENTRE_KEPT
    | CatalogFlag.FIT_FAILED
)


class PhotozFlag(IntFlag):
    """Bits of the ``flags`` column of ``lumos photoz``, int32."""

    TOO_FEW_BANDS = 1
    NO_LIGHT = 2
    MISSING_BANDS = 4
    POOR_FIT = 8
    AT_END = 16
    SCALE_AT_LIMIT = 32
    SEEN_IN_TRAINING = 64


PHOTOZ_FLAG_TEXT: dict[PhotozFlag, str] = {
    PhotozFlag.TOO_FEW_BANDS: "fewer usable fluxes than photoz.min_bands, or (Deepz) than bands; there is no redshift",
    PhotozFlag.NO_LIGHT: "no template explains the fluxes better than no light at all, or (Deepz) the "
    "reference band has no flux above 0; there is no redshift",
    PhotozFlag.MISSING_BANDS: "some bands have no usable flux",
    PhotozFlag.POOR_FIT: "by chance chi2 would be as large for less than 1 in 10 000 galaxies",
    PhotozFlag.AT_END: "the best redshift is the first or the last of the models",
    PhotozFlag.SCALE_AT_LIMIT: "the scale between narrow and broad bands is at the end of its range, 0.1 or 10",
    PhotozFlag.SEEN_IN_TRAINING: "all networks of Deepz were trained on this galaxy: p(z) is too good",
}


def good_pixels(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which pixels may be used: the one rule of all commands.

    Parameters
    ----------
    mask : int array, any shape
        Bits of :class:`MaskPlane`.

    Returns
    -------
    bool array of the same shape
        True where no plane but ``SUSPECT`` is set.
    """
    suspect = int(MaskPlane.SUSPECT)
    return np.asarray((mask | suspect) == suspect)


def flag_names(flags: int) -> list[str]:
    """Return the names of the bits set in a ``flags`` value.

    Parameters
    ----------
    flags : int
        Value of the ``flags`` column.

    Returns
    -------
    list of str
        Names, lowest bit first.
    """
    return [flag.name for flag in Flag if flag.name is not None and flags & flag]


def has_flag(values: Any, flag: Flag) -> NDArray[np.bool_]:  # noqa: ANN401
    """Tell which values of a ``flags`` column hold a flag.

    Parameters
    ----------
    values : int array, shape (n,)
        The column: of NumPy, pandas (``frame["flags"]``; ``frame.flags`` is pandas' own), Arrow or astropy.
    flag : Flag
        One flag, or several joined by ``|``, of which any counts.

    Returns
    -------
    bool array, shape (n,)
        True where it does.
    """
    return np.asarray((np.asarray(values).astype(np.int64) & int(flag)) != 0)


def flag_metadata() -> dict[str, dict[str, int | str]]:
    """Return the registry as plain data, for the metadata of output files.

    Returns
    -------
    dict
        ``{name: {"bit": value, "text": meaning}}``.
    """
    return {str(flag.name): {"bit": int(flag), "text": FLAG_TEXT[flag]} for flag in Flag}


def catalog_flag_metadata() -> dict[str, dict[str, int | str]]:
    """Return the registry of the bits of a made catalogue as plain data.

    Returns
    -------
    dict
        ``{name: {"bit": value, "text": meaning}}``.
    """
    return {str(flag.name): {"bit": int(flag), "text": CATALOG_FLAG_TEXT[flag]} for flag in CatalogFlag}


def photoz_flag_metadata() -> dict[str, dict[str, int | str]]:
    """Return the registry of the bits of ``lumos photoz`` as plain data.

    Returns
    -------
    dict
        ``{name: {"bit": value, "text": meaning}}``.
    """
    return {str(flag.name): {"bit": int(flag), "text": PHOTOZ_FLAG_TEXT[flag]} for flag in PhotozFlag}
