r"""What the networks see of a stamp.

The residual network's inputs carry no flux unit, gain, exposure time or pixel scale: pixels are residuals of the
closed-form optimal flux :math:`\hat f` in units of the pixel noise, and the flux is counted from :math:`\hat f` in
units of its error u.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lumos.errors import LumosValueError
from lumos.estimators import StampBatch
from lumos.estimators.base import NoiseFactor
from lumos.estimators.optimal import optimal, optimal_flux_free
from lumos.rows import Rowwise

__all__ = [
    "N_CHANNELS",
    "POSITION_SCALARS",
    "REFERENCE_SCALARS",
    "SCALARS",
    "SCENE_CHANNELS",
    "SCENE_SCALARS",
    "NetworkInputs",
    "SideInputs",
    "named_scalar",
    "residual_inputs",
    "scalar_names",
]

#: Images of the residual network: residual, profile, their product, usable pixels; light of the neighbours.
N_CHANNELS, SCENE_CHANNELS = 4, 1
#: Numbers that describe a stamp beside its images, in the order of a residual network's columns.
SCALARS = (
    "asinh_ratio",
    "asinh_free_ratio",
    "log_free_err",
    "asinh_free_level",
    "log_core_chi2",
    "log_chi2",
    "asinh_level_err",
    "log_white_err",
    "log_noise_area",
    "log_noise_factor",
    "masked_share",
    "log_peak",
    "log_power",
    "source_share",
)
#: After these the place on the CCD, and what the catalogue's magnitude says, where a network takes them.
POSITION_SCALARS = ("ccd_x", "ccd_y")
#: What the joint fit and the errors of the shapes say, for networks on scenes.
SCENE_SCALARS = (
    "log_widening",
    "asinh_neighbour_light",
    "asinh_joint_shift",
    "log_size_err",
    "log_index_err",
    "log_ratio_err",
    "log_position_err",
)
REFERENCE_SCALARS = ("log_reference", "asinh_reference_offset", "asinh_reference_ratio")
#: A tiny share of the light or variance, against logarithms of 0.
_TINY = 1e-12
#: Errors of shapes that are as good as none.
_LEAST_ERROR = 1e-3


@dataclass(frozen=True)
class SideInputs(Rowwise):
    """What is known of n objects beside their stamps; None where it is not known or not wanted.

    Parameters
    ----------
    band, state : tensor, shape (n,), int64, or None
        Entries of the model's lists of bands and camera states.
    ccd_x, ccd_y : tensor, shape (n,), or None
        Place on the CCD, 0 to 1.
    ref_mag : tensor, shape (n,), or None
        AB magnitude in the catalogue's reference band.
    ref_flux : tensor, shape (n,), or None
        The flux in image units that ``ref_mag`` is in the exposure's zero point.
    rate : tensor, shape (n,), or None
        Electrons per second of one image unit.
    """

    band: Tensor | None = None
    state: Tensor | None = None
    ccd_x: Tensor | None = None
    ccd_y: Tensor | None = None
    ref_mag: Tensor | None = None
    ref_flux: Tensor | None = None
    rate: Tensor | None = None

    def require(self, *names: str) -> tuple[Tensor, ...]:
        """Return inputs that a network cannot do without.

        Parameters
        ----------
        *names : str
            Attributes.

        Returns
        -------
        tuple of tensor
            In that order.

        Raises
        ------
        LumosValueError
            If one is None.
        """
        values = {name: getattr(self, name) for name in names}
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise LumosValueError("side inputs", "without " + ", ".join(missing), "what the model was trained with")
        return tuple(values.values())


@dataclass(frozen=True)
class NetworkInputs(Rowwise):
    """Inputs of a network for n objects, and the unit of its output.

    Parameters
    ----------
    images : tensor, shape (n, channels, size, size), float32
        Finite.
    scalars : tensor, shape (n, n_scalars), float32
        Finite.
    index : tensor, shape (n,) or (n, 2), int64
        Rows of the network's embeddings.
    centre, unit : tensor, shape (n,), float32
        The network's variate t stands for the flux ``centre + unit * t``, in image units.
    widening : tensor, shape (n,), float32
        What the subtraction of neighbours adds to the flux's error, image units; the network does not answer for it.
    usable : tensor, shape (n,), bool
        False for objects that cannot be measured; their inputs are 0.
    """

    images: Tensor
    scalars: Tensor
    index: Tensor
    centre: Tensor
    unit: Tensor
    widening: Tensor
    usable: Tensor


def named_scalar(inputs: NetworkInputs, name: str, names: Sequence[str] = SCALARS) -> Tensor:
    """Return one of the numbers that describe stamps.

    Parameters
    ----------
    inputs : NetworkInputs
        n objects.
    name : str
        Which number.
    names : sequence of str, optional
        Names of the columns, from the first; by default those of the residual network.

    Returns
    -------
    tensor, shape (n,)
        Its values.
    """
    return inputs.scalars[:, names.index(name)]


def scalar_names(*, position: bool = False, reference: bool = False, scene: bool = False) -> tuple[str, ...]:
    """Return the names of the numbers of :func:`residual_inputs`, in their order.

    Parameters
    ----------
    position, reference, scene : bool
        As there.

    Returns
    -------
    tuple of str
        Names.
    """
    return SCALARS + POSITION_SCALARS * position + REFERENCE_SCALARS * reference + SCENE_SCALARS * scene


def residual_inputs(
    batch: StampBatch,
    side: SideInputs,
    noise_factor: NoiseFactor | None = None,
    *,
    position: bool = False,
    reference: bool = False,
    scene: bool = False,
) -> NetworkInputs:
    r"""Prepare stamps for the residual network.

    With the optimal flux :math:`\hat f` and its error u, the annulus background b, the variance
    :math:`v = v_\mathrm{sky} + \hat f m / g` and the profile m, the images are :math:`\mathrm{arsinh}\,\chi` of the
    residual :math:`\chi = (d - b - \hat f m) / \sqrt v`, :math:`m / \max m`, their product, and 1 on unusable pixels;
    for a network on scenes also :math:`\mathrm{arsinh}` of the neighbours' light over :math:`\sqrt v`.

    Parameters
    ----------
    batch : StampBatch
        n objects.
    side : SideInputs
        Band and state where the network has embeddings; what the options name.
    noise_factor : callable, optional
        Correlation of the noise; by default pixels are independent.
    position : bool
        Give the place on the CCD.
    reference : bool
        Give the catalogue's reference flux, relative to the measured one and in units of its error.
    scene : bool
        Give the light of the neighbours, what the joint fit says of them, and the errors of the shapes. Without a scene
        there are no neighbours.

    Returns
    -------
    NetworkInputs
        Of n objects.

    Raises
    ------
    LumosValueError
        If a side input is missing.
    """
    result = optimal(batch)
    assert result.noise is not None
    factor = torch.ones_like(result.flux)
    if noise_factor is not None:
        factor = torch.from_numpy(noise_factor(result.noise.area.cpu().numpy())).to(result.flux)
    unit = result.flux_err * (1 + result.noise.sky * (factor.square() - 1)).sqrt()
    usable = torch.isfinite(result.flux) & torch.isfinite(unit) & (unit > 0)
    flux = torch.where(usable, result.flux, 0.0)
    unit = torch.where(usable, unit, 1.0)
    images, scalars = _describe(batch, flux, unit, factor)
    scalars["source_share"] = 1 - result.noise.sky
    if position:
        ccd_x, ccd_y = side.require("ccd_x", "ccd_y")
        scalars |= {"ccd_x": 2 * ccd_x.float() - 1, "ccd_y": 2 * ccd_y.float() - 1}
    if reference:
        (ref_flux,) = side.require("ref_flux")
        # The network's answer depends on where the prior lies as seen from the measured flux, in its unit.
        scalars |= {
            "log_reference": torch.log(ref_flux / unit),
            "asinh_reference_offset": torch.asinh((ref_flux - flux) / unit),
            "asinh_reference_ratio": torch.asinh(3 * flux / ref_flux),
        }
    joint = batch.scene
    widening = torch.zeros_like(flux) if joint is None else joint.widening * factor
    if scene:
        images = torch.cat([images, _neighbour_image(batch, flux)[:, None]], dim=1)
        scalars |= _scene_numbers(batch, flux, unit, widening)
    names = scalar_names(position=position, reference=reference, scene=scene)
    table = torch.stack([scalars[name].float() for name in names], dim=1)
    # A pixel that is not finite makes the sum so too.
    usable &= torch.isfinite(table).all(1) & torch.isfinite(images.sum((1, 2, 3)))
    if not bool(usable.all()):
        images = torch.where(usable[:, None, None, None], images, 0.0)
    return NetworkInputs(
        images=images,
        scalars=torch.where(usable[:, None], table, 0.0),
        index=_index(side, len(batch), flux.device),
        centre=flux,
        unit=unit,
        widening=widening.float(),
        usable=usable,
    )


def _neighbour_image(batch: StampBatch, flux: Tensor) -> Tensor:
    """Return asinh of the light of the neighbours in units of the noise, 0 on unusable pixels."""
    if batch.scene is None:
        return torch.zeros_like(batch.data)
    variance = batch.sky_variance + (flux.clamp(min=0) / batch.gain)[:, None, None] * batch.profile.clamp(min=0)
    return _asinh(batch.scene.others * variance.rsqrt() * batch.good)


def _scene_numbers(batch: StampBatch, flux: Tensor, unit: Tensor, widening: Tensor) -> dict[str, Tensor]:
    """Return the numbers of :data:`SCENE_SCALARS`."""
    joint, errors = batch.scene, batch.shape_errors
    none = torch.zeros_like(flux)
    shift = none if joint is None else (joint.flux - flux).nan_to_num() / unit
    light = none if joint is None else joint.neighbour_light.nan_to_num() / unit
    known = [none] * 4 if errors is None else [errors.size, errors.index, errors.ratio, errors.position]
    size, index, ratio, position = (torch.log(value.clamp(0, 10) + _LEAST_ERROR) for value in known)
    return {
        "log_widening": 0.5 * torch.log1p((widening / unit).square()),
        "asinh_neighbour_light": torch.asinh(light),
        "asinh_joint_shift": torch.asinh(shift),
        "log_size_err": size,
        "log_index_err": index,
        "log_ratio_err": ratio,
        "log_position_err": position,
    }


def _asinh(values: Tensor) -> Tensor:
    """Return asinh four times faster than torch does, with an absolute error of 1e-7."""
    size = values.abs()
    return torch.log(size + torch.sqrt(size * size + 1)).copysign(values)


def _index(side: SideInputs, n: int, device: torch.device) -> Tensor:
    zero = torch.zeros(n, dtype=torch.int64, device=device)
    return torch.stack([zero if rows is None else rows for rows in (side.band, side.state)], dim=1)


def _describe(batch: StampBatch, flux: Tensor, unit: Tensor, factor: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the images and the numbers, by name, that describe stamps relative to fluxes and their errors."""
    profile = batch.profile.flatten(1)
    good = batch.good.flatten(1)
    variance = torch.addcmul(
        batch.sky_variance.flatten(1), (flux.clamp(min=0) / batch.gain)[:, None], profile.clamp(min=0)
    )
    inverse = variance.rsqrt_() * good
    level = batch.background - flux * batch.own_light
    chi = (batch.data.flatten(1) - level[:, None] - flux[:, None] * profile) * inverse
    matched = profile * inverse  # proportional to the matched filter of the whitened stamp
    power = torch.linalg.vecdot(matched, matched).clamp(min=_TINY)
    peak = profile.amax(1).clamp(min=_TINY)
    shape = profile / peak[:, None]
    product = chi * matched / matched.amax(1).clamp(min=_TINY)[:, None]
    images = torch.stack([_asinh(chi), shape, _asinh(product), (~good).float()], dim=1).view(
        len(batch), N_CHANNELS, *batch.data.shape[1:]
    )
    free_flux, free_err, free_level, free_level_err = optimal_flux_free(
        chi.view_as(batch.data), matched.view_as(batch.data), torch.ones_like(batch.data[:, :1, :1]), batch.good
    )
    n_good = good.sum(1).clamp(min=1)
    response = torch.linalg.vecdot(matched * inverse, profile)
    squares = chi.square()
    numbers = {
        "asinh_ratio": torch.asinh(flux / unit),
        "asinh_free_ratio": torch.asinh(free_flux / unit),
        "log_free_err": torch.log(free_err / unit),
        "asinh_free_level": torch.asinh(free_level / free_level_err),
        "log_core_chi2": torch.log(torch.linalg.vecdot(squares, matched.square()) / power + _TINY),
        "log_chi2": torch.log(squares.sum(1) / n_good + _TINY),
        "asinh_level_err": torch.asinh(batch.background_err * (matched * inverse).sum(1) / response / unit),
        "log_white_err": torch.log(power.rsqrt() * factor / unit),
        "log_noise_area": torch.log(matched.sum(1).square() / power + _TINY),
        "log_noise_factor": torch.log(factor),
        "masked_share": 1 - torch.linalg.vecdot(profile, good.to(profile)) / profile.sum(1),
        "log_peak": torch.log(peak),
        "log_power": torch.log(torch.linalg.vecdot(profile, profile)),
    }
    return images, numbers
