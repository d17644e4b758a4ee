"""Finalizers that call no function of Python's where nothing is left to do.

What a signal handler raises in a finalizer is printed and lost. So `__del__` looks for the function to be called, in C,
and an object that is at its end says that this is a function in C which does nothing.
"""

from __future__ import annotations


class Finalizer(property):
    """A `__del__` made of an attrgetter for what is to be called; `Class.__del__(instance)` works, too.

    Of a class whose instances have a dictionary, `_drop` is best a method: an instance that needs it no more has `int`
    there, which hides the method, and none is in a cycle of references with itself.
    """

    def __call__(self, instance: object) -> None:
        """Finalize an instance, for derived classes that call this by its class."""
        self.__get__(instance)()
