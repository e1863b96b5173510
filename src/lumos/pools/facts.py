"""What a pool and its journal say of a CCD and of a file."""

from typing import Any, TypedDict

__all__ = ["CcdFacts", "JournalEntry"]


class CcdFacts(TypedDict, total=False):
    """What ``pool.json`` says of one CCD; null where a number is unknown."""

    exposure_id: str
    detector: str
    survey: str
    band: str
    state: str
    file: str
    #: Every file that was read, with its size and time.
    files: dict[str, dict[str, int] | None]
    shape: list[int]
    noise_source: str
    #: Centre and width of the band, nm.
    wavelength: float | None
    width: float | None
    #: Share of the pixels.
    masked: float
    pixel_scale: float
    gain: float | None
    zeropoint: float | None
    zeropoint_err: float | None
    exposure_time: float | None
    #: Arcsec.
    psf_fwhm: float
    #: Median of the pixels' scatter, and that over the median of the band.
    scatter: float
    scatter_ratio: float
    #: ``used`` or ``refused``, and why.
    status: str
    reason: str
    correlation: dict[str, Any] | None
    n_stamps: int


class JournalEntry(TypedDict):
    """What the journal says of one finished file."""

    file: str
    exposures: list[CcdFacts]
    #: Columns of the index of each CCD; None for one without stamps.
    index: list[dict[str, list[Any]] | None]
    #: Elements of each array file up to its end.
    used: dict[str, int]
