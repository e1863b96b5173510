r"""Images of PSF-convolved, pixel-integrated Sérsic galaxies, drawn in batches through Fourier space.

The image of a galaxy at c is the inverse Fourier transform of the product of the transforms of profile, PSF
and pixel,

.. math:: I(p) = \frac{1}{L^2} \sum_k S(k)\, P(k)\, \mathrm{sinc}(k_x)\, \mathrm{sinc}(k_y)\, e^{ik(p - c)}

on a grid of spacing 2 pi / L. S is a function of the length of k after the linear map of the ellipse, read off
a table, and P is real for a Moffat, so that the sum over the four quadrants is two products of small matrices.
All wavenumbers that the PSF passes are in the sum, also those beyond the Nyquist frequency of the pixels, so that
the samples are exact for undersampled PSFs too. The sum repeats with period L: the copies' wings are taken
away with :func:`lumos.profiles.wings.folded_light`.
"""

import numpy as np
import torch
from torch import Tensor

from lumos.conventions import AnyArray
from lumos.errors import LumosValueError
from lumos.profiles.grids import Grid, plan_grids
from lumos.profiles.objects import Objects, check_objects, check_size
from lumos.profiles.shapes import Shapes
from lumos.profiles.transforms import lookup, moffat_table, sersic_table
from lumos.profiles.wings import folded_light, light_beyond, wing_brightness
from lumos.psfs import MoffatPsf, PixelPsf, Psf

__all__ = ["render"]

# Wavenumbers of one chunk: on a CPU its arrays stay in the cache, on a GPU they fill it.
_CHUNK_POINTS_CPU = 2**19
_CHUNK_POINTS_GPU = 2**22
# Light beyond the nearest copy that is too little to be taken away.
_NEGLIGIBLE = 1e-5


def render(
    shapes: Shapes,
    psf: Psf,
    *,
    size: int | tuple[int, int],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw PSF-convolved, pixel-integrated Sérsic galaxies of unit flux.

    Parameters
    ----------
    shapes : Shapes
        n galaxies, with their centres in the stamps: half-light radii of 0 or more, Sérsic indices of 0.3 to 6.2, axis
        ratios of 0.05 to 1.
    psf : MoffatPsf or PixelPsf
        PSFs of the n objects, or one for all. A PSF that is NaN gives a stamp of NaN.
    size : int or tuple of two int
        Side of the stamps, or their height and width.
    device : torch.device or str, optional
        Where to compute.
    dtype : torch.dtype
        ``torch.float32`` or ``torch.float64``, of the stamps and of the computation.

    Returns
    -------
    tensor, shape (n, height, width)
        Flux per pixel; the flux is 1 over the whole plane, also where the stamp holds less.

    Raises
    ------
    LumosShapeError
        If the number of PSFs is neither 1 nor n.
    LumosValueError
        If a value is not finite or out of range, or ``dtype`` is another.

    Notes
    -----
    A stamp does not depend on the others in the call beyond the rounding of matrix products.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.ones(1)
    >>> psf = MoffatPsf(fwhm=4 * one, beta=3 * one)
    >>> shapes = Shapes(29.5 * one, 29.5 * one, 3 * one, 2 * one, 0.5 * one, 0 * one)
    >>> render(shapes, psf, size=60).shape
    torch.Size([1, 60, 60])
    """
    if dtype not in (torch.float32, torch.float64):
        raise LumosValueError("type of the stamps", dtype, "torch.float32 or torch.float64")
    device = torch.device(device)
    shape = check_size(size)
    objects = check_objects(shapes, psf)
    plan = plan_grids(objects, psf, shape)
    stamps = torch.full((len(objects), *shape), torch.nan, dtype=dtype, device=device)
    for grid, members in plan.groups():
        painter = _Painter(grid, shape, psf, device, dtype)
        for index in torch.split(members, painter.chunk):
            stamps[index.to(device)] = painter.draw(objects.take(index).to(device), index)
    for index in torch.split(plan.distant, max(1, _CHUNK_POINTS_CPU // (shape[0] * shape[1]))):
        stamps[index.to(device)] = _draw_distant(objects.take(index).to(device), shape, dtype)
    return stamps


def _draw_distant(objects: Objects, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    rows, columns = (torch.arange(length, device=objects.x.device) for length in shape)
    dx = columns - objects.x[:, None, None]
    dy = rows[:, None] - objects.y[:, None, None]
    return wing_brightness(objects, dx, dy, dtype)


class _Painter:
    """Draws the objects of one grid of wavenumbers.

    Arrays over wavenumbers have shape (..., ky, kx) with ky and kx >= 0. A transform in the quadrants (kx, ky)
    and (kx, -ky) is kept as the sum and the difference of the two, since
    S+ cos(x + y) + S- cos(x - y) = (S+ + S-) cos x cos y - (S+ - S-) sin x sin y.
    """

    def __init__(
        self, grid: Grid, shape: tuple[int, int], psf: MoffatPsf | PixelPsf, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.grid, self.shape, self.psf, self.dtype = grid, shape, psf, dtype
        self.k = torch.from_numpy(grid.wavenumbers()).to(device)
        points = _CHUNK_POINTS_CPU if device.type == "cpu" else _CHUNK_POINTS_GPU
        self.chunk = max(1, points // (2 * grid.n_waves**2))
        self.sersic = sersic_table().to(device, dtype)
        self.moffat = moffat_table().to(device, dtype)
        self.amplitude = torch.from_numpy(self._amplitude()).to(device)
        both = torch.cat([self.k, -self.k])
        # The quadratic form A kx^2 + B kx ky + C ky^2 as a product of a column in ky and a row in kx.
        self.form_y = torch.stack([torch.ones_like(both), both, both**2], dim=1).to(dtype)
        self.form_x = torch.stack([self.k**2, self.k, torch.ones_like(self.k)], dim=0)
        self.waves_y, self.waves_x = (self._centred_waves(length, 1.0) for length in shape)
        shared = (len(psf.fwhm) if isinstance(psf, MoffatPsf) else len(psf.images)) == 1
        self.shared_psf = self._psf_transform(torch.zeros(1, dtype=torch.int64)) if shared else None

    def draw(self, objects: Objects, index: Tensor) -> Tensor:
        """Draw a chunk of objects, whose numbers in the call are ``index``."""
        total, difference = self._sersic_transform(objects)
        psf = self.shared_psf if self.shared_psf is not None else self._psf_transform(index)
        (cos_y, sin_y), (cos_x, sin_x) = (
            self._waves(self.waves_y, objects.y, 0),
            self._waves(self.waves_x, objects.x, 1),
        )
        if len(psf) == 1:
            image = cos_y @ (total.mul_(psf[0]) @ cos_x)
            image -= sin_y @ (difference.mul_(psf[0]) @ sin_x)
        else:
            # The PSF's transform is cc - ss - i (sc + cs), written after the waves along x and y.
            cc, ss, sc, cs = psf
            image = cos_y @ ((cc * total - ss * difference) @ cos_x)
            image -= sin_y @ ((cc * difference - ss * total) @ sin_x)
            image += cos_y @ ((sc * total + cs * difference) @ sin_x)
            image += sin_y @ ((sc * difference + cs * total) @ cos_x)
        reach = self.grid.period - self._reach(objects)
        wide = torch.nonzero(light_beyond(objects, reach) > _NEGLIGIBLE)[:, 0]
        if len(wide):
            image[wide] -= folded_light(objects.take(wide), self.shape, self.grid.period, self.dtype)
        return image

    def _amplitude(self) -> AnyArray:
        """Return what is separable and the same for all objects: the weights and the pixel's response."""
        k = self.grid.wavenumbers()
        amplitude = np.full_like(k, np.sqrt(2) / self.grid.period)
        # The line k = 0 belongs to both of the quadrants that meet there.
        amplitude[0] *= 0.5
        if isinstance(self.psf, MoffatPsf) or not self.psf.includes_pixel:
            amplitude *= np.sinc(k / (2 * np.pi))
        return amplitude

    def _centred_waves(self, length: int, spacing: float) -> tuple[Tensor, Tensor]:
        """Cosines and sines over samples around their middle, shape (n_waves, length)."""
        samples = spacing * (torch.arange(length, dtype=torch.float64, device=self.k.device) - (length - 1) / 2)
        phase = self.k[:, None] * samples
        return phase.cos().to(self.dtype), phase.sin().to(self.dtype)

    def _waves(self, centred: tuple[Tensor, Tensor], position: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Weighted cosines and sines around each object, (n, length, n_waves) for y and transposed for x."""
        cosine, sine = centred
        phase = self.k * ((self.shape[axis] - 1) / 2 - position[:, None])
        real = (self.amplitude * phase.cos()).to(self.dtype)[:, :, None]
        imaginary = (self.amplitude * phase.sin()).to(self.dtype)[:, :, None]
        waves = torch.addcmul(cosine * real, sine, imaginary, value=-1), torch.addcmul(sine * real, cosine, imaginary)
        return waves if axis == 1 else (waves[0].transpose(1, 2), waves[1].transpose(1, 2))

    def _sersic_transform(self, objects: Objects) -> tuple[Tensor, Tensor]:
        """Sum and difference over the two quadrants of the galaxies' transforms, each (n, n_waves, n_waves)."""
        cos, sin, q = objects.theta.cos(), objects.theta.sin(), objects.q
        form = torch.stack([cos**2 + (q * sin) ** 2, 2 * cos * sin * (1 - q**2), sin**2 + (q * cos) ** 2], dim=1)
        form_x = ((objects.radius**2)[:, None] * form)[:, :, None] * self.form_x
        k_squared = self.form_y @ form_x.to(self.dtype)
        transform = lookup(self.sersic.rows(objects.sersic_n.log()), k_squared.flatten(1))
        plus, minus = transform.view(len(objects), 2, *[self.grid.n_waves] * 2).unbind(1)
        return plus + minus, plus - minus

    def _psf_transform(self, index: Tensor) -> tuple[Tensor, ...]:
        """Evaluate the PSFs' transforms: one array for a Moffat, four for an image, each (n, n_waves, n_waves)."""
        device = self.k.device
        if isinstance(self.psf, MoffatPsf):
            fwhm, beta = (torch.from_numpy(value)[index].to(device) for value in (self.psf.fwhm, self.psf.beta))
            k_squared = (self.k[:, None] ** 2 + self.k**2).flatten() * (fwhm**2)[:, None]
            transform = lookup(self.moffat.rows(1 / beta), k_squared.to(self.dtype))
            return (transform.view(len(index), *[self.grid.n_waves] * 2),)
        images = torch.from_numpy(np.ascontiguousarray(self.psf.images[index.numpy()])).to(device, self.dtype)
        (cos_y, sin_y), (cos_x, sin_x) = (self._centred_waves(length, self.psf.sampling) for length in images.shape[1:])
        along_cos, along_sin = images @ cos_x.T, images @ sin_x.T
        return cos_y @ along_cos, sin_y @ along_sin, cos_y @ along_sin, sin_y @ along_cos

    def _reach(self, objects: Objects) -> Tensor:
        """Largest distance along an axis between the centres and the pixels."""
        y, x = (torch.maximum(p, n - 1 - p) for p, n in zip((objects.y, objects.x), self.shape, strict=True))
        return torch.maximum(x, y)
