"""The one interface of the flux estimators: a batch of stamps in, fluxes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lumos.catalogs.schema import Column
from lumos.config import StageSettings
from lumos.conventions import AnyArray, FloatArray
from lumos.errors import LumosShapeError
from lumos.estimators.scene_fit import SceneFit, ShapeErrors
from lumos.flags import Flag
from lumos.rows import SHARED, Rowwise

__all__ = [
    "ANNULUS",
    "BackgroundOptions",
    "Ellipses",
    "Estimator",
    "Measurement",
    "Mixture",
    "NoOptions",
    "NoiseFactor",
    "NoiseShare",
    "StampBatch",
    "StampContext",
]

#: The background that needs no model.
ANNULUS = "annulus"
#: Factor by which correlation raises the noise of a weighted sum, for its noise-equivalent area in pixels.
NoiseFactor = Callable[[AnyArray], FloatArray]


@dataclass(frozen=True)
class Ellipses(Rowwise):
    """Shape of the PSF-convolved profile of each object: concentric similar ellipses.

    Parameters
    ----------
    semi_major, semi_minor : tensor, shape (n,)
        Half-light ellipse of the convolved profile, in pixels (approximate: it sets the shape only).
    theta : tensor, shape (n,)
        Angle of the major axis from +x towards +y, in radians.
    """

    semi_major: Tensor
    semi_minor: Tensor
    theta: Tensor


@dataclass(frozen=True)
class StampContext(Rowwise):
    """What is known of n objects of one exposure beside their pixels.

    Parameters
    ----------
    band, state : str
        Of the exposure.
    ccd_x, ccd_y : tensor, shape (n,)
        Place on the CCD, 0 to 1.
    ref_mag : tensor, shape (n,)
        AB magnitude in the catalogue's reference band.
    ref_flux : tensor, shape (n,)
        The flux in image units that ``ref_mag`` is in the exposure's zero point.
    rate : tensor, shape (n,)
        Electrons per second of one image unit.
    psf_fwhm : tensor, shape (n,)
        Pixels.
    noise_factor : callable or None
        Correlation of the pixels' noise, as a function of area; None where errors are for independent pixels.
    """

    band: str = field(metadata=SHARED)
    state: str = field(metadata=SHARED)
    ccd_x: Tensor
    ccd_y: Tensor
    ref_mag: Tensor
    ref_flux: Tensor
    rate: Tensor
    psf_fwhm: Tensor
    noise_factor: NoiseFactor | None = field(metadata=SHARED)


@dataclass(frozen=True)
class StampBatch(Rowwise):
    """Everything that an estimator may use, for n objects of one exposure (or of many).

    Fluxes are in image units throughout; no pixel of ``data`` or ``sky_variance`` is NaN or infinite
    (unusable pixels have ``good`` False and any finite value).

    Parameters
    ----------
    data : tensor, shape (n, height, width), float32
        Pixels, background included.
    good : tensor, shape (n, height, width), bool
        True where a pixel is usable.
    sky_variance : tensor, shape (n, height, width) or (n, 1, 1), float32
        Variance of a pixel without the object's own photons, in image units squared, greater than 0.
    gain : tensor, shape (n,), float32
        Electrons per image unit for the object's own Poisson noise; ``inf`` where that noise is
        unknown or already inside ``variance``.
    profile : tensor, shape (n, height, width), float32
        PSF-convolved, pixel-integrated model of the object with unit total flux over the whole plane.
    x, y : tensor, shape (n,), float32
        Position of the object in the stamp, 0-based pixel centres.
    ellipses : Ellipses
        Shape of the convolved profile.
    background, background_err : tensor, shape (n,), float32
        Level per pixel in an annulus around the object and its error; NaN where it could not be measured.
    own_light : tensor, shape (n,), float32
        Share of the object's light per annulus pixel, so that ``background`` holds
        ``flux * own_light`` of the object itself.
    variance : tensor of the shape of ``sky_variance`` or None
        Full variance, sources included, where the exposure ships one that holds them; errors use it.
    context : StampContext or None
        What is known of the exposure and the objects beside the pixels; classical estimators need none.
    scene : SceneFit or None
        The joint fit of the exposure's objects, where there is one.
    shape_errors : ShapeErrors or None
        How well the shapes are known; None: exactly.
    """

    data: Tensor
    good: Tensor
    sky_variance: Tensor
    gain: Tensor
    profile: Tensor
    x: Tensor
    y: Tensor
    ellipses: Ellipses
    background: Tensor
    background_err: Tensor
    own_light: Tensor
    variance: Tensor | None = None
    context: StampContext | None = None
    scene: SceneFit | None = None
    shape_errors: ShapeErrors | None = None

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or self.data.shape != self.profile.shape or self.data.shape != self.good.shape:
            shapes = (tuple(self.data.shape), tuple(self.good.shape), tuple(self.profile.shape))
            raise LumosShapeError("stamps, masks and profiles", shapes, "three equal shapes (n, height, width)")


@dataclass(frozen=True)
class NoiseShare:
    """Where the correlation of the pixels' noise acts on the error of a weighted sum.

    Parameters
    ----------
    area : tensor, shape (n,)
        Noise-equivalent area of the weights, (sum w)^2 / sum w^2 in pixels: at which scale the correlation acts.
    sky : tensor, shape (n,)
        Share of the squared error that comes from the sky (and is multiplied by the correlation factor squared), the
        rest being the object's own photons.
    """

    area: Tensor
    sky: Tensor


@dataclass(frozen=True)
class Mixture:
    """Flux PDFs of n objects: K Gaussian components, image units; NaN for objects that cannot be measured.

    Parameters
    ----------
    weights, means, stds : tensor, shape (n, K), float64
        Of the components.
    is_cut : tensor, shape (n,), bool
        Whether the components are cut at flux 0.
    """

    weights: Tensor
    means: Tensor
    stds: Tensor
    is_cut: Tensor


@dataclass(frozen=True)
class Measurement:
    """What an estimator returns, one entry per object.

    Parameters
    ----------
    flux, flux_err : tensor, shape (n,)
        Total flux and its 1-sigma error in image units; NaN where it could not be measured. Where there is a ``pdf``
        the table has its median and half its central 68 % instead.
    flags : tensor, shape (n,), int32
        Bits of :class:`lumos.flags.Flag`.
    noise : NoiseShare, optional
        For errors of independent pixels, which the correlation of the noise has still to raise; None where the
        errors hold it.
    pdf : Mixture, optional
        Likelihood of the flux; None for the Gaussian of ``flux`` and ``flux_err``.
    columns : mapping, optional
        Tensors of shape (n,): the columns that the estimator adds to the table.
    """

    flux: Tensor
    flux_err: Tensor
    flags: Tensor
    noise: NoiseShare | None = None
    pdf: Mixture | None = None
    columns: Mapping[str, Tensor] = field(default_factory=dict)


#: A default must be no call.
_NO_FLAG = Flag(0)


class NoOptions(StageSettings):
    """Options of an estimator that has none."""


class BackgroundOptions(StageSettings):
    """Options of an estimator that subtracts a level."""

    background: str = ANNULUS
    """Where the level comes from: ``annulus``, or a model that predicts it: ``bkgnet``, or a model folder."""


@dataclass(frozen=True)
class Estimator:
    """An estimator as ``lumos measure`` runs it; :data:`lumos.estimators.ESTIMATORS` lists all.

    Parameters
    ----------
    name : str
        Its columns begin with it.
    function : callable
        Takes a :class:`StampBatch`, ``max_masked`` and the fields of ``options`` by keyword; returns a
        :class:`Measurement`.
    options : type, optional
        Settings class of its options, ``measure.options.NAME`` in a settings file.
    columns : tuple of Column, optional
        Columns that it adds to the table, all of which every measurement fills. A name that the table has already is
        not added again.
    needs_background : bool, optional
        Whether an object without a background level in the annulus has no flux.
    notes : Flag, optional
        Flags that a row gets from it even if another estimator is the default.
    n_components : int, optional
        Components of its PDFs; 0 where it returns none.
    judges_exposures : bool, optional
        Whether its column ``ood_score`` tells suspect exposures.
    """

    name: str
    function: Callable[..., Measurement]
    options: type[StageSettings] = NoOptions
    columns: tuple[Column, ...] = ()
    needs_background: bool = True
    notes: Flag = _NO_FLAG
    n_components: int = 0
    judges_exposures: bool = False

    def __call__(self, batch: StampBatch, **options: Any) -> Measurement:  # noqa: ANN401 (each has its own)
        """Measure n objects, with options that are not checked."""
        return self.function(batch, **options)
