"""How the plan of a command changes so that the tree of its child can be found. Pure."""

from __future__ import annotations

from fastproc._values.plan import Plan, ResolvedOptions

_new = object.__new__


def contained(plan: Plan, cgroup: int = -1, mark: bytes = b"", subreaper: bool = False) -> Plan:
    """Return a copy of a plan whose tree can be found.

    Args:
        plan: not changed; its command may keep it.
        cgroup: descriptor of the cgroup that the child is born in, or -1.
        mark: one more variable, ended by NUL, or b"".
        subreaper: whether the program is made the child subreaper of its descendants.
    """
    copy = _new(Plan)
    for name in Plan.__slots__:
        setattr(copy, name, getattr(plan, name))
    if cgroup >= 0:
        copy.cgroup = cgroup
    if mark:
        copy.env += mark
        copy.envc += 1
    if subreaper:
        copy.settled = _adopting(plan.settled)
        copy.attr = copy.settled.attr
    return copy


def _adopting(settled: ResolvedOptions) -> ResolvedOptions:
    found = settled.adopting
    if found is None:
        found = _new(ResolvedOptions)
        for name in ResolvedOptions.__slots__:
            setattr(found, name, getattr(settled, name))
        found.attr = {**(settled.attr or {}), "subreaper": True}
        found.native = None
        settled.adopting = found
    return found
