"""What the neighbours in the catalogue do to each object: columns, flags, and errors made wider."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import AnyArray
from lumos.estimators import Measurement
from lumos.flags import Flag
from lumos.photometry.ccd import Ccd

__all__ = ["scene_columns", "scene_flags", "widen"]

#: Neighbours count if their light would add more than this many errors of the flux, where errors count as at least
#: this share of the flux, since shapes and PSFs are not known better; or if their own errors raise the error so much.
_THRESHOLD, _RELATIVE_FLOOR, _GROWTH = 0.5, 0.02, 1.2
#: Two fluxes whose errors are correlated more than this are one.
_INSEPARABLE = 0.99


def widen(measured: Measurement, widening: Tensor) -> Measurement:
    """Add to errors what the subtraction of the neighbours adds.

    Parameters
    ----------
    measured : Measurement
        Of n objects on cleaned stamps, by an estimator without PDFs: a model widens its own.
    widening : tensor, shape (n,)
        Error of the flux to be added in quadrature.

    Returns
    -------
    Measurement
        The same fluxes; larger errors.
    """
    return replace(measured, flux_err=torch.hypot(measured.flux_err, widening.to(measured.flux_err)))


def scene_columns(ccd: Ccd) -> dict[str, AnyArray]:
    """Return what the joint fit tells of neighbours, as columns of the table.

    Parameters
    ----------
    ccd : Ccd
        With a scene, n objects.

    Returns
    -------
    dict
        ``blendedness``, ``contamination``, ``neighbour_id``, ``neighbour_distance`` and ``neighbour_correlation``, each
        of shape (n,).
    """
    scene = ccd.scene
    assert scene is not None
    own, around = scene.fluxes.take(scene.rows), scene.around
    has = own.neighbour >= 0
    other = around.take(np.maximum(own.neighbour, 0)) if len(around) else around
    distance = np.hypot(other.x - ccd.objects.x, other.y - ccd.objects.y) * ccd.exposure.pixel_scale
    return {
        "blendedness": own.blendedness,
        "contamination": own.neighbour_light / own.alone_err,
        "neighbour_id": np.where(has, other.catalog.object_id, -1),
        "neighbour_distance": np.where(has, distance, np.nan),
        "neighbour_correlation": np.where(has, own.correlation, 0.0),
    }


def scene_flags(ccd: Ccd) -> AnyArray:
    """Return the flags that tell of neighbours.

    Parameters
    ----------
    ccd : Ccd
        With a scene, n objects.

    Returns
    -------
    int array, shape (n,)
        ``NEIGHBOUR`` and ``INSEPARABLE`` bits of :class:`lumos.flags.Flag`.
    """
    scene = ccd.scene
    assert scene is not None
    own = scene.fluxes.take(scene.rows)
    limit = _THRESHOLD * np.hypot(own.alone_err, _RELATIVE_FLOOR * own.flux)
    matters = (np.abs(own.neighbour_light) > limit) | (own.flux_err > _GROWTH * own.alone_err)
    flags = np.where(matters, int(Flag.NEIGHBOUR), 0)
    return flags | np.where(np.abs(own.correlation) > _INSEPARABLE, int(Flag.INSEPARABLE), 0)
