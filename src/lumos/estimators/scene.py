"""The joint fit of the scene as an estimator."""

from dataclasses import replace

import torch

from lumos.conventions import DEFAULT_MAX_MASKED
from lumos.estimators.base import BackgroundOptions, Estimator, Measurement, StampBatch
from lumos.estimators.optimal import optimal

__all__ = ["SCENE", "scene"]


def scene(batch: StampBatch, *, max_masked: float = DEFAULT_MAX_MASKED) -> Measurement:
    """Measure the fluxes of the joint fit.

    At the solution of the joint fit each flux is the optimal sum over the object's stamp with all others subtracted.
    Here the sky of that sum is the annulus', and pixels that the scene does not explain are left out: cosmic rays
    without a mask, the cores of sources that no catalogue has.

    Parameters
    ----------
    batch : StampBatch
        Cleaned stamps, n objects; for their ``scene`` see :func:`lumos.scenes.fit.fit_scene`.
    max_masked : float
        Largest share of the light that may be masked; above it the flux is NaN. Where it is more only with the pixels
        that the scene does not explain, these are used after all.

    Returns
    -------
    Measurement
        Fluxes; those of ``optimal`` where there is no scene.
    """
    good = batch.good if batch.scene is None else batch.good & batch.scene.explained
    lost = 1 - (batch.profile * good).sum((1, 2)) / batch.profile.sum((1, 2))
    good = torch.where((lost > max_masked)[:, None, None], batch.good, good)
    return optimal(replace(batch, good=good), max_masked=max_masked)


SCENE = Estimator("scene", scene, BackgroundOptions)
