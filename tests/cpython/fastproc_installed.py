"""Stands for asyncio in CPython's suite of it: asyncio itself, after fastproc.install()."""

from __future__ import annotations

import asyncio
import sys

import fastproc_guarded  # noqa: F401

import fastproc

fastproc.install()
sys.modules[__name__] = asyncio
