"""Dust laws against tables, published values and dust_extinction."""

import numpy as np
import pytest
from astropy import units as u

from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.spectra.dust import DustLaw, calzetti_law, library_law, read_law
from lumos.spectra.lines import LineSet


def test_calzetti_has_its_published_values():
    law = calzetti_law()
    found = np.interp([150.0, 440.0, 550.0, 656.3, 2200.0], law.wavelength, law.k)
    # Calzetti et al. 2000: R_V = 4.05; k at 150 nm 10.3, at Halpha 3.33, at 2.2 µm 0.37.
    np.testing.assert_allclose(found[[0, 2, 3]], [10.33, 4.05, 3.33], rtol=0.01)
    assert found[1] - found[2] == pytest.approx(1.0, abs=0.06)
    assert found[4] == pytest.approx(0.369, abs=0.001)
    # The two polynomials miss each other by 0.025 where they meet, at 630 nm.
    rises = np.diff(law.k) > 0
    assert (np.abs(law.wavelength[:-1][rises] - 630) < 4).all()
    assert np.diff(law.k).max() < 0.03


def test_a_bump_stands_at_217_nm():
    bump = calzetti_law(3.5).k - calzetti_law().k
    grid = calzetti_law().wavelength
    assert grid[bump.argmax()] == pytest.approx(217.5, rel=0.005)
    assert bump.max() == pytest.approx(3.5, rel=1e-3)
    half = grid[bump > 1.75]
    assert half[-1] - half[0] == pytest.approx(35.0, abs=2.5)


def test_dust_takes_what_magnitudes_say():
    law = DustLaw(np.array([300.0, 500.0]), np.array([6.0, 4.0]))
    through = law.transmission(np.array([300.0, 400.0, 500.0, 900.0]), 0.25)
    np.testing.assert_allclose(-2.5 * np.log10(through), [1.5, 1.25, 1.0, 1.0], rtol=1e-12)
    lines = LineSet({"Halpha": 2.0, "OII3727": 0.5})
    np.testing.assert_allclose(lines.behind(law, 0.25), [2 * 10**-0.4, 0.5 * 10 ** (-0.1 * (6 - 0.72709))], rtol=1e-9)
    assert lines.behind(None, 0.0).tolist() == [2.0, 0.5]


@pytest.mark.parametrize("name", ["G03_SMCBar", "F99"])
def test_laws_of_the_library(name):
    averages = pytest.importorskip("dust_extinction.averages")
    parameters = pytest.importorskip("dust_extinction.parameter_averages")
    law = library_law(name)
    theirs = getattr(averages, name, None) or getattr(parameters, name)
    at = np.array([250.0, 440.0, 550.0, 800.0])
    ratio = 2.74 if name == "G03_SMCBar" else 3.1
    np.testing.assert_allclose(np.interp(at, law.wavelength, law.k), ratio * theirs()(at * u.nm), rtol=2e-4)
    with pytest.raises(LumosDataError, match=r"'Nobody20', allowed: .*G03_SMCBar"):
        library_law("Nobody20")


def test_tables_are_read_and_bad_ones_named(tmp_path):
    (tmp_path / "law.dat").write_text("5000 4.0\n6000 3.0\n")
    np.testing.assert_allclose(read_law(tmp_path / "law.dat").wavelength, [500, 600])
    (tmp_path / "falls.dat").write_text("6000 4.0\n5000 3.0\n")
    (tmp_path / "negative.dat").write_text("5000 4.0\n6000 -3.0\n")
    (tmp_path / "nan.dat").write_text("5000 4.0\n6000 nan\n")
    for name in ("falls", "negative", "nan", "missing"):
        with pytest.raises(LumosDataError, match=f"{name}.dat"):
            read_law(tmp_path / f"{name}.dat")
    with pytest.raises(LumosShapeError):
        DustLaw(np.ones(2), np.ones(3))
    with pytest.raises(LumosValueError):
        DustLaw(np.array([0.0, 1.0]), np.ones(2))


def test_the_tables_of_lephare_are_calzetti_and_its_bumps(data_dir):
    folder = data_dir / "photoz" / "lephare-data" / "ext"
    plain, bump = (read_law(folder / f"{name}.dat") for name in ("SB_calzetti", "SB_calzetti_bump1"))
    at = np.linspace(150, 2000, 400)
    ours = calzetti_law()
    np.testing.assert_allclose(
        np.interp(at, plain.wavelength, plain.k), np.interp(at, ours.wavelength, ours.k), atol=0.05
    )
    extra = np.interp(at, bump.wavelength, bump.k) - np.interp(at, plain.wavelength, plain.k)
    assert 205 < at[extra.argmax()] < 230
    assert extra.max() > 0.5
