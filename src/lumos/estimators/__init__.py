"""Flux estimators: functions of a batch of stamps, all behind the interface of :mod:`lumos.estimators.base`."""

from lumos.estimators.aperture import aperture
from lumos.estimators.background import AnnulusBackground, annulus_background, own_light_per_pixel
from lumos.estimators.base import Ellipses, Estimator, FluxResult, StampBatch
from lumos.estimators.noise import CorrelatedNoise, apply_correlation, measure_correlation
from lumos.estimators.optimal import optimal, optimal_flux, optimal_flux_free, optimal_free
from lumos.estimators.overlap import elliptical_overlap
from lumos.estimators.profile_fit import profile_fit

__all__ = [
    "ESTIMATORS",
    "AnnulusBackground",
    "CorrelatedNoise",
    "Ellipses",
    "Estimator",
    "FluxResult",
    "StampBatch",
    "annulus_background",
    "aperture",
    "apply_correlation",
    "elliptical_overlap",
    "measure_correlation",
    "optimal",
    "optimal_flux",
    "optimal_flux_free",
    "optimal_free",
    "own_light_per_pixel",
    "profile_fit",
]

#: The estimators by the name that their output columns carry.
ESTIMATORS: dict[str, Estimator] = {
    "aperture": aperture,
    "profile_fit": profile_fit,
    "optimal": optimal,
    "optimal_free": optimal_free,
}
