import os
import sys
from sysconfig import get_config_var

from setuptools import setup

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from build_ffi import command_classes, extensions

# cffi has no pyproject.toml key, and bdist_wheel refuses py_limited_api on a free-threaded Python: hence these.
setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    cmdclass=command_classes(),
    ext_modules=extensions(),
    options={} if get_config_var("Py_GIL_DISABLED") else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
