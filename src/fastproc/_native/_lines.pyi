"""The lines of a block, by C."""

from typing import Any

Cut: Any
