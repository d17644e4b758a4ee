"""The types of what is given to commands. For type checkers only: nothing imports it when the program runs."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Protocol


class HasFileno(Protocol):
    """A file, socket or anything else with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


Text = str | bytes | PathLike[str] | PathLike[bytes]
Path = Text
Environ = Mapping[str, Text] | Mapping[bytes, Text]
Signal = int | str
Limit = int | str | None
BytesLike = bytes | bytearray | memoryview
