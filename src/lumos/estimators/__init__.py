"""Flux estimators: functions of a batch of stamps, all behind the interface of :mod:`lumos.estimators.base`."""

from lumos.estimators.aperture import aperture
from lumos.estimators.base import Ellipses, Estimator, FluxResult, StampBatch
from lumos.estimators.optimal import optimal, optimal_flux, optimal_flux_free, optimal_free
from lumos.estimators.overlap import elliptical_overlap
from lumos.estimators.profile_fit import profile_fit

__all__ = [
    "ESTIMATORS",
    "Ellipses",
    "Estimator",
    "FluxResult",
    "StampBatch",
    "aperture",
    "elliptical_overlap",
    "optimal",
    "optimal_flux",
    "optimal_flux_free",
    "optimal_free",
    "profile_fit",
]

#: The estimators by the name that their output columns carry.
ESTIMATORS: dict[str, Estimator] = {
    "aperture": aperture,
    "profile_fit": profile_fit,
    "optimal": optimal,
    "optimal_free": optimal_free,
}
