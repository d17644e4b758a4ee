"""The base of all exceptions of errors.py, apart from it for those that are loaded later."""

from __future__ import annotations


class ProcessError(Exception):
    """Base of every exception that fastproc raises about a process."""

    __module__ = "fastproc.errors"
