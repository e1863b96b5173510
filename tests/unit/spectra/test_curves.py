"""Response curves: closed forms of their means, and the files that they are read from."""

import json

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, Table
from scipy.integrate import quad

from lumos.errors import LumosDataError, LumosValueError
from lumos.spectra.curves import Curve, read_curve
from lumos.spectra.passbands import PAUCAM_PASSBANDS

POINTS = ([500.0, 510.0, 525.0, 540.0], [0.0, 0.7, 0.5, 0.0])
CURVE = Curve(np.array(POINTS[0]), np.array(POINTS[1]))


def text_file(path, wavelength, response, header="# a filter\n"):
    path.write_text(header + "".join(f"{a!r} {b!r}\n" for a, b in zip(wavelength, response, strict=True)))
    return path


def test_a_box_has_the_means_of_its_closed_form():
    box = Curve(np.array([600.0, 660.0]), np.array([0.3, 0.3]))
    assert box.mean_wavelength == pytest.approx(630.0, rel=1e-12)
    assert box.pivot_wavelength == pytest.approx(np.sqrt((660**2 - 600**2) / 2 / np.log(1.1)), rel=1e-12)
    assert box.per_log == pytest.approx(0.3 * np.log(1.1), rel=1e-12)


def test_integrals_between_any_wavelengths_are_those_of_quadrature():
    ends = np.array([490.0, 503.3, 503.4, 510.0, 511.0, 532.1, 540.0, 600.0])
    photons, moment = CURVE.photons(ends)
    for low, high, one, other in zip(ends[:-1], ends[1:], photons, moment, strict=True):
        breaks = [point for point in POINTS[0] if low < point < high]

        def integral(weight, low=low, high=high, breaks=breaks):
            return quad(lambda x: x * weight(x) * float(CURVE.at(np.array(x))), low, high, points=breaks or None)[0]

        assert one == pytest.approx(integral(lambda _: 1.0), rel=1e-9, abs=1e-9)
        assert other == pytest.approx(integral(lambda x, low=low: x - low), rel=1e-9, abs=1e-6)
    assert CURVE.all_photons == pytest.approx(photons.sum(), rel=1e-12)


def test_more_points_on_the_same_lines_change_nothing():
    fine = np.union1d(CURVE.wavelength, np.linspace(500, 540, 777))
    finer = Curve(fine, CURVE.at(fine))
    for name in ("mean_wavelength", "pivot_wavelength", "per_log", "limits"):
        assert getattr(finer, name) == pytest.approx(getattr(CURVE, name), rel=1e-12)


def test_limits_are_where_the_response_begins_and_ends():
    padded = Curve(np.array([100.0, *POINTS[0][:1], *POINTS[0][1:], 900.0]), np.array([0.0, *POINTS[1], 0.0]))
    assert padded.limits == (500.0, 540.0)
    assert Curve.of(PAUCAM_PASSBANDS["NB685"]).mean_wavelength == pytest.approx(685, abs=1e-3)


@pytest.mark.filterwarnings("ignore:The unit 'Angstrom' has been deprecated")
@pytest.mark.parametrize("name", ["a.res", "a.par", "a.dat", "a.ecsv", "a.csv", "a.fits", "a.xml", "a.json"])
def test_every_format_gives_the_same_curve(name, tmp_path):
    path, unit, response = tmp_path / name, None, np.array(POINTS[1])
    angstrom = np.array(POINTS[0]) * 10
    if name.endswith(".json"):
        content = {"X": {"wavelength": POINTS[0], "response": POINTS[1], "wav_units": "nm"}, "Y": {}}
        path.write_text(json.dumps(content))
    elif name.endswith((".ecsv", ".fits")):
        QTable({"wavelength": angstrom * u.AA, "response": response}).write(path)
    elif name.endswith(".xml"):
        # As the Spanish Virtual Observatory writes them.
        QTable({"Wavelength": angstrom * u.AA, "Transmission": response}).write(path, format="votable")
    elif name.endswith(".csv"):
        Table({"wavelength": angstrom, "throughput": response}).write(path)
        unit = "Angstrom"
    else:
        text_file(path, angstrom.tolist(), POINTS[1])
        unit = "Angstrom"
    curve = read_curve(path, unit, name="X")
    np.testing.assert_allclose(curve.wavelength, POINTS[0], rtol=1e-12)
    np.testing.assert_allclose(curve.response, POINTS[1], rtol=1e-12)
    if unit is None and name != "a.json":
        with pytest.raises(LumosDataError, match=f"{name}.*in Angstrom, unit: nm was given"):
            read_curve(path, "nm")


def test_a_response_to_energy_is_one_to_photons_over_the_wavelength(tmp_path):
    path = text_file(tmp_path / "e.dat", *POINTS)
    curve = read_curve(path, "nm", counting="energy")
    np.testing.assert_allclose(curve.response * curve.wavelength, POINTS[1], rtol=1e-12)
    assert curve.mean_wavelength < read_curve(path, "nm").mean_wavelength
    with pytest.raises(LumosValueError, match="allowed: photon, energy"):
        read_curve(path, "nm", counting="photons")


@pytest.mark.parametrize(
    ("wavelength", "response", "unit", "text"),
    [
        ([540.0, 525.0, 510.0], [0.0, 0.7, 0.0], "nm", "increasing"),
        ([500.0, 510.0, 510.0], [0.0, 0.7, 0.0], "nm", r"got \[510.0, 510.0\], allowed: nm above 0, increasing"),
        ([500.0, 510.0, 520.0], [0.0, -0.01, 0.5], "nm", "response of a filter curve: got -0.01"),
        ([500.0, 510.0, 520.0], [0.0, float("nan"), 0.5], "nm", "response of a filter curve: got nan"),
        ([500.0, float("nan"), 520.0], [0.0, 1.0, 0.5], "nm", "increasing"),
        ([500.0, 510.0, 520.0], [0.0, 0.0, 0.0], "nm", "not 0 everywhere"),
        ([500.0, 510.0, 520.0], [0.0, 1.0, 0.0], "um", "is the unit right"),
        ([500.0, 510.0, 520.0], [0.0, 1.0, 0.0], "Angstrom", "is the unit right"),
        ([500.0, 510.0, 520.0], [0.0, 1.0, 0.0], None, "does not say the unit"),
        ([500.0, 510.0, 520.0], [0.0, 1.0, 0.0], "parsec", "allowed: nm, Angstrom, um"),
        ([], [], "nm", "no numbers"),
    ],
)
def test_bad_curves_are_named(wavelength, response, unit, text, tmp_path):
    path = text_file(tmp_path / "bad.dat", wavelength, response)
    with pytest.raises(LumosDataError, match=f"bad.dat: .*{text}"):
        read_curve(path, unit)


def test_files_that_hold_no_curve_are_named(tmp_path):
    (tmp_path / "words.dat").write_text("no numbers here\n")
    (tmp_path / "one.dat").write_text("1\n2\n")
    (tmp_path / "words.fits").write_text("no table")
    (tmp_path / "text.json").write_text("{not json")
    (tmp_path / "other.json").write_text(json.dumps({"X": {"wavelength": [1, 2]}}))
    (tmp_path / "unit.json").write_text(json.dumps({"X": {"wavelength": [500, 600], "response": [1, 1]}}))
    Table({"wave": [500.0, 600.0], "what": [1.0, 1.0]}).write(tmp_path / "columns.ecsv")
    QTable({"wave": [5, 6] * u.m, "response": [1.0, 1.0]}).write(tmp_path / "metres.ecsv")
    (tmp_path / "folder.dat").mkdir()
    for name in ("words.dat", "one.dat", "words.fits", "text.json", "other.json", "unit.json", "columns.ecsv",
                 "metres.ecsv", "folder.dat", "missing.dat", "missing.json"):  # fmt: skip
        with pytest.raises(LumosDataError, match=name):
            read_curve(tmp_path / name, name="X")
    with pytest.raises(LumosDataError, match="has no curve 'Z', it has X"):
        read_curve(tmp_path / "other.json", name="Z")


def test_the_measured_narrow_bands_lie_where_their_means_say(data_dir):
    path = data_dir / "photoz" / "stonp" / "PAUS_filter_response.json"
    curves = {name: read_curve(path, name=name) for name in PAUCAM_PASSBANDS}
    means = np.array([curve.mean_wavelength for curve in curves.values()])
    named = np.array([band.wavelength for band in PAUCAM_PASSBANDS.values()])
    # Every band lies near its name, some of them nanometres from it: the name is never used.
    assert (np.diff(means) > 8).all()
    assert 2 < np.abs(means - named).max() < 6
