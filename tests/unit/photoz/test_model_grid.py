"""Grids of model fluxes: their scaling, their values against direct integration, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from lumos.errors import LumosConfigError, LumosDataError, LumosError, LumosShapeError, LumosValueError
from lumos.photoz.models import ModelGrid, build_grid
from lumos.photoz.templates import ModelSettings, load_models, shipped_sets
from lumos.spectra.curves import Curve
from lumos.spectra.lines import LINES
from lumos.spectra.synthetic import per_frequency, synthetic_fluxes

RED, BLUE = [2.2, 8.5, 3.4, 1.7, 0.1], [0.5, -0.7, 0.7, 0.7, 0.5]
DUST = {"laws": ["dust"], "reddenings": [0.1, 0.4]}
SHORT = {"path": "{data}/short.sed", "names": ["red", "blue"], "unit": "nm"}
#: A small set: two templates in closed form, dust, lines.
SMALL = {
    "redshifts": {"low": 0.1, "high": 0.9, "step": 0.1},
    "bands": [{"names": ["NB455", "NB685", "NB845"], "narrow": True}, {"names": ["g", "i"]}],
    "templates": [{"closed_forms": {"red": RED, "blue": BLUE}}],
    "laws": {"dust": {"formula": "calzetti", "bump": 1.0}},
    "lines": {"lines": {"OII3727": 0.42, "Halpha": 1.77}, "OIII": {"OIII5008": 1.0}},
    "runs": [
        {"name": "clear", "templates": ["red", "blue"]},
        {"name": "dusty", "templates": ["blue"], "lines": ["lines", "OIII"]} | DUST,
    ],
}


def settings(**changes):
    return ModelSettings.model_validate(SMALL | changes)


@pytest.fixture(scope="module")
def small():
    return build_grid(settings())


@pytest.fixture(scope="module")
def analytic():
    return build_grid(load_models("analytic", ["redshifts.step=0.01"]))


def test_the_grid_says_what_it_holds(small):
    np.testing.assert_allclose(small.redshifts, np.arange(1, 10) / 10, rtol=1e-12)
    assert small.bands == ("NB455", "NB685", "NB845", "g", "i")
    assert small.narrow.tolist() == [True, True, True, False, False]
    assert small.runs == ("clear", "dusty_dust_0.1", "dusty_dust_0.4")
    assert small.components == (("red", "blue"), ("blue", "lines", "OIII"), ("blue", "lines", "OIII"))
    assert [flux.shape for flux in small.fluxes] == [(9, 2, 5), (9, 3, 5), (9, 3, 5)]


def test_every_component_has_a_maximum_of_one(small, analytic):
    for grid in (small, analytic):
        for flux in grid.fluxes:
            np.testing.assert_allclose(flux.max(axis=(0, 2)), 1.0, rtol=1e-12)
            assert (flux >= 0).all()
            assert flux.dtype == np.float64


def test_the_grid_is_what_direct_integration_gives(small):
    # Redshift a dusty spectrum onto fine pixels and integrate them: another code, its own dust and lines.
    given = settings()
    curves, template = given.curves(Path()), given.spectra(Path())["blue"]
    pixels = np.arange(380.0, 920.0, 0.01)
    rest_law = given.laws["dust"].read(Path())
    scale = None
    for place, z in enumerate(small.redshifts):
        rest = pixels / (1 + z)
        flux = np.exp(np.interp(np.log(rest), np.log(template.wavelength), np.log(template.flux)))
        flux *= 10 ** (-0.4 * 0.4 * np.interp(rest, rest_law.wavelength, rest_law.k))
        found, _ = synthetic_fluxes(pixels, per_frequency(pixels, flux[None], unit=1.0), list(curves.values()))
        scale = found[0, 3] / small.fluxes[2][place, 0, 3] if scale is None else scale
        np.testing.assert_allclose(small.fluxes[2][place, 0] * scale, found[0], rtol=1e-3)


def test_lines_have_their_photons_and_their_dust(small):
    # At z = 0.3 [OII] lies in g, at z = 0.2 Halpha in i.
    given = settings()
    curves, law = given.curves(Path()), given.laws["dust"].read(Path())

    def expected(line, strength, band, z, reddening):
        observed = LINES[line] * (1 + z)
        dimmed = strength * 10 ** (-0.4 * reddening * np.interp(LINES[line], law.wavelength, law.k))
        return dimmed * observed * curves[band].at(np.array(observed)) / curves[band].per_log

    for run, reddening in ((1, 0.1), (2, 0.4)):
        lines = small.fluxes[run][:, 1]
        blue = expected("OII3727", 0.42, "g", 0.3, reddening)
        red = expected("Halpha", 1.77, "i", 0.2, reddening)
        assert lines[2, 3] / lines[1, 4] == pytest.approx(blue / red, rel=1e-9)
    # The dust is that at rest: the ratio of [OII] to Halpha does not depend on where they are seen.
    ratio = small.fluxes[2][:, 1] / np.where(small.fluxes[1][:, 1] > 0, small.fluxes[1][:, 1], np.nan)
    by_line = np.interp([LINES["OII3727"], LINES["Halpha"]], law.wavelength, law.k)
    values = np.unique(np.round(ratio[np.isfinite(ratio)], 9))
    assert values.min() / values.max() == pytest.approx(10 ** (-0.4 * 0.3 * (by_line[0] - by_line[1])), rel=1e-6)


def test_the_scale_of_redshifts_changes_nothing(analytic):
    coarse = build_grid(load_models("analytic", ["redshifts.step=0.05"]))
    fine = analytic.at(coarse.redshifts)
    np.testing.assert_allclose(fine.redshifts, coarse.redshifts, rtol=1e-12)
    for one, other in zip(fine.fluxes, coarse.fluxes, strict=True):
        # The scaling is by the largest value on each grid.
        ratio = other.max(axis=(0, 2), keepdims=True) / one.max(axis=(0, 2), keepdims=True)
        np.testing.assert_allclose(one * ratio, other, rtol=1e-9, atol=1e-12)


def test_parts_of_a_grid(analytic):
    part = analytic.take(slice(None, None, 5))
    np.testing.assert_array_equal(part.redshifts, analytic.redshifts[::5])
    np.testing.assert_array_equal(part.fluxes[2], analytic.fluxes[2][::5])
    assert analytic.nearest(np.array([0.0, 0.0149, 0.0151, 0.5, 9.0])).tolist() == [0, 0, 1, 49, 119]
    np.testing.assert_allclose(analytic.at(np.array([0.502, 0.1, 0.499])).redshifts, [0.1, 0.5])
    some = analytic.in_bands(["i", "NB455"])
    assert some.narrow.tolist() == [False, True]
    np.testing.assert_array_equal(some.fluxes[0][..., 1], analytic.fluxes[0][..., 0])
    with pytest.raises(LumosValueError, match="'NB999', allowed: bands of the models: NB455"):
        analytic.in_bands(["NB999"])


def test_given_curves_replace_those_of_the_settings(small):
    shifted = Curve(np.linspace(690, 700, 50), np.ones(50))
    grid = build_grid(settings(), curves={"NB685": shifted})
    assert not np.allclose(grid.fluxes[0][..., 1], small.fluxes[0][..., 1], rtol=1e-3)
    np.testing.assert_allclose(grid.fluxes[0][..., 0], small.fluxes[0][..., 0], rtol=1e-9)
    with pytest.raises(LumosConfigError, match="'NB686', allowed: NB455"):
        build_grid(settings(), curves={"NB686": shifted})


def test_gas_is_seen_where_lyman_alpha_is():
    changes = {"redshifts": {"low": 1.0, "high": 3.0, "step": 1.0}, "bands": [{"names": ["u", "i"]}]}
    with_gas, without = (build_grid(settings(**changes, igm=igm)) for igm in (True, False))
    ratio = with_gas.fluxes[0][:, 1] / without.fluxes[0][:, 1]
    ratio /= ratio[0, 1]
    np.testing.assert_allclose(ratio[:, 1], 1.0, rtol=1e-9)
    assert ratio[0, 0] == pytest.approx(1.0)
    assert 0.1 < ratio[2, 0] < 0.8


def test_wrong_grids_are_refused(small):
    changes = [
        {"redshifts": small.redshifts[::-1].copy()},
        {"bands": ("a", "a", "b", "c", "d")},
        {"runs": ("x", "x", "y")},
        {"fluxes": (small.fluxes[0] - 1, *small.fluxes[1:])},
        {"fluxes": (small.fluxes[0] * np.nan, *small.fluxes[1:])},
    ]
    for change in changes:
        with pytest.raises(LumosValueError):
            replace(small, **change)
    for change in ({"runs": ("x",)}, {"narrow": small.narrow[:2]}, {"components": small.components[::-1]}):
        with pytest.raises(LumosShapeError):
            replace(small, **change)
    assert isinstance(small, ModelGrid)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"bands": [{"names": ["NB456"]}]}, "no passband 'NB456' in the table, allowed: NB455"),
        ({"bands": [{"names": ["g"]}, {"names": ["g"]}]}, "band 'g' is there twice"),
        ({"bands": []}, "bands"),
        ({"bands": [{"names": ["K"]}], "templates": [SHORT]},
         "template 'red': wavelengths of spectra: got '300 to 900 nm', allowed: at least"),
        ({"bands": [{"names": ["g"], "path": "{data}/curve.dat", "unit": "um"}]}, "curve.dat.*is the unit right"),
        ({"bands": [{"names": ["g"], "path": "{data}/curve.dat", "unit": "nm"}]},
         "curve.dat: mean wavelength 4760 nm, band g lies at 476 nm; is the unit right"),
        ({"bands": [{"names": ["g"], "path": "{data}/curve.dat"}]}, "curve.dat: does not say the unit"),
        ({"bands": [{"names": ["g"], "path": "{data}/none.dat", "unit": "nm"}]}, "none.dat: missing"),
        ({"bands": [{"names": ["g"], "unit": "furlong"}]}, "bands.*furlong"),
        ({"templates": [{"closed_forms": {"red": RED}}]}, "run 'clear': unknown template 'blue', allowed: red"),
        ({"templates": [{"closed_forms": {"red": RED, "blue": BLUE[:4]}}]}, "templates"),
        ({"templates": [{"names": ["red", "blue"]}]}, "allowed: path and names, or closed_forms"),
        ({"laws": {}}, "run 'dusty': unknown law 'dust'"),
        ({"laws": {"dust": {"formula": "calzetti", "path": "x"}}}, "one of path, formula, library"),
        ({"laws": {"dust": {"path": "{data}/none.dat"}}}, "none.dat: missing"),
        ({"lines": {"lines": {"Hzeta": 1.0}}}, "unknown lines 'OIII'|unknown line 'Hzeta'"),
        ({"lines": SMALL["lines"] | {"lines": {"OII3727": 0.0}}}, "lines 'lines': no line above 0"),
        ({"runs": [{"name": "a", "templates": ["red", "red"]}]}, "each may be there once"),
        ({"runs": [{"name": "a", "templates": ["red"], "laws": ["dust"]}]}, "laws and reddenings come together"),
        ({"runs": [{"name": "a", "templates": ["red"]} | DUST | {"reddenings": [-0.1]}]}, "greater than or equal to 0"),
        ({"redshifts": {"low": 1.0, "high": 0.5}}, "low below high"),
        ({"redshifts": {"step": 1e-9}}, "at most 20000 steps"),
        ({"redshift": {}}, "unknown key 'redshift', allowed: bands"),
    ],
)  # fmt: skip
def test_wrong_sets_of_runs_are_named(changes, text, tmp_path):
    np.savetxt(tmp_path / "short.sed", [[300.0, 1.0], [900.0, 1.0]])
    np.savetxt(tmp_path / "curve.dat", [[4000.0, 0.0], [4760.0, 1.0], [5520.0, 0.0]])
    content = yaml.safe_dump(SMALL | changes).replace("{data}", str(tmp_path))
    path = tmp_path / "set.yaml"
    path.write_text(content)
    with pytest.raises(LumosError, match=text):
        build_grid(load_models(path))


def test_shipped_sets_are_there_and_no_others():
    assert shipped_sets() == ("analytic", "eriksen2019", "pairs")
    with pytest.raises(
        LumosConfigError, match="unknown set of model runs 'bpz', allowed: analytic, eriksen2019, pairs"
    ):
        load_models("bpz")
    with pytest.raises(LumosDataError, match=r"/nowhere/stonp/PAUS_filter_response.json: missing"):
        build_grid(load_models("eriksen2019"), Path("/nowhere"))


def test_the_runs_of_bcnz2(data_dir):
    given = load_models("eriksen2019", ["redshifts.step=0.17"])
    grid = build_grid(given, data_dir / "photoz")
    assert len(load_models("eriksen2019").redshifts.values()) == 1191
    assert len(grid.runs) == 35
    assert len(grid.bands) == 46
    assert grid.narrow.sum() == 40
    sizes = [len(names) for names in grid.components]
    assert sizes == [6, 6, 8, 12, 6, *[10] * 30]
    # Ellipticals fall towards the blue, starbursts do not.
    at_low_z = [flux[0, :, :40] for flux in (grid.fluxes[0], grid.fluxes[3])]
    assert (at_low_z[0][:6, 0] < 0.6 * at_low_z[0][:6, -1]).all()
    assert (at_low_z[1][6:10, 0] > 0.8 * at_low_z[1][6:10, -1]).all()


def test_pairs_for_few_bands(data_dir):
    models = load_models("pairs", ["redshifts.step=0.3"])
    grid = build_grid(models, data_dir / "photoz")
    assert grid.bands == tuple("ugriz")
    assert len(grid.runs) == 27
    assert all(len(names) == 2 for names in grid.components)
    # Dust reddens: of the dustiest run all components are redder than of the same without.
    clear, dusty = (grid.runs.index(f"SB4_SB8_SB_calzetti_bump2_{reddening}") for reddening in ("0", "0.5"))
    colour = [grid.fluxes[run][0, :, 0] / grid.fluxes[run][0, :, 4] for run in (clear, dusty)]
    assert (colour[1] < 0.5 * colour[0]).all()
