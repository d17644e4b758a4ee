"""Stands for fastproc.aio in CPython's suite of asyncio; children made by the standard library are written down."""

from __future__ import annotations

import sys

import fastproc_guarded  # noqa: F401

import fastproc.aio

sys.modules[__name__] = fastproc.aio
