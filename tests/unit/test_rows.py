"""Objects of rows: take, concatenate, length and device of every kind of field."""

from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pytest
import torch

from lumos.conventions import AnyArray
from lumos.errors import LumosShapeError, LumosValueError
from lumos.rows import SHARED, Rowwise


@dataclass(frozen=True)
class Place(Rowwise):
    x: AnyArray
    y: torch.Tensor


@dataclass(frozen=True)
class Table(Rowwise):
    place: Place
    images: torch.Tensor
    name: AnyArray | None
    flags: torch.Tensor | None = None
    fluxes: dict[str, tuple[AnyArray, torch.Tensor]] = field(default_factory=dict)
    scale: float = field(default=2.0, metadata=SHARED)
    grid: AnyArray = field(default_factory=lambda: np.arange(3.0), metadata=SHARED)


def table(numbers: list[int], **others: object) -> Table:
    n = np.array(numbers)
    t = torch.tensor(numbers)
    fluxes = {"a": (n + 0.5, t + 1), "b": (n * 2.0, t * 3)}
    content = {"place": Place(1.0 * n, -t), "images": t[:, None, None] * torch.ones(2, 2), "name": n.astype(str)}
    return Table(**(content | {"fluxes": fluxes} | others))


def assert_rows(got: Table, numbers: list[int]) -> None:
    want = table(numbers)
    assert len(got) == len(numbers)
    assert got.place.x.tolist() == want.place.x.tolist()
    assert got.place.y.tolist() == want.place.y.tolist()
    assert got.images.shape == (len(numbers), 2, 2)
    assert torch.equal(got.images, want.images)
    assert got.name.tolist() == want.name.tolist()
    assert got.flags is None
    for key, (first, second) in want.fluxes.items():
        assert got.fluxes[key][0].tolist() == first.tolist()
        assert got.fluxes[key][1].tolist() == second.tolist()
    assert got.scale == 2.0
    assert got.grid.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", [np.array, torch.tensor, list])
def test_any_index_takes_rows_of_arrays_and_tensors_alike(kind):
    whole = table([3, 1, 4, 5])
    assert_rows(whole.take(kind([2, 0, 2])), [4, 3, 4])
    # A single number in an array must not take the axis away.
    assert_rows(whole.take(kind([1])), [1])
    assert_rows(whole.take(kind([True, False, False, True])), [3, 5])
    assert_rows(whole.take(kind([False] * 4)), [])
    assert_rows(whole.take(slice(1, 3)), [1, 4])
    assert_rows(table([7]).take(kind([True])), [7])


def test_take_keeps_what_all_rows_share_and_the_order_of_the_class():
    whole = table([1, 2])
    taken = whole.take(slice(0, 1))
    assert taken.grid is whole.grid
    assert type(taken) is Table
    assert type(taken.place) is Place


def test_joined_rows_are_those_of_the_parts_in_order():
    assert_rows(Table.concatenate([table([3, 1]), table([]), table([4])]), [3, 1, 4])
    assert_rows(Table.concatenate(part for part in [table([3])]), [3])
    whole = table([3, 1, 4, 5])
    assert_rows(Table.concatenate([whole.take(slice(0, 3)), whole.take(slice(3, None))]), [3, 1, 4, 5])
    flagged = [table([number], flags=torch.tensor([number])) for number in (6, 7)]
    assert Table.concatenate(flagged).flags.tolist() == [6, 7]


def test_parts_that_do_not_go_together_are_refused():
    with pytest.raises(LumosValueError, match="parts of Table to join: got 0, allowed: one or more"):
        Table.concatenate([])
    with pytest.raises(LumosValueError, match="flags of rows to join: got 'None in 1 parts', allowed: all or none"):
        Table.concatenate([table([1]), table([2], flags=torch.tensor([2]))])
    with pytest.raises(LumosValueError, match=r"scale of Table to join: got 3.0, allowed: 2.0 in all parts"):
        Table.concatenate([table([1]), table([2], scale=3.0)])
    with pytest.raises(LumosValueError, match="grid of Table to join"):
        Table.concatenate([table([1]), table([2], grid=np.arange(3.0) + 1)])
    with pytest.raises(LumosValueError, match=r"fluxes of rows to join: got \['a'\], allowed: \['a', 'b'\]"):
        Table.concatenate([table([1]), table([2], fluxes={"a": table([2]).fluxes["a"]})])


def test_a_field_without_rows_must_be_marked_as_shared():
    @dataclass(frozen=True)
    class Wrong(Rowwise):
        x: AnyArray
        scale: object

    for scale, kind in ((2.0, "float"), ("word", "str"), (torch.tensor(1.0), "Tensor")):
        message = f"scale of rows: got '{kind}', allowed: an array or tensor, or a field marked SHARED"
        with pytest.raises(LumosShapeError, match=message):
            Wrong(np.arange(2), scale).take(slice(0, 1))
        with pytest.raises(LumosShapeError, match=message):
            Wrong.concatenate([Wrong(np.arange(2), scale)])


def test_the_length_is_that_of_the_first_known_field():
    @dataclass(frozen=True)
    class Sparse(Rowwise):
        scale: float = field(metadata=SHARED)
        x: AnyArray | None = None
        y: AnyArray | None = None

    assert len(Sparse(1.0, y=np.arange(3))) == 3
    with pytest.raises(TypeError, match="Sparse knows nothing of any row: all its columns are None"):
        len(Sparse(1.0))
    assert Sparse(1.0).take(np.arange(2)) == Sparse(1.0)


def test_shared_objects_that_hold_arrays_are_compared_by_value():
    @dataclass(frozen=True)
    class Law:
        curve: AnyArray

    @dataclass(frozen=True)
    class Drawn(Rowwise):
        x: AnyArray
        law: Law = field(metadata=SHARED)

    parts = [Drawn(np.arange(2), Law(np.arange(4.0))), Drawn(np.arange(1), Law(np.arange(4.0)))]
    assert len(Drawn.concatenate(parts)) == 3
    with pytest.raises(LumosValueError, match="law of Drawn to join"):
        Drawn.concatenate([*parts, Drawn(np.arange(1), Law(np.arange(5.0)))])


def test_tensors_move_to_a_device_and_arrays_stay():
    moved = table([1, 2]).to("meta")
    assert {moved.images.device.type, moved.place.y.device.type, moved.fluxes["a"][1].device.type} == {"meta"}
    assert moved.name.tolist() == ["1", "2"]
    assert moved.place.x.tolist() == [1, 2]


def test_a_fixed_mapping_becomes_a_mapping_of_the_taken():
    fixed = table([1, 2], fluxes=MappingProxyType({"a": (np.arange(2), torch.arange(2))}))
    assert fixed.take(slice(1, 2)).fluxes["a"][0].tolist() == [1]
