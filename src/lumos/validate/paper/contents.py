"""Every figure and table of the paper, in its order: the study that makes it, or why there is none."""

from lumos.validate.paper.settings import Study

__all__ = ["CONTENTS"]

_CHAIN = "`python benchmarks/pixels_to_redshift.py OUT --data DATA`; ours is in `docs/pixels-to-redshift.md`"
_APPENDIX = "`python benchmarks/bench_photoz.py DATA appendix`; ours is in `docs/photoz.md`"

#: Name, what it shows, and the study of ``lumos validate --suite paper`` that makes it.
_MADE: dict[str, tuple[str, Study]] = {
    "Fig. 2": ("the galaxies", "fluxes"),
    "Fig. 5": ("flux PDFs", "fluxes"),
    "Fig. 6": ("PIT", "fluxes"),
    "Fig. 7": ("bias and scatter by magnitude", "fluxes"),
    "Fig. 8": ("blends by distance", "blends"),
    "Fig. 9": ("blends by magnitude and distance", "blends"),
    "Fig. 10": ("ratios of fluxes and errors", "exposures"),
    "Fig. 11": ("colour NB785 − NB795", "colours"),
    "Fig. 12": ("repeats", "exposures"),
    "Fig. 13": ("repeats", "exposures"),
    "Fig. 14": ("signal-to-noise ratios", "exposures"),
    "Fig. 15": ("artefacts", "artefacts"),
    "Sect. 6.1.4": ("flagged observations", "exposures"),
    "Fig. 16": ("photometry against spectra", "spectra"),
    "Fig. 17": ("coadded PDFs", "fluxes"),
    "Table 1": ("wrong catalogues", "robustness"),
    "Fig. 19": ("correlations with the flux", "robustness"),
    "Fig. 22": ("colours of nine pairs of bands", "colours"),
    "Fig. 23": ("widths of all colours", "colours"),
    "Fig. 24": ("bias and scatter by shape and PSF", "fluxes"),
}
#: Those that the suite does not make.
_ELSEWHERE = {
    "Fig. 1": ("stamps of simulated galaxies", "pictures: `python benchmarks/simulation_figures.py OUT`"),
    "Fig. 3": ("twins of real galaxies", "needs real exposures: `python examples/twins.py OUT --sdss DATA`"),
    "Fig. 4": ("the network", "a drawing; ours is described in `docs/models.md`"),
    "Sect. 4.1": ("a network without the profile image (S/N 15 % lower)", "it would have to be trained"),
    "Fig. 18": ("precision of photometric redshifts", _CHAIN),
    "Fig. 20": ("S/N of the mock for photometric redshifts", _APPENDIX),
    "Fig. 21": ("photometric redshifts of the mock (App. D)", _APPENDIX),
    "Fig. 25": ("photometric redshifts by shape", _CHAIN),
}
#: The order of the paper.
_ORDER = (
    *(f"Fig. {number}" for number in range(1, 5)),
    "Sect. 4.1",
    *(f"Fig. {number}" for number in range(5, 16)),
    "Sect. 6.1.4",
    *(f"Fig. {number}" for number in range(16, 19)),
    "Table 1",
    *(f"Fig. {number}" for number in range(19, 26)),
)
#: By name, in the order of the paper: what it shows; the study, or None; why there is none.
CONTENTS: dict[str, tuple[str, Study | None, str]] = {
    name: (*_MADE[name], "") if name in _MADE else (_ELSEWHERE[name][0], None, _ELSEWHERE[name][1]) for name in _ORDER
}
