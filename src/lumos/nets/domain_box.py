"""How far stamps and exposures lie from those that a model was trained on, by simple properties."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import FloatArray
from lumos.nets.inputs import NetworkInputs, named_scalar
from lumos.nets.paper import PAPER_SCALARS

__all__ = ["FLAGGED", "LARGEST", "box_score", "domain_properties", "exposure_verdict", "psf_score"]

#: Largest score.
LARGEST = 10.0
#: Share of good stamps with a score above 1.
FLAGGED = 0.01
#: Factor by which a PSF may leave the range of the training.
_PSF_FACTOR = 1.2
#: By how much the mean of -ln p of an exposure may exceed 1: its errors, and what surveys differ by.
_EXPOSURE_SIGMAS, _EXPOSURE_SLACK = 4.0, 1.25


def domain_properties(inputs: NetworkInputs, architecture: str) -> dict[str, Tensor]:
    """Return simple properties of stamps, for the box of a model's domain.

    Parameters
    ----------
    inputs : NetworkInputs
        n objects.
    architecture : str
        ``residual`` or ``paper``: whose inputs these are.

    Returns
    -------
    dict of tensor, shape (n,)
        For ``residual`` the signal-to-noise ratio of the optimal flux, the radius of the area of its weights in
        pixels, the largest pixel of the profile, the noise factor, the masked share of the light. For ``paper`` the
        reference magnitude, the scatter and the mean of the stamp in electrons per second, the profile's peak.
    """
    if architecture == "paper":
        stamps = inputs.images[:, 0]
        return {
            "ref_mag": named_scalar(inputs, "ref_mag", PAPER_SCALARS),
            "stamp_scatter": stamps.std((1, 2)),
            "stamp_mean": stamps.mean((1, 2)),
            "profile_peak": inputs.images[:, 1].amax((1, 2)),
        }
    return {
        "signal_to_noise": torch.sinh(named_scalar(inputs, "asinh_ratio")),
        "profile_radius": (named_scalar(inputs, "log_noise_area").exp() / torch.pi).sqrt(),
        "profile_peak": named_scalar(inputs, "log_peak").exp(),
        "noise_factor": named_scalar(inputs, "log_noise_factor").exp(),
        "masked_share": named_scalar(inputs, "masked_share"),
    }


def box_score(inputs: NetworkInputs, architecture: str, domain: Mapping[str, tuple[float, float]]) -> Tensor:
    """Return how far stamps lie outside a box.

    Parameters
    ----------
    inputs : NetworkInputs
        n objects.
    architecture : str
        As of :func:`domain_properties`.
    domain : mapping
        Range of each property; those that are not named are free.

    Returns
    -------
    tensor, shape (n,)
        The largest distance from the middle of a range, in half widths; 0 to 10.
    """
    score = torch.zeros(len(inputs), device=inputs.unit.device)
    for name, values in domain_properties(inputs, architecture).items():
        if name in domain:
            low, high = domain[name]
            score = torch.maximum(score, (values - (low + high) / 2).abs() / ((high - low) / 2))
    return score.nan_to_num(LARGEST).clamp(max=LARGEST)


def psf_score(fwhm: FloatArray, step: int, domain: Mapping[str, tuple[float, float]]) -> FloatArray:
    """Return how far PSFs lie outside those of the training.

    Stamps of large galaxies are binned: a wide PSF is less wide to the network, but a sharp one is not sharper.

    Parameters
    ----------
    fwhm : float array, shape (n,)
        Full widths at half maximum in pixels of the image.
    step : int
        Pixels of the image along the side of one of the network's.
    domain : mapping
        Of a model; its ``psf_fwhm`` is the range of the training.

    Returns
    -------
    float array, shape (n,)
        0 inside the range, 1 where it is left by a fifth, 10 at most.
    """
    low, high = domain.get("psf_fwhm", (0.0, np.inf))
    with np.errstate(invalid="ignore", divide="ignore"):
        beyond = np.log(np.maximum(fwhm / step / high, low / fwhm)) / math.log(_PSF_FACTOR)
    return np.asarray(np.clip(beyond, 0, LARGEST))


def exposure_verdict(scores: FloatArray) -> float:
    r"""Say whether the objects of an exposure share a fault.

    Scores of good stamps are :math:`-\ln p / \ln 100` with p uniform, so that :math:`-\ln p` has mean 1 and standard
    deviation 1 (Fisher's combined test); the verdict is the mean over what it may be,
    :math:`2.25 + 4 / \sqrt n`, of which 1.25 is for surveys that differ from the training one.

    Parameters
    ----------
    scores : float array, shape (n,)
        Scores of :class:`lumos.nets.domain.DomainNetwork` for the objects of one exposure; those that are not finite
        are left out.

    Returns
    -------
    float
        Above 1: the image is distorted, or its PSF, pixel scale or positions are wrong. NaN without a score.
    """
    finite = scores[np.isfinite(scores)]
    if len(finite) == 0:
        return float("nan")
    mean = -math.log(FLAGGED) * float(finite.mean())
    return mean / (1 + _EXPOSURE_SLACK + _EXPOSURE_SIGMAS / math.sqrt(len(finite)))
