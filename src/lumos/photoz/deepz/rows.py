"""Rows of ``lumos photoz --method deepz``."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lumos.conventions import AnyArray, BoolArray, FloatArray, IntArray
from lumos.flags import PhotozFlag
from lumos.nets.mdn import MixtureOutput
from lumos.photoz.deepz.inputs import flux_ratios
from lumos.photoz.deepz.model import DeepzModel
from lumos.photoz.estimates import RedshiftPdf
from lumos.photoz.fluxes import Photometry
from lumos.photoz.rows import empty_columns, estimate_columns
from lumos.photoz.settings import PhotozSettings
from lumos.threads import one_thread

__all__ = ["DeepzRows", "predict_density"]

#: Galaxies whose p(z) is in memory at a time.
_CHUNK = 128
_LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)


def predict_density(model: DeepzModel, ratios: FloatArray, errors: FloatArray) -> FloatArray:
    """Return the p(z) of one network.

    Parameters
    ----------
    model : DeepzModel
        The network.
    ratios, errors : ndarray, shape (n, n_bands)
        Flux ratios and errors in its bands.

    Returns
    -------
    ndarray, shape (n, n_z)
        Probability per unit redshift, normalised over the redshifts of the network. Gaussians are as wide as a step of
        these at least, since p(z) is constant within it.
    """
    redshifts, parts = model.redshifts, []
    for start in range(0, max(len(ratios), 1), _CHUNK):
        seen = [torch.from_numpy(one[start : start + _CHUNK]).float() for one in (ratios, errors)]
        with torch.no_grad(), one_thread():
            model.network.eval()
            mixture = model.network(*seen) if len(seen[0]) else None
        if mixture is not None:
            parts.append(RedshiftPdf.of(redshifts, _log_density(mixture, redshifts)).density)
    return np.concatenate(parts) if parts else np.zeros((0, len(redshifts)))


def _log_density(mixture: MixtureOutput, redshifts: FloatArray) -> FloatArray:
    """Return logarithms of densities at redshifts, shape (n_z, n)."""
    log_weights, means, stds = (part.double().numpy()[:, :, None] for part in mixture.parameters)
    # The variance of an even density within a step.
    stds = np.hypot(stds, np.diff(redshifts).mean() / np.sqrt(12))
    terms = log_weights - 0.5 * ((redshifts - means) / stds) ** 2 - np.log(stds) - _LOG_ROOT_2PI
    return np.asarray(np.logaddexp.reduce(terms, axis=1).T)


@dataclass(frozen=True, eq=False)
class DeepzRows:
    """Makes rows with networks: the mean p(z) of those that were not trained on the galaxy.

    Parameters
    ----------
    models : sequence of DeepzModel
        For the same bands and redshifts.
    settings : PhotozSettings
        Window of the odds.
    """

    models: Sequence[DeepzModel]
    settings: PhotozSettings

    def __call__(self, photometry: Photometry) -> dict[str, AnyArray]:
        """Return the columns of rows.

        Parameters
        ----------
        photometry : Photometry
            Fluxes of n galaxies, in the bands of the networks.

        Returns
        -------
        dict of ndarray, shape (n,) or (n, n_z)
            Columns as in :func:`lumos.catalogs.schema.photoz_schema`; there is no chi2, and ``qz`` is without it. A
            galaxy without a flux above 0 in the reference band, or with fewer bands than the networks need, has no
            redshift.
        """
        config, redshifts = self.models[0].config, self.models[0].redshifts
        ratios, errors, usable = flux_ratios(photometry, config.reference)
        reference = photometry.bands.index(config.reference)
        dark = usable[:, reference] & ~np.isfinite(ratios[:, reference])
        takes = self.models[0].takes(ratios, self.settings.min_bands)
        flags = np.where(usable.all(axis=1), 0, int(PhotozFlag.MISSING_BANDS))
        flags |= np.where(takes | dark, 0, int(PhotozFlag.TOO_FEW_BANDS))
        flags |= np.where(dark, int(PhotozFlag.NO_LIGHT), 0)
        fitted = np.flatnonzero(takes)
        density, seen = self._density(photometry.object_id[fitted], ratios[fitted], errors[fitted])
        with np.errstate(divide="ignore"):
            found = estimate_columns(np.log(density).T, redshifts, self.settings)
        columns = empty_columns(photometry, redshifts)
        for name, values in found.items():
            columns[name][fitted] = values
        columns["qz"][fitted] = 2 * found["pz_width"] / np.maximum(found["odds"], 1e-12)
        columns["best_run"][fitted] = config.name
        place = density.argmax(axis=1)
        flags[fitted] |= np.where((place == 0) | (place == len(redshifts) - 1), int(PhotozFlag.AT_END), 0)
        flags[fitted] |= np.where(seen, int(PhotozFlag.SEEN_IN_TRAINING), 0)
        if photometry.object_name is not None:
            columns["object_name"] = photometry.object_name
        return columns | {"n_bands": usable.sum(axis=1), "flags": flags}

    def _density(self, objects: IntArray, ratios: FloatArray, errors: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Return mean p(z), and whether all networks were trained on the galaxy."""
        fresh = np.stack([~np.isin(objects, model.trained_on) for model in self.models])
        seen = np.asarray(~fresh.any(axis=0))
        asked = fresh | seen
        total = np.zeros((len(objects), len(self.models[0].redshifts)))
        for model, rows in zip(self.models, asked, strict=True):
            total[rows] += predict_density(model, ratios[rows], errors[rows])
        return np.asarray(total / asked.sum(axis=0)[:, None]), seen
