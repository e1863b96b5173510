"""Choose between a Moffat and empirical PSFs by stars that took no part in the fit."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import wilcoxon

from lumos.conventions import FloatArray
from lumos.errors import LumosDataError
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.images.psf.psfex import PsfexModel
from lumos.images.stamps import cut_stamps
from lumos.psfs import MoffatPsf, moffat_on_pixels
from lumos.sources.detect import Detections, detect, grown_segments
from lumos.sources.empirical import Corrections, n_terms
from lumos.sources.fitting import ModelFit
from lumos.sources.settings import PsfSettings
from lumos.sources.star_pixels import StarPixels, fit_at_stars
from lumos.sources.stars import STAR_THRESHOLD, StarPsf, fit_star_psf

__all__ = ["UNDERSAMPLED", "ChosenPsf", "HeldOut", "choose_psf"]

#: FWHM on pixels below which a PSF is undersampled, pixels.
UNDERSAMPLED = 1.5
#: Fewest stars of an empirical PSF, and for each term of its polynomial.
_FEWEST, _PER_TERM = 10, 8
_N_FOLDS = 5
#: A model replaces a simpler one if the held-out stars would show this much by chance with so small a probability.
_SIGNIFICANT = 0.01
#: Half the side of the stars' stamps in FWHM, and in pixels at least and at most.
_REACH, _SMALLEST, _LARGEST = 10.0, 10, 40
#: Relative error of the model, added to each pixel's noise, so that the brightest star does not decide alone.
_MODEL_ERROR = 0.01
#: A pixel is not the star's where both models leave it so many errors high, beyond so many FWHM from the centre.
_HIGH, _NEAR = 5.0, 1.5
#: A star is none if both models leave it a chi-square per pixel of so many times the median.
_ODD = 3.0


@dataclass(frozen=True)
class HeldOut:
    """What a model leaves of stars that took no part in its fit.

    Parameters
    ----------
    chi2 : float array, shape (n,)
        Chi-square per pixel of each star, its flux, centre and background fitted.
    residual : float array, shape (size, size)
        Mean over the stars of pixels less model, over flux, weighted as the fit is.
    """

    chi2: FloatArray
    residual: FloatArray


@dataclass(frozen=True)
class ChosenPsf:
    """The PSF of an exposure, and how it was chosen.

    Parameters
    ----------
    moffat : StarPsf
        The Moffat and its stars.
    model : PsfexModel or None
        The empirical PSF; None where the Moffat is used.
    held_moffat, held_empirical : HeldOut or None
        Of the Moffat and of the best empirical PSF; None where there are too few stars to compare them.
    degree : int
        Of the best empirical PSF's polynomial, used or not; -1 where there is none.
    p_value : float
        Probability that held-out stars show as much for the empirical PSF, were it no better (Wilcoxon's signed-rank
        test, one-sided); NaN where not compared.
    """

    moffat: StarPsf
    model: PsfexModel | None
    held_moffat: HeldOut | None = None
    held_empirical: HeldOut | None = None
    degree: int = -1
    p_value: float = float("nan")

    @property
    def undersampled(self) -> bool:
        """Whether stars on pixels have a FWHM below ``UNDERSAMPLED``."""
        return moffat_on_pixels(self.moffat.fwhm, self.moffat.beta)[0] < UNDERSAMPLED

    def summary(self) -> str:
        """Say which model was chosen, and by how much.

        Returns
        -------
        str
            A few words.
        """
        n = len(self.moffat.x)
        name = "a Moffat" if self.model is None else f"empirical, of degree {self.model.degree} in x and y"
        if self.held_moffat is None or self.held_empirical is None:
            return f"{name}, {n} stars, not compared with another"
        before, after = self.held_moffat.chi2.mean(), self.held_empirical.chi2.mean()
        what = "an empirical PSF" if self.model is None else "it"
        return (
            f"{name}, {n} stars; chi2 per pixel of held-out stars: {before:.3f} with a Moffat, {after:.3f} with {what} "
            f"(p = {self.p_value:.1g})"
        )


def choose_psf(exposure: Exposure, settings: PsfSettings, at: tuple[FloatArray, FloatArray] | None = None) -> ChosenPsf:
    """Fit a Moffat and empirical PSFs to the stars of an exposure, and choose.

    Parameters
    ----------
    exposure : Exposure
        Its own PSF, if any, is not used.
    settings : PsfSettings
        Which stars, and which models are allowed.
    at : tuple of float arrays, shape (m,), optional
        Pixel positions of known stars.

    Returns
    -------
    ChosenPsf
        The PSF and the comparison.

    Raises
    ------
    LumosDataError
        If there are too few stars, for any PSF or for the one that is asked for.

    Notes
    -----
    The stars are dealt into five folds, and each fold is drawn with a PSF made from the others. An empirical PSF with
    a polynomial of one degree more is taken if stars prefer it: chi-square per pixel falls in the mean, and Wilcoxon's
    signed-rank test of the stars' differences has p < 0.01. The one so found is held against the Moffat in the same
    way.
    """
    found = detect(exposure, threshold=STAR_THRESHOLD)
    moffat = fit_star_psf(exposure, settings, at, found)
    fewest = max(_FEWEST, settings.min_stars)
    if settings.model == "moffat" or (settings.model == "auto" and len(moffat.x) < fewest):
        return ChosenPsf(moffat, None)
    psf = MoffatPsf(np.array([moffat.fwhm]), np.array([moffat.beta]))
    stars, draft = _cleaned(_star_pixels(exposure, found, moffat), psf, exposure.shape)
    if len(stars) < fewest:
        if settings.model == "auto":
            return ChosenPsf(moffat, None)
        raise LumosDataError(f"{exposure.path}: {len(stars)} stars for an empirical PSF, allowed: at least {fewest}")
    allowed = [d for d in range(settings.max_degree + 1) if d == 0 or len(stars) >= _PER_TERM * n_terms(d)]
    draft = Corrections(stars, psf, exposure.shape, draft).model(0)
    corrections = Corrections(stars, psf, exposure.shape, draft)
    held_moffat = _held_out(stars, fit_at_stars(stars, psf))
    degree, best = 0, _cross_validated(stars, corrections, 0)
    for higher in allowed[1:]:
        other = _cross_validated(stars, corrections, higher)
        if _is_better(best.chi2, other.chi2) < _SIGNIFICANT:
            degree, best = higher, other
    p_value = _is_better(held_moffat.chi2, best.chi2)
    chosen = settings.model == "empirical" or p_value < _SIGNIFICANT
    model = corrections.model(degree) if chosen else None
    return ChosenPsf(moffat, model, held_moffat, best, degree, p_value)


def _star_pixels(exposure: Exposure, found: Detections, moffat: StarPsf) -> StarPixels:
    """Cut out the stars; pixels of other objects, and what they reach, are not used."""
    fwhm = moffat_on_pixels(moffat.fwhm, moffat.beta)[0]
    size = 2 * int(np.clip(np.ceil(_REACH * fwhm), _SMALLEST, _LARGEST)) + 1
    pixels = cut_stamps(found.subtracted, moffat.x, moffat.y, size, mask=exposure.mask, variance=found.scatter)
    assert pixels.variance is not None
    segments = cut_stamps(grown_segments(found.segmentation), moffat.x, moffat.y, size).data
    own = (segments == 0) | (segments == moffat.segment[:, None, None])
    data, scatter = pixels.data.astype(np.float64), pixels.variance.astype(np.float64)
    variance = scatter**2 + (_MODEL_ERROR * np.maximum(data, 0)) ** 2
    used = good_pixels(pixels.mask) & own & (scatter > 0)
    ivar = np.where(used, 1 / np.where(used, variance, 1), 0)
    return StarPixels(data, ivar, pixels.x, pixels.y, moffat.x, moffat.y)


def _cleaned(stars: StarPixels, psf: MoffatPsf, shape: tuple[int, int]) -> tuple[StarPixels, PsfexModel]:
    """Drop stars and pixels that neither the Moffat nor an empirical PSF describes; return that PSF too."""
    draft = Corrections(stars, psf, shape).model(0)
    draft = Corrections(stars, psf, shape, draft).model(0)
    fits = [fit_at_stars(stars, one) for one in (psf, draft.at(stars.image_x, stars.image_y))]
    reduced = np.stack([(fit.chi2 / fit.n_pixels.clamp(min=1)).numpy() for fit in fits])
    odd = (reduced > _ODD * np.median(reduced, axis=1, keepdims=True)).all(axis=0)
    size = stars.data.shape[1]
    y, x = np.mgrid[:size, :size]
    fwhm = moffat_on_pixels(float(psf.fwhm[0]), float(psf.beta[0]))[0]
    far = np.hypot(x - stars.x[:, None, None], y - stars.y[:, None, None]) > _NEAR * fwhm
    high = far & np.stack([fit.residual.numpy() > _HIGH for fit in fits]).all(axis=0)
    return replace(stars, ivar=np.where(high, 0, stars.ivar)).take(~odd), draft


def _cross_validated(stars: StarPixels, corrections: Corrections, degree: int) -> HeldOut:
    """Return what empirical PSFs leave of the stars that they were not made from."""
    fold = np.random.default_rng(0).permutation(len(stars)) % _N_FOLDS
    models = [corrections.model(degree, fold != number) for number in range(_N_FOLDS)]
    images = []
    for number, model in enumerate(models):
        own = model.at(*_places(stars, fold == number)).images
        images.append(np.broadcast_to(own, (np.sum(fold == number), *own.shape[1:])))
    order = np.argsort(np.concatenate([np.flatnonzero(fold == number) for number in range(_N_FOLDS)]))
    psf = replace(models[0].at(*_places(stars, fold == 0)), images=np.concatenate(images)[order])
    return _held_out(stars, fit_at_stars(stars, psf))


def _places(stars: StarPixels, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    return stars.image_x[rows], stars.image_y[rows]


def _held_out(stars: StarPixels, fit: ModelFit) -> HeldOut:
    """Return chi-square per pixel and the mean residual of fits."""
    flux = fit.flux.numpy()[:, None, None]
    weight = stars.ivar * flux**2
    residual = np.divide(fit.residual.numpy(), np.sqrt(weight), out=np.zeros_like(weight), where=weight > 0)
    total = weight.sum(axis=0)
    mean = np.divide((weight * residual).sum(axis=0), total, out=np.full_like(total, np.nan), where=total > 0)
    return HeldOut((fit.chi2 / fit.n_pixels.clamp(min=1)).numpy(), mean)


def _is_better(before: FloatArray, after: FloatArray) -> float:
    """Return the probability of these differences, were the second model no better; 1 if it is not in the mean."""
    difference = before - after
    if not difference.mean() > 0:
        return 1.0
    return float(wilcoxon(difference, alternative="greater").pvalue)
