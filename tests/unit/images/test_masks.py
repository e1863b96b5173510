"""Mask planes of surveys mapped onto the canonical ones."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from helpers.fits_files import write_simple
from lumos.errors import LumosDataError
from lumos.flags import MaskPlane
from lumos.images import read_exposure
from lumos.images.companions import canonical_mask
from lumos.surveys import MaskSource, load_survey

VALUES = np.array([[0, 1, 2], [3, 4, 8]])
NOWHERE = Path("x.fits")


def mapped(source, header=None, values=VALUES):
    return canonical_mask(values, source, {} if header is None else header, NOWHERE).tolist()


def test_bits_are_tested_one_by_one_and_others_ignored():
    source = MaskSource(kind="bits", planes={"BAD": (1,), "SATURATED": (2, 8)})
    # 3 = 1 + 2 is both; 4 has no meaning here.
    assert mapped(source) == [[0, 1, 2], [3, 0, 2]]


def test_codes_are_compared_and_unknown_ones_refused():
    source = MaskSource(kind="codes", planes={"BAD": (1, 2), "BLEED": (4,)}, ignore=(8,))
    with pytest.raises(LumosDataError, match=r"x\.fits: mask codes \[3\] are not in the survey file"):
        mapped(source)
    # As a code, 3 is not 1 + 2.
    source = MaskSource(kind="codes", planes={"BAD": (1, 2), "BLEED": (4,), "SATURATED": (3,)}, ignore=(8,))
    assert mapped(source) == [[0, 1, 1], [2, 16, 0]]


def test_names_are_looked_up_in_the_header():
    header = fits.Header([("MP_SAT", 1), ("MP_CR", 3)])
    source = MaskSource(kind="names", planes={"SATURATED": ("SAT",), "COSMIC_RAY": ("CR",)})
    assert mapped(source, header) == [[0, 0, 2], [2, 0, 4]]
    source = MaskSource(kind="names", planes={"BAD": ("BAD",)})
    with pytest.raises(LumosDataError, match=r"no mask plane 'BAD', the header has \['CR', 'SAT'\]"):
        mapped(source, header)


def test_nonzero():
    assert mapped(MaskSource(kind="nonzero")) == [[0, 1, 1], [1, 1, 1]]


def test_every_plane_of_the_registry_can_be_mapped():
    source = MaskSource(kind="codes", planes={plane.name: (int(plane),) for plane in MaskPlane})
    values = np.array([[int(plane) for plane in MaskPlane]])
    assert mapped(source, values=values) == values.tolist()


@pytest.mark.parametrize(
    ("version", "value", "plane"),
    [
        ("V4.8.2a", 3, MaskPlane.SATURATED),
        ("V3.5.0", 5, MaskPlane.COSMIC_RAY),
        ("V3.2.1", 2, MaskPlane.SATURATED),
        ("V3.2.1", 64, MaskPlane.BLEED),
    ],
)
def test_decam_masks_are_codes_in_newer_pipelines_and_bits_in_older(tmp_path, version, value, plane):
    cards = {"FILTER": "z DECam SDSS c0004 9260.0 1520.0", "EXPNUM": 7, "DETPOS": "N4", "PLVER": version}
    cards |= {"CD1_1": -0.263 / 3600, "CD2_2": 0.263 / 3600}
    path = write_simple(tmp_path / "c4d_1_ooi_z.fits", **cards)
    mask = np.zeros((30, 40), np.int32)
    mask[3, 8] = value
    fits.PrimaryHDU(mask).writeto(tmp_path / "c4d_1_ood_z.fits")
    fits.PrimaryHDU(np.ones((30, 40), ">f4")).writeto(tmp_path / "c4d_1_oow_z.fits")
    (exposure,) = read_exposure(path, load_survey("decam"))
    assert (exposure.band, exposure.exposure_id, exposure.detector) == ("z", "7", "N4")
    assert np.argwhere(exposure.mask).tolist() == [[3, 8]]
    assert exposure.mask[3, 8] == plane
    assert exposure.psf is None


def test_a_decam_code_of_the_other_kind_is_refused(tmp_path):
    cards = {"FILTER": "z DECam", "EXPNUM": 7, "DETPOS": "N4", "PLVER": "V4.8"}
    path = write_simple(tmp_path / "c4d_1_ooi_z.fits", CD1_1=-0.263 / 3600, CD2_2=0.263 / 3600, **cards)
    fits.PrimaryHDU(np.full((30, 40), 64, np.int32)).writeto(tmp_path / "c4d_1_ood_z.fits")
    with pytest.raises(LumosDataError, match=r"ood_z\.fits: mask codes \[64\]"):
        list(read_exposure(path, load_survey("decam")))


def test_a_mask_of_fractions_is_refused(tmp_path):
    path = tmp_path / "a.fits"
    write_simple(path)
    with fits.open(path) as hdul:
        bad = fits.ImageHDU(np.full((30, 40), 0.5, ">f4"), name="MASK")
        fits.HDUList([*hdul, bad]).writeto(tmp_path / "b.fits")
    with pytest.raises(LumosDataError, match=r"b\.fits\[MASK\]: a mask must hold integers"):
        list(read_exposure(tmp_path / "b.fits", load_survey("generic")))
