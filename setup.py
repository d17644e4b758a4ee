from sysconfig import get_config_var

from setuptools import setup

# cffi has no pyproject.toml key, and bdist_wheel refuses py_limited_api on a free-threaded Python: hence these two.
setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    options={} if get_config_var("Py_GIL_DISABLED") else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
