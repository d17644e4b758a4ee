"""The only code that waits: descriptors, resolving, the reactor, one process, one exchange.

May import _native, _values and errors; may call os, select, time. Knows nothing of pools, cgroup trees or asyncio.
"""
