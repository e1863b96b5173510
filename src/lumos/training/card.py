"""The model card: what a model is, where it holds, what was measured."""

from collections.abc import Mapping, Sequence

from lumos.nets.bkgnet_model import BackgroundConfig
from lumos.nets.model import ModelConfig, StampConfig

__all__ = ["background_card", "model_card"]

_KINDS = {
    "likelihood": (
        "the likelihood of the pixels as a function of the flux: no knowledge of magnitude or colour is inside, "
        "negative fluxes are possible, and those of several exposures multiply. Times a prior it is a posterior."
    ),
    "posterior": (
        "the posterior of the flux under the flux distribution of the simulated galaxies of that magnitude and band. "
        "That prior is inside every PDF: those of several exposures must not be multiplied."
    ),
}
_FIGURES = (
    "`loss` is minus the mean logarithm of the PDF at the true flux, in units of the optimal error; `scatter` and "
    "`bias` are of (median - truth) in that unit, `pull` of (median - truth) over half the 68 % interval."
)
_BACKGROUND_FIGURES = (
    "The truth is the clipped mean of the pixels under the mask, within 8 px of the centre, whose own noise is taken "
    "off: `scatter` is sigma68 of (prediction - truth), `annulus_scatter` that of the annulus; `pull` is sigma68 of "
    "(prediction - truth) over the stated error, `annulus_pull` the annulus'; `loss` is minus the mean logarithm of "
    "the density of the truth."
)


def model_card(config: ModelConfig, text: str, curve: Sequence[dict[str, float]]) -> str:
    """Write the ``README.md`` of a model.

    Parameters
    ----------
    config : ModelConfig
        The model, with domain and figures.
    text : str
        What it is, in a sentence.
    curve : sequence of dict
        Lines of the training log.

    Returns
    -------
    str
        Markdown with a header in YAML.
    """
    kind = f"Its PDFs are {_KINDS[config.kind]}"
    under = "From simulated exposures that training did not see, under the distribution of the training fluxes."
    head = _head(config, text, "mixture-density-network")
    figures = _figures(config, under, _FIGURES, curve, {"PIT-KS": "pit_ks", "scatter": "scatter"})
    return "\n".join([*head, kind, *figures, *_tail(config)])


def background_card(config: BackgroundConfig, text: str, curve: Sequence[dict[str, float]]) -> str:
    """Write the ``README.md`` of a model of backgrounds.

    Parameters
    ----------
    config : BackgroundConfig
        The model, with domain and figures.
    text : str
        What it is, in a sentence.
    curve : sequence of dict
        Lines of the training log.

    Returns
    -------
    str
        Markdown with a header in YAML.
    """
    kind = "It predicts the background under an object, and its error, from the pixels around it (docs/background.md)."
    under = "From simulated exposures that training did not see, in units of the noise of a pixel."
    head = _head(config, text, "background-estimation")
    figures = _figures(config, under, _BACKGROUND_FIGURES, curve, {"scatter": "scatter", "pull": "pull"})
    return "\n".join([*head, kind, *figures, *_tail(config)])


def _figures(
    config: StampConfig, under: str, meaning: str, curve: Sequence[dict[str, float]], shown: Mapping[str, str]
) -> list[str]:
    """Return what was measured and the learning curve, with some of its figures by their headings."""
    lines = ["", "## Measured on validation stamps", "", under, "", "| figure | |", "| --- | --- |"]
    lines += [f"| {name} | {value:.4g} |" for name, value in config.metrics.items()]
    columns = ("stamps", "minutes", "training loss", "validation loss", *shown)
    lines += ["", meaning, "", "## Learning curve", "", f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for line in curve[:: max(1, len(curve) // 10)]:
        losses = (line[name] for name in ("training_loss", "loss", *shown.values()))
        cells = (f"{line['n_stamps']:.0f}", f"{line['minutes']:.1f}", *(f"{value:.4f}" for value in losses))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _head(config: StampConfig, text: str, tag: str) -> list[str]:
    bands = f"{len(config.bands)} bands, {', '.join(config.bands)}" if config.bands else "any band"
    states = ", ".join(config.states) if any(config.states) else "any camera state"
    return [
        "---",
        "license: bsd-3-clause",
        "library_name: lumos-photometry",
        f"tags: [astronomy, photometry, {tag}]",
        "---",
        "",
        f"# {config.name}",
        "",
        f"{text}. Architecture `{config.architecture}`, for {bands}; {states}; stamps of {config.stamp_size} px.",
        "",
    ]


def _tail(config: StampConfig) -> list[str]:
    lines = ["", "## Training domain", "", "| property | from | to |", "| --- | --- | --- |"]
    lines += [f"| {name} | {low:.4g} | {high:.4g} |" for name, (low, high) in config.domain.items()]
    return [*lines, "", f"Made by `lumos train {config.training.get('run', 'RUN.yaml')}`.", ""]
