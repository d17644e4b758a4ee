"""The parser of subcommands that have many options, and their complaints; no name in these does more than print."""

from __future__ import annotations

import argparse

from fastproc._values.quoting import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """The standard parser, whose messages show what was given with its control characters escaped."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message; exit with 2."""
        super().error(printable(message))
