"""Flux estimators: functions of a batch of stamps, all behind the interface of :mod:`lumos.estimators.base`."""

from lumos.estimators.aperture import APERTURE, aperture
from lumos.estimators.base import Ellipses, Estimator, Measurement, Mixture, NoiseShare, StampBatch, StampContext
from lumos.estimators.optimal import OPTIMAL, OPTIMAL_FREE, optimal, optimal_flux, optimal_flux_free, optimal_free
from lumos.estimators.overlap import elliptical_overlap
from lumos.estimators.profile_fit import PROFILE_FIT, profile_fit
from lumos.estimators.scene import SCENE, scene
from lumos.estimators.scene_fit import SceneFit, ShapeErrors

__all__ = [
    "ESTIMATORS",
    "Ellipses",
    "Estimator",
    "Measurement",
    "Mixture",
    "NoiseShare",
    "SceneFit",
    "ShapeErrors",
    "StampBatch",
    "StampContext",
    "aperture",
    "elliptical_overlap",
    "optimal",
    "optimal_flux",
    "optimal_flux_free",
    "optimal_free",
    "profile_fit",
    "scene",
]

#: The estimators that need no model, by the name that their output columns carry.
ESTIMATORS: dict[str, Estimator] = {one.name: one for one in (APERTURE, PROFILE_FIT, OPTIMAL, OPTIMAL_FREE, SCENE)}
