"""Deepz learns from galaxies with known redshifts: folds, random coadds, several splits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import AnyArray, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.nets.losses import mixture_nll
from lumos.photoz.deepz.inputs import Exposures, flux_ratios, random_coadds
from lumos.photoz.deepz.model import DeepzModel, load_deepz, save_deepz
from lumos.photoz.deepz.settings import DeepzSettings
from lumos.photoz.fluxes import Photometry
from lumos.photoz.settings import PhotozSettings
from lumos.rows import SHARED, Rowwise
from lumos.threads import one_thread

__all__ = ["Fold", "Sample", "fold_of", "make_sample", "train_fold", "train_network"]


@dataclass(frozen=True, eq=False, repr=False)
class Sample(Rowwise):
    """Galaxies with known redshifts, sorted by identifier.

    Parameters
    ----------
    object_id : ndarray of int, shape (n,)
        Identifiers.
    redshift : ndarray, shape (n,)
        Known redshifts.
    ratios, errors : ndarray, shape (n, n_bands)
        Flux ratios of the coadds, and errors.
    exposures, weights : ndarray, shape (n, n_bands, n_exposures), or None
        Flux ratios of exposures and their inverse variances, 0 where there is none.
    n_left_out : int
        Galaxies with known redshifts that cannot be learned from.
    """

    object_id: IntArray
    redshift: FloatArray
    ratios: FloatArray
    errors: FloatArray
    exposures: FloatArray | None = None
    weights: FloatArray | None = None
    n_left_out: int = field(default=0, metadata=SHARED)


def make_sample(
    photometry: Photometry, known: FloatArray, exposures: Exposures | None, start: DeepzModel, settings: PhotozSettings
) -> Sample:
    """Choose the galaxies that a network can learn from.

    Parameters
    ----------
    photometry : Photometry
        Fluxes of n galaxies, in the bands of the network.
    known : ndarray, shape (n,)
        Known redshifts; NaN where there is none.
    exposures : Exposures or None
        Of the same galaxies and bands.
    start : DeepzModel
        Network that training starts from.
    settings : PhotozSettings
        Largest flux ratio, number of folds, smallest number of bands.

    Returns
    -------
    Sample
        Those with enough bands, no extreme colour, and a redshift within the network's.

    Raises
    ------
    LumosDataError
        If there are fewer than two for each fold.
    """
    ratios, errors, _ = flux_ratios(photometry, start.config.reference)
    folds = settings.deepz.folds
    with np.errstate(invalid="ignore"):
        inside = (known >= start.redshifts[0]) & (known <= start.redshifts[-1])
        usable = inside & ~(np.abs(ratios) > settings.deepz.max_ratio).any(axis=1)
    usable &= start.takes(ratios, settings.min_bands)
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(photometry.object_id[rows], kind="stable")]
    n, needed = len(np.unique(photometry.object_id[rows])), 2 * folds
    if n < needed:
        text = f"{n} galaxies with a redshift of {start.redshifts[0]:g} to {start.redshifts[-1]:g} and enough bands"
        raise LumosDataError(
            f"known redshifts: {text}, which leaves folds without objects; {folds} folds need {needed} or more"
        )
    single, weights = None, None
    if exposures is not None:
        reference = photometry.bands.index(start.config.reference)
        unit = photometry.flux[rows, reference][:, None, None]
        some = exposures.take(rows)
        weights = some.weights() * unit**2
        weights[:, reference] = 0
        single = np.where(weights > 0, np.nan_to_num(some.flux) / unit, 0.0)
    left_out = int(np.isfinite(known).sum()) - len(rows)
    return Sample(photometry.object_id[rows], known[rows], ratios[rows], errors[rows], single, weights, left_out)


def fold_of(objects: IntArray, folds: int, seed: Sequence[int]) -> IntArray:
    """Return the folds of galaxies; they depend on the identifiers alone, not on their order.

    Parameters
    ----------
    objects : ndarray of int, shape (n,)
        Identifiers; rows of the same are in the same fold.
    folds : int
        Number of folds, of the same number of galaxies within one.
    seed : sequence of int
        The same gives the same folds.

    Returns
    -------
    ndarray of int, shape (n,)
        0 to ``folds`` - 1.
    """
    unique, place = np.unique(objects, return_inverse=True)
    return np.asarray(np.random.default_rng(seed).permutation(len(unique)) % folds)[place]


@dataclass(frozen=True, eq=False)
class Fold:
    """A network to be trained.

    Parameters
    ----------
    split, number : int
        Which split, and which of its folds the network does not see.
    folder : Path
        Where it is kept.
    """

    split: int
    number: int
    folder: Path


def train_fold(shared: tuple[Sample, DeepzModel, DeepzSettings], fold: Fold) -> str:
    """Train the network of a fold on the other folds and write it, unless it is there.

    Parameters
    ----------
    shared : tuple
        All galaxies, the network to start from, and the settings.
    fold : Fold
        Which.

    Returns
    -------
    str
        Name of its folder.

    Raises
    ------
    LumosDataError
        If the network that is there is damaged.
    """
    sample, start, settings = shared
    if (fold.folder / "config.json").exists():
        load_deepz(fold.folder)
        return fold.folder.name
    number = fold_of(sample.object_id, settings.folds, (settings.seed, fold.split))
    seed = settings.seed + 1 + fold.split * settings.folds + fold.number
    save_deepz(train_network(start, sample.take(number != fold.number), settings, seed), fold.folder)
    return fold.folder.name


def train_network(start: DeepzModel, sample: Sample, settings: DeepzSettings, seed: int) -> DeepzModel:
    """Train a network on galaxies with known redshifts, with other coadds in each batch.

    Parameters
    ----------
    start : DeepzModel
        Pretrained network; it is not changed.
    sample : Sample
        The galaxies.
    settings : DeepzSettings
        Epochs, learning rates, weight decay, batches, exposures.
    seed : int
        Of order, coadds and dropout.

    Returns
    -------
    DeepzModel
        The trained network, which knows what it was trained on.
    """
    model = DeepzModel.create(start.config)
    model.network.load_state_dict(start.network.state_dict())
    arrays: list[AnyArray | None] = [sample.redshift, sample.ratios, sample.errors, sample.exposures, sample.weights]
    redshift, ratios, errors, exposures, weights = (
        None if one is None else torch.from_numpy(one).float() for one in arrays
    )
    assert redshift is not None
    assert ratios is not None
    assert errors is not None
    n, generator = len(sample), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.network.parameters(), weight_decay=settings.weight_decay)

    def seen(rows: Tensor) -> tuple[Tensor, Tensor]:
        if exposures is None or weights is None:
            return ratios[rows], errors[rows]
        return random_coadds((ratios[rows], errors[rows]), exposures[rows], weights[rows], settings.keep, generator)

    with one_thread():
        torch.manual_seed(seed)
        model.network.train()
        for epochs, rate in zip(settings.epochs, settings.rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            for _ in range(epochs):
                for rows in torch.tensor_split(torch.randperm(n, generator=generator), -(-n // settings.batch_size)):
                    loss = mixture_nll(model.network(*seen(rows)), redshift[rows]).mean()
                    optimizer.zero_grad()
                    torch.autograd.backward(loss)
                    optimizer.step()
    model.network.eval()
    how = settings.model_dump(mode="json", exclude={"pretrain"})
    facts = {"n_galaxies": n, "exposures": sample.exposures is not None, "seed": seed}
    changes = {"stage": "trained", "training": {**start.config.training, "deepz": how, **facts}}
    config = start.config.model_copy(update=changes)
    return DeepzModel(config, model.network, np.unique(sample.object_id))
