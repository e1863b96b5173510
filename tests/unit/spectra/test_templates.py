"""Templates and wavelengths from files and in closed form."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.simulate.population import load_population
from lumos.spectra.lines import LINES, LineSet
from lumos.spectra.templates import Template, closed_form, list_templates, read_template
from lumos.spectra.wavelengths import as_vacuum_nm, refractive_index, vacuum_from_air

WAVELENGTH, FLUX = np.array([200.0, 300.0, 400.0, 550.0]), np.array([1.0, 2.0, 1.5, 0.0])


@pytest.mark.parametrize("name", ["t.sed", "t.fits", "t.ecsv", "t.npz"])
def test_every_format_gives_the_same_template(name, tmp_path):
    path, unit = tmp_path / name, "Angstrom"
    if name == "t.npz":
        np.savez(path, Ngc__wave=10 * WAVELENGTH, Ngc__flam=FLUX, Ugc__wave=WAVELENGTH, Ugc__flam=FLUX)
        assert list_templates(path) == ("Ngc", "Ugc")
    elif name == "t.sed":
        np.savetxt(path, np.column_stack([10 * WAVELENGTH, FLUX]))
    else:
        QTable({"WAVE": 10 * WAVELENGTH * u.AA, "FLUX": FLUX}).write(path)
        unit = None
    found = read_template(path, unit, name="Ngc")
    np.testing.assert_allclose(found.wavelength, WAVELENGTH)
    np.testing.assert_allclose(found.flux, FLUX)
    # Per unit frequency: nu F_nu = lambda F_lambda.
    nu = read_template(path, unit, per="frequency", name="Ngc")
    np.testing.assert_allclose(nu.flux * nu.wavelength**2, FLUX)
    air = read_template(path, unit, "air", name="Ngc")
    np.testing.assert_allclose(air.wavelength, vacuum_from_air(WAVELENGTH))


def test_a_spectrum_of_sdss_is_read_as_it_is(tmp_path):
    columns = fits.ColDefs([
        fits.Column("flux", "E", array=[1.0, 2.0, 3.0]),
        fits.Column("loglam", "E", array=np.log10([3800.0, 4000.0, 4200.0])),
    ])  # fmt: skip
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "spec.fits")
    for unit in (None, "Angstrom"):
        np.testing.assert_allclose(read_template(tmp_path / "spec.fits", unit).wavelength, [380, 400, 420], rtol=1e-6)
    with pytest.raises(LumosDataError, match="loglam is that of Angstrom, unit: nm was given"):
        read_template(tmp_path / "spec.fits", "nm")


def test_a_point_given_twice_counts_once_and_a_step_is_refused():
    again = Template(np.array([200.0, 300.0, 300.0, 400.0]), np.array([1.0, 2.0, 2.0, 1.0]))
    assert again.wavelength.tolist() == [200, 300, 400]
    with pytest.raises(LumosValueError, match=r"got \[300.0, 300.0\].*increasing"):
        Template(np.array([200.0, 300.0, 300.0, 400.0]), np.array([1.0, 2.0, 2.1, 1.0]))


def test_more_points_keep_the_spectrum():
    template = Template(WAVELENGTH, FLUX)
    finer = template.on(np.array([10.0, 250.0, 300.0, 500.0, 9000.0]))
    assert finer.wavelength.tolist() == [200, 250, 300, 400, 500, 550]
    np.testing.assert_allclose(finer.flux, np.interp(finer.wavelength, WAVELENGTH, FLUX))


def test_closed_forms_are_the_spectra_of_the_simulation():
    family = load_population().sed
    latents = np.array([[1.0, -0.6, 0.3, 0.2]])
    template = closed_form((latents @ family.modes)[0])
    per_frequency = template.flux * template.wavelength**2
    expected = family.continuum(latents, template.wavelength)[0]
    np.testing.assert_allclose(per_frequency / per_frequency[2000], expected / expected[2000], rtol=1e-10)
    with pytest.raises(LumosShapeError, match=r"\(5,\)"):
        closed_form([1.0, 2.0])


@pytest.mark.parametrize(
    ("wavelength", "flux", "text"),
    [
        ([400.0, 300.0, 200.0], [1.0, 1.0, 1.0], "increasing"),
        ([200.0, 300.0, 250.0], [1.0, 1.0, 1.0], r"got \[300.0, 250.0\]"),
        ([200.0, np.nan, 250.0], [1.0, 1.0, 1.0], "increasing"),
        ([200.0, 300.0, 350.0], [1.0, -1.0, 1.0], "got -1.0, allowed: finite, at least 0"),
        ([200.0, 300.0, 350.0], [1.0, np.nan, 1.0], "got nan, allowed: finite"),
        ([200.0, 300.0, 350.0], [0.0, 0.0, 0.0], "not 0 everywhere"),
        ([200.0], [1.0], "m > 1"),
    ],
)
def test_bad_templates_are_named(wavelength, flux, text, tmp_path):
    path = tmp_path / "bad.sed"
    np.savetxt(path, np.column_stack([wavelength, flux]))
    with pytest.raises(LumosDataError, match=f"bad.sed: .*{text}"):
        read_template(path, "nm")


def test_what_is_no_template_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", X__wave=WAVELENGTH, X__flam=FLUX)
    # An archive of Python objects would have to be unpickled.
    np.savez(tmp_path / "pickled.npz", X__wave=np.array([{}], dtype=object), X__flam=FLUX)
    (tmp_path / "words.npz").write_text("no archive")
    np.savetxt(tmp_path / "t.sed", np.column_stack([WAVELENGTH, FLUX]))
    for arguments, text in (
        (("a.npz", "nm", "vacuum", "wavelength", "Y"), "has no template 'Y', it has X"),
        (("a.npz", None, "vacuum", "wavelength", "X"), "does not say the unit"),
        (("pickled.npz", "nm", "vacuum", "wavelength", "X"), "pickled.npz"),
        (("words.npz", "nm", "vacuum", "wavelength", "X"), "words.npz: no archive"),
        (("missing.npz", "nm", "vacuum", "wavelength", "X"), "missing.npz"),
        (("missing.sed", "nm"), "missing.sed: missing"),
        (("t.sed",), "does not say the unit"),
        (("t.sed", "nm", "water"), "allowed: vacuum, air"),
    ):
        with pytest.raises(LumosDataError, match=text):
            read_template(tmp_path / arguments[0], *arguments[1:])
    with pytest.raises(LumosValueError, match="wavelength, frequency"):
        read_template(tmp_path / "t.sed", "nm", per="magnitude")


def test_air_and_vacuum_are_those_of_the_line_tables():
    # NIST: in air and in vacuum, Å.
    pairs = {"Hbeta": 4861.33, "OIII4960": 4958.91, "OIII5008": 5006.84, "Halpha": 6562.79, "NII6585": 6583.45,
             "SII6718": 6716.44, "OII3727": 3726.03}  # fmt: skip
    for name, air in pairs.items():
        assert vacuum_from_air(np.array(air / 10)) == pytest.approx(LINES[name], abs=0.004)
    wavelength = np.linspace(200.1, 2500, 1000)
    back = vacuum_from_air(wavelength) / refractive_index(vacuum_from_air(wavelength))
    np.testing.assert_allclose(back, wavelength, rtol=1e-11)
    assert vacuum_from_air(np.array([120.0, 199.0])).tolist() == [120, 199]
    assert as_vacuum_nm(np.array([0.5]), "um").tolist() == [500]
    assert as_vacuum_nm(np.array([5000.0]), "Angstrom", "air")[0] == pytest.approx(500.139, abs=1e-3)
    for arguments in (("mm",), ("nm", "glass")):
        with pytest.raises(LumosValueError):
            as_vacuum_nm(np.ones(1), *arguments)


def test_lines_are_known_or_refused():
    lines = LineSet({"Halpha": 2.0, "OII3727": 0.5})
    assert lines.wavelength.tolist() == [656.461, 372.709]
    for strengths in ({}, {"Hzeta": 1.0}, {"Halpha": -1.0}, {"Halpha": np.nan}):
        with pytest.raises(LumosValueError):
            LineSet(strengths)


def test_the_spectra_of_brown_are_in_air(data_dir):
    path = data_dir / "photoz" / "brown2014" / "brown2014_900_12000A.npz"
    shifts = []
    for name in list_templates(path):
        template = read_template(path, "Angstrom", "air", name=name)
        for line in ("OIII5008", "OIII4960"):
            fine = LINES[line] + np.arange(-4.0, 4.0, 0.01)
            excess = np.interp(fine, template.wavelength, template.flux)
            excess -= np.median(excess[np.abs(fine - LINES[line]) > 2.5])
            near = np.abs(fine - LINES[line]) < 0.8
            if excess[near].max() > 1.5 * np.interp(fine[0], template.wavelength, template.flux):
                top = np.argmax(np.where(near, excess, -1))
                half = excess < excess[top] / 2
                middle = (fine[:top][half[:top]][-1] + fine[top:][half[top:]][0]) / 2
                shifts.append(middle / LINES[line] - 1)
    # Air shifts lines by 2.8e-4. Read as in air, strong lines lie where they should to a third of it.
    assert len(shifts) > 20
    assert abs(np.median(shifts)) < 1.2e-4


def test_every_library_at_hand_is_read(data_dir):
    folder = data_dir / "photoz"
    for pattern, n in (("eazy-photoz/*/*_sed?.dat", 7), ("lephare-data/sed/*/*.sed", 31), ("bc03_six/*.sed", 6)):
        found = [read_template(path, "Angstrom") for path in sorted(folder.glob(pattern))]
        assert len(found) == n
        # All of them reach over every optical band at any redshift below 1.2: their units are right.
        assert all(one.wavelength[0] < 100 and one.wavelength[-1] > 1500 for one in found)
