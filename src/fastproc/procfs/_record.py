"""The base class of records: immutable objects with named fields. Pure."""

from __future__ import annotations

from fastproc._values.capabilities import CapabilitySet
from fastproc.procfs._absent import Absent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar, dataclass_transform
else:

    def dataclass_transform(**_: object) -> object:
        """Return a decorator that does nothing. Only the type checker needs it."""
        return lambda kind: kind


@dataclass_transform(frozen_default=True)
class Record:
    """An immutable object with named fields. Records of the same class with equal fields are equal.

    A subclass declares its fields by annotations; a field that some kernels lack has a default. Importing `dataclasses`
    would cost more than all of these classes together.
    """

    __module__ = "fastproc.procfs"

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = (*cls._fields, *(name for name in cls.__annotations__ if name[0] != "_"))

    def __init__(self, *args: object, **values: object) -> None:
        """Store the fields, given in order or by name.

        Raises:
            TypeError: a field is missing, unknown or given twice.
        """
        given = dict(zip(self._fields, args, strict=False))
        kind = type(self).__name__
        if len(args) > len(self._fields) or given.keys() & values.keys():
            raise TypeError(f"{kind}: too many fields")
        given.update(values)
        for name in self._fields:
            if name not in given and not hasattr(type(self), name):
                raise TypeError(f"{kind}: {name} is missing")
        if len(given) > len(self._fields) or not given.keys() <= set(self._fields):
            raise TypeError(f"{kind}: there is no {', '.join(sorted(given.keys() - set(self._fields)))}")
        self.__dict__.update(given)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}: {name} cannot be set: a record does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}: {name} cannot be deleted: a record does not change")

    def items(self) -> Iterator[tuple[str, object]]:
        """Return an iterator over the names and values of the fields, in order."""
        return ((name, getattr(self, name)) for name in self._fields)

    def to_dict(self) -> dict[str, object]:
        """Return a dict of JSON values; an absent field is {"absent": reason}."""
        return {name: plain(value) for name, value in self.items()}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(value == getattr(other, name) for name, value in self.items())

    def __hash__(self) -> int:
        return hash((type(self), *(value for _, value in self.items())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.items())})"


def plain(value: object) -> object:
    """Return a value in the types of JSON."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Absent):
        return {"absent": str(value)}
    if isinstance(value, CapabilitySet):
        return list(value.names)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list, frozenset)):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value
