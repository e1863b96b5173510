"""Stamps: axes, sub-pixel positions, edges."""

import numpy as np
import pytest

from lumos.errors import LumosShapeError, LumosValueError
from lumos.flags import MaskPlane
from lumos.images import cut_stamps

#: Every pixel of this image is different, and its shape is not square: pixel (x, y) holds 1000 y + x.
IMAGE = (1000 * np.arange(40)[:, None] + np.arange(70)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 60])
def test_the_central_pixel_holds_the_position(size):
    stamps = cut_stamps(IMAGE, np.array([31.4, 50.0]), np.array([20.3, 9.6]), size)
    assert stamps.data.shape == (2, size, size)
    assert stamps.data[:, size // 2, size // 2].tolist() == [20031.0, 10050.0]
    np.testing.assert_allclose(stamps.x, size // 2 + np.array([0.4, 0.0]))
    np.testing.assert_allclose(stamps.y, size // 2 + np.array([0.3, -0.4]))


def test_x_is_the_second_axis():
    stamp = cut_stamps(IMAGE, np.array([30.0]), np.array([20.0]), 5).data[0]
    assert stamp[2, 3] - stamp[2, 2] == 1.0
    assert stamp[3, 2] - stamp[2, 2] == 1000.0


def test_a_stamp_inside_is_the_slice():
    stamp = cut_stamps(IMAGE, np.array([30.2]), np.array([20.0]), 9).data[0]
    assert np.array_equal(stamp, IMAGE[16:25, 26:35])


def test_edges_are_padded_never_wrapped(rng):
    size, n = 13, 300
    x, y = rng.uniform(-30, 100, n), rng.uniform(-30, 70, n)
    mask = rng.integers(0, 2, IMAGE.shape).astype(np.int32) * int(MaskPlane.SATURATED)
    variance = rng.uniform(1, 2, IMAGE.shape).astype(np.float32)
    stamps = cut_stamps(IMAGE, x, y, size, mask=mask, variance=variance)
    pad = 60
    options = {"pad_width": pad, "mode": "constant"}
    padded = np.pad(IMAGE, constant_values=0.0, **options)
    padded_mask = np.pad(mask, constant_values=int(MaskPlane.NO_DATA), **options)
    padded_variance = np.pad(variance, constant_values=0.0, **options)
    for k in range(n):
        row, column = int(np.floor(y[k] + 0.5)) + pad - size // 2, int(np.floor(x[k] + 0.5)) + pad - size // 2
        window = np.s_[row : row + size, column : column + size]
        assert np.array_equal(stamps.data[k], padded[window])
        assert np.array_equal(stamps.mask[k], padded_mask[window])
        assert np.array_equal(stamps.variance[k], padded_variance[window])


def test_positions_far_away_or_not_finite_have_no_data():
    x = np.array([1e6, -1e300, np.nan, np.inf, 30.0])
    stamps = cut_stamps(IMAGE, x, np.array([5.0, 5.0, 5.0, 5.0, np.nan]), 5)
    assert stamps.data.shape == (5, 5, 5)
    assert (stamps.mask == MaskPlane.NO_DATA).all()
    assert (stamps.data == 0).all()
    assert len(cut_stamps(IMAGE, np.empty(0), np.empty(0), 5)) == 0


def test_a_stamp_larger_than_the_image():
    stamps = cut_stamps(IMAGE, np.array([35.0]), np.array([20.0]), 200)
    assert (stamps.mask == 0).sum() == IMAGE.size
    assert stamps.data.sum(dtype=np.float64) == IMAGE.sum(dtype=np.float64)


def test_types_are_those_of_the_interface():
    stamps = cut_stamps(IMAGE.astype(">f8"), np.array([35.0]), np.array([20.0]), 4, variance=IMAGE.astype(">f8"))
    assert (stamps.data.dtype, stamps.mask.dtype, stamps.variance.dtype) == (np.float32, np.int32, np.float32)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"size": 0}, LumosValueError),
        ({"y": np.zeros(2)}, LumosShapeError),
        ({"data": np.zeros(5)}, LumosShapeError),
        ({"mask": np.zeros((40, 69), np.int32)}, LumosShapeError),
        ({"variance": np.zeros((1, 1))}, LumosShapeError),
    ],
)
def test_bad_calls_are_refused(change, error):
    call = {"data": IMAGE, "x": np.zeros(1), "y": np.zeros(1), "size": 5, **change}
    with pytest.raises(error):
        cut_stamps(call.pop("data"), call.pop("x"), call.pop("y"), call.pop("size"), **call)
