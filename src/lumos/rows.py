"""Dataclasses whose fields have one entry per row, as the columns of a table do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lumos.conventions import AnyArray
from lumos.errors import LumosShapeError, LumosValueError

if TYPE_CHECKING:
    from torch import Tensor, device

__all__ = ["SHARED", "Rowwise"]

#: Metadata of a field that all rows share: ``sed: SedFamily = field(metadata=SHARED)``.
SHARED: Mapping[str, bool] = MappingProxyType({"shared": True})


@dataclass(frozen=True, eq=False, repr=False)
class Rowwise:
    """Base of frozen dataclasses of n rows.

    A field is an array or tensor whose first axis runs over the rows, another object of rows, a mapping or tuple of
    these, or None where nothing is known of any row. A field that all rows share is marked with :data:`SHARED`.
    """

    def __len__(self) -> int:
        for name in self._columns():
            value = getattr(self, name)
            if value is not None:
                return len(value)
        raise TypeError(f"{type(self).__name__} knows nothing of any row: all its columns are None")

    def take(self, rows: "AnyArray | slice | list[int] | list[bool] | Tensor") -> Self:
        """Return some of the rows.

        Parameters
        ----------
        rows : slice, or list, array or tensor of int or bool, shape (m,)
            Numbers of the rows, or whether each is taken.

        Returns
        -------
        Self
            In the order of ``rows``; what all rows share is the same.
        """
        if isinstance(rows, list):
            rows = np.array(rows) if rows else np.zeros(0, dtype=np.int64)
        return replace(self, **{name: _taken(getattr(self, name), rows, name) for name in self._columns()})

    @classmethod
    def concatenate(cls, parts: Iterable[Self]) -> Self:
        """Join rows.

        Parameters
        ----------
        parts : iterable of Self
            One or more.

        Returns
        -------
        Self
            All rows in order.

        Raises
        ------
        LumosValueError
            If there are no parts, they differ in what all rows share, or a field is None in some of them only.
        """
        joined = list(parts)
        if not joined:
            raise LumosValueError(f"parts of {cls.__name__} to join", 0, "one or more")
        columns = {name: _joined([getattr(part, name) for part in joined], name) for name in cls._columns()}
        for item in fields(cls):
            if item.name not in columns:
                first, *others = (getattr(part, item.name) for part in joined)
                for other in others:
                    if not _same(other, first):
                        what = f"{item.name} of {cls.__name__} to join"
                        raise LumosValueError(what, other, f"{first!r} in all parts")
        return replace(joined[0], **columns)

    def to(self, device: "device | str") -> Self:
        """Return the rows with their tensors on a device.

        Parameters
        ----------
        device : torch.device or str
            Where; arrays stay in main memory.

        Returns
        -------
        Self
            The same values there.
        """
        return replace(self, **{name: _moved(getattr(self, name), device) for name in self._columns()})

    @classmethod
    def _columns(cls) -> list[str]:
        """Return the names of the fields that have one entry per row."""
        return [item.name for item in fields(cls) if item.init and not item.metadata.get("shared", False)]


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 (any value)
    """Return whether two values are equal, arrays and objects that hold arrays included."""
    if one is other:
        return True
    if is_dataclass(one) and type(one) is type(other):
        return all(_same(getattr(one, item.name), getattr(other, item.name)) for item in fields(one))
    if hasattr(one, "shape") and hasattr(other, "shape"):
        return one.shape == other.shape and bool((one == other).all())
    return bool(one == other)


def _taken(value: Any, rows: Any, name: str) -> Any:  # noqa: ANN401 (any column)
    if value is None:
        return None
    if isinstance(value, Rowwise):
        return value.take(rows)
    if isinstance(value, Mapping):
        return {key: _taken(item, rows, f"{name}[{key}]") for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_taken(item, rows, name) for item in value)
    if isinstance(value, np.ndarray):
        # A tensor of one number would count as that number and take the axis away.
        return value[rows if isinstance(rows, slice | np.ndarray) else np.asarray(rows.cpu())]
    _check_column(value, name)
    return value[rows]


def _joined(values: list[Any], name: str) -> Any:  # noqa: ANN401 (any column)
    known = [value for value in values if value is not None]
    if not known:
        return None
    if len(known) < len(values):
        raise LumosValueError(f"{name} of rows to join", f"None in {len(values) - len(known)} parts", "all or none")
    first = known[0]
    if isinstance(first, Rowwise):
        return type(first).concatenate(known)
    if isinstance(first, Mapping):
        for other in known:
            if other.keys() != first.keys():
                raise LumosValueError(f"{name} of rows to join", list(other), list(first))
        return {key: _joined([value[key] for value in known], f"{name}[{key}]") for key in first}
    if isinstance(first, tuple):
        return tuple(_joined(list(items), name) for items in zip(*known, strict=True))
    if isinstance(first, np.ndarray):
        return np.concatenate(known)
    _check_column(first, name)
    import torch  # noqa: PLC0415 (catalogues do not need it)

    return torch.cat(known)


def _moved(value: Any, device: Any) -> Any:  # noqa: ANN401 (any column)
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_moved(item, device) for item in value)
    return value if value is None or isinstance(value, np.ndarray) else value.to(device)


def _check_column(value: Any, name: str) -> None:  # noqa: ANN401 (any column)
    """Refuse what is neither array nor tensor of rows: it belongs to all rows, and must be marked so."""
    if not getattr(value, "shape", ()):
        raise LumosShapeError(f"{name} of rows", type(value).__name__, "an array or tensor, or a field marked SHARED")
