"""The network of the Lumos paper (section 4, fig. 4)."""

import torch
from torch import Tensor, nn

from lumos.errors import LumosShapeError, LumosValueError
from lumos.estimators import StampBatch
from lumos.nets.inputs import NetworkInputs, SideInputs
from lumos.nets.mdn import MixtureHead, MixtureOutput

__all__ = ["PAPER_SCALARS", "PaperNetwork", "paper_inputs"]

#: Numbers beside the images.
PAPER_SCALARS = ("ref_mag", "ccd_x", "ccd_y")
#: Side of the images in pixels: five halvings and the paddings below leave 4 x 4.
_SIDE = 60
#: Output channels, kernel and padding of each block.
_BLOCKS = ((32, 9, 4), (64, 7, 4), (128, 5, 3), (64, 3, 3), (32, 2, 2))
_CONV_FEATURES = _BLOCKS[-1][0] * 4 * 4
_DENSE = (2000, 1000, 100)


class PaperNetwork(nn.Module):
    """Stamp, profile image and side information in; the Gaussian mixture of the flux out.

    Five blocks of convolution, 2 x 2 max-pooling, batch normalisation and ReLU turn the two images into 512 features.
    With the side information and a trainable embedding of band and camera state they enter dense layers.

    Parameters
    ----------
    n_states : int
        Rows of the embedding: bands times camera states.
    embedding_dim : int
        Length of a row.
    n_components : int
        K, Gaussians of the mixture.
    dropout : float
        Share of the dense layers' activations that training sets to 0, from 0 to below 1.

    Raises
    ------
    LumosValueError
        If a count is not positive or the share is out of range.

    Notes
    -----
    The paper prints dense layers of 5000:1000:100:15. Its published code has 2000:1000:100 with dropout 0.02 and three
    outputs for each of five Gaussians; so has this class by default.

    References
    ----------
    .. [1] Cabayol et al. (2021), "The PAU Survey: Estimating galaxy photometry with deep learning",
       arXiv:2104.02778, section 4.
    """

    def __init__(
        self, n_states: int = 80, embedding_dim: int = 10, n_components: int = 5, dropout: float = 0.02
    ) -> None:
        super().__init__()
        counts = (n_states, embedding_dim, n_components)
        if min(counts) < 1:
            raise LumosValueError("states, embedding length and components of the network", counts, "1 or more each")
        if not 0 <= dropout < 1:
            raise LumosValueError("dropout of the network", dropout, "0 to below 1")
        blocks: list[nn.Module] = []
        channels = 2
        for out_channels, kernel, padding in _BLOCKS:
            blocks += [
                nn.Conv2d(channels, out_channels, kernel, padding=padding),
                nn.MaxPool2d(2),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
            channels = out_channels
        self.convolutions = nn.Sequential(*blocks, nn.Flatten())
        self.embedding = nn.Embedding(n_states, embedding_dim)
        dense: list[nn.Module] = []
        features = _CONV_FEATURES + len(PAPER_SCALARS) + embedding_dim
        for size in _DENSE:
            dense += [nn.Linear(features, size), nn.Dropout(dropout), nn.ReLU()]
            features = size
        self.dense = nn.Sequential(*dense)
        self.head = MixtureHead(features, n_components)

    def forward(self, images: Tensor, scalars: Tensor, index: Tensor) -> MixtureOutput:
        """Return the mixtures, in the flux unit of the labels that the network is trained on.

        Parameters
        ----------
        images : tensor, shape (n, 2, 60, 60)
            Stamps and PSF-convolved profiles.
        scalars : tensor, shape (n, 3)
            Magnitude in the reference band; x and y on the CCD, 0 to 1.
        index : tensor, shape (n,), int64
            Row of the embedding, 0 to ``n_states - 1``.

        Returns
        -------
        MixtureOutput
            Of n objects, float32.

        Raises
        ------
        LumosShapeError
            If an input has another shape.
        LumosValueError
            If an index is outside the embedding.
        """
        self._check(images, scalars, index)
        features = torch.cat([self.convolutions(images), scalars, self.embedding(index)], dim=1)
        mixture: MixtureOutput = self.head(self.dense(features))
        return mixture

    def _check(self, images: Tensor, scalars: Tensor, index: Tensor) -> None:
        n = len(images)
        wanted = {
            "stamps and profiles": (images, (n, 2, _SIDE, _SIDE)),
            "magnitudes and CCD positions": (scalars, (n, len(PAPER_SCALARS))),
            "rows of the embedding": (index, (n,)),
        }
        for what, (given, shape) in wanted.items():
            if given.shape != shape:
                raise LumosShapeError(f"{what} for the network", tuple(given.shape), shape)
        outside = (index < 0) | (index >= self.embedding.num_embeddings)
        if outside.any():
            allowed = f"0 to {self.embedding.num_embeddings - 1}"
            raise LumosValueError("row of the embedding", int(index[outside][0]), allowed)


def paper_inputs(batch: StampBatch, side: SideInputs, *, n_states: int, profile_image: bool = True) -> NetworkInputs:
    """Prepare stamps for the paper's network: stamps and fluxes in electrons per second, as they come.

    Parameters
    ----------
    batch : StampBatch
        n objects; their backgrounds and variances are not used.
    side : SideInputs
        All but ``ref_flux``.
    n_states : int
        Camera states of each band: the embedding has a row for each pair.
    profile_image : bool
        Without it the network sees zeros in place of the profile.

    Returns
    -------
    NetworkInputs
        Of n objects.

    Raises
    ------
    LumosValueError
        If a side input is missing.
    LumosShapeError
        If bands and states are not one per object.

    Notes
    -----
    Source: paper, section 4 and Fig. 4.
    """
    band, state, ccd_x, ccd_y, ref_mag, rate = side.require("band", "state", "ccd_x", "ccd_y", "ref_mag", "rate")
    if len(band) != len(batch):
        raise LumosShapeError("bands for the stamps", len(band), len(batch))
    data = torch.where(batch.good, batch.data, batch.background.nan_to_num()[:, None, None]) * rate[:, None, None]
    profile = batch.profile if profile_image else torch.zeros_like(batch.profile)
    named = {"ref_mag": ref_mag, "ccd_x": ccd_x, "ccd_y": ccd_y}
    scalars = torch.stack([named[name].float() for name in PAPER_SCALARS], dim=1)
    images = torch.stack([data, profile], dim=1)
    usable = torch.isfinite(scalars).all(1) & torch.isfinite(images).flatten(1).all(1) & torch.isfinite(rate)
    return NetworkInputs(
        images=torch.where(usable[:, None, None, None], images, 0.0),
        scalars=torch.where(usable[:, None], scalars, 0.0),
        index=band * n_states + state,
        centre=torch.zeros_like(rate),
        unit=torch.where(usable, 1 / rate, 1.0).float(),
        widening=torch.zeros_like(rate).float() if batch.scene is None else batch.scene.widening,
        usable=usable,
    )
