"""The tables and plots of bench_peers.py. Pure: figures in, text out."""

from __future__ import annotations

from math import log10
from typing import NamedTuple

RAW = "raw C"
OURS = ("fastproc", "fastproc.aio")
PYTHON = (*OURS, "subprocess", "psutil.Popen", "sh", "plumbum", "asyncio", "uvloop", "anyio", "trio")

Figures = dict[str, dict[str, float]]
"""Case: rival: the median; nanoseconds of one run, child, byte or line; bytes for one that lives."""


class Case(NamedTuple):
    key: str
    title: str
    unit: str
    scale: float
    """The figure shown is scale by the median where more is better, else the median by scale."""
    more_is_better: bool
    digits: int


CASES = (
    Case("spawn", "One program that ends at once, nothing captured", "µs", 1e3, False, 0),
    Case("capture", "The same, stdout and stderr captured", "µs", 1e3, False, 0),
    Case("many", "1,000 of them, captured, 100 at once", "children/s", 1e9, True, 0),
    Case("big", "64 MiB captured", "MiB/s", 1e9 / (1 << 20), True, 0),
    Case("lines", "200,000 lines of 32 bytes, one by one", "million lines/s", 1e3, True, 2),
    Case("pipeline", "Three programs joined by pipes, the output captured", "µs", 1e3, False, 0),
    Case("gigabyte", "One captured program, the parent has 1 GiB resident", "µs", 1e3, False, 0),
    Case("live", "Memory of the parent for each child that lives, both outputs in pipes", "KiB", 1024, False, 1),
)
WRONG_RATIO = ("live",)
"""Where the limit is so close to nothing that a ratio to it says nothing."""


def shown(case: Case, value: float) -> str:
    """A median in the case's unit."""
    figure = case.scale / value if case.more_is_better else value / case.scale
    return f"{figure:,.{case.digits}f}"


def ranked(case: Case, rows: dict[str, float]) -> list[str]:
    """The rivals, best first; the limit before all."""
    return sorted(rows, key=lambda name: (name != RAW, rows[name]))


def table(case: Case, rows: dict[str, float]) -> list[str]:
    """The rows of one case."""
    ratio = case.key not in WRONG_RATIO
    lines = [
        "",
        f"## {case.title}",
        "",
        f"| | {case.unit} |" + (" × raw C | × fastproc |" if ratio else " |"),
        "| --- | ---: |" + (" ---: | ---: |" if ratio else ""),
    ]
    for name in ranked(case, rows):
        label = f"**{name}**" if name in OURS else name
        line = f"| {label} | {shown(case, rows[name])} |"
        if ratio:
            line += f" {rows[name] / rows[RAW]:.2f} | {rows[name] / rows[OURS[0]]:.2f} |"
        lines.append(line)
    return lines


def ahead(figures: Figures) -> list[str]:
    """Who is better than fastproc, and where; in words."""
    lines = []
    for case in CASES:
        rows = figures[case.key]
        best = min(rows.get(name, float("inf")) for name in OURS)
        better = [name for name in ranked(case, rows) if name != RAW and name not in OURS and rows[name] < best]
        if better:
            by = ", ".join(f"{name} {shown(case, rows[name])}" for name in better)
            ours = next(name for name in OURS if rows.get(name) == best)
            lines.append(f"- {case.title}: {by} {case.unit}; {ours} {shown(case, best)}.")
    return lines or ["- Nobody was, in no case."]


def markdown(figures: Figures, versions: dict[str, str], missing: dict[str, str], machine: str, rounds: int) -> str:
    """The page: what was measured, who is ahead of fastproc, a table for each case, the versions."""
    lines = [
        "# fastproc beside the others",
        "",
        f"Written by `make bench-peers`, in one run. {machine}.",
        "",
        f"Medians of {rounds} rounds ({max(1, rounds // 3)} for the last two cases, and for GNU parallel). A round",
        "asks every rival once for each case, in shuffled order. **× raw C**: how many times the time of the C program",
        "that does the same in the fewest system calls; **× fastproc**: of fastproc (`run`, `Pool`);",
        "less is better in both. The programs are in `benchmarks/peers`; `sh` is asked for a tenth of each case, as it",
        "takes long. xargs and GNU parallel take part where many children are run, xargs without capturing.",
        "",
        "What is asked of fastproc for many children, here for ten:",
        "",
        "```python",
        ">>> import fastproc",
        ">>> from fastproc.pool import Pool",
        ">>> with Pool(100) as pool:",
        "...     results = list(pool.map(lambda _: fastproc.cmd('true'), range(10), ordered=False))",
        ">>> sum(result.returncode == 0 for result in results)",
        "10",
        "",
        "```",
        "",
        "![All cases](peers.svg)",
        "",
        "## Who is ahead of fastproc",
        "",
        *ahead(figures),
    ]
    for case in CASES:
        lines += table(case, figures[case.key])
    lines += ["", "## Versions", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {version} |" for name, version in versions.items()]
    if missing:
        lines += ["", "Not taking part: " + "; ".join(f"{name} ({why})" for name, why in missing.items()) + "."]
    return "\n".join(lines) + "\n"


QUOTED = ("fastproc", "fastproc.aio", "subprocess", "asyncio", "tokio", "Rust std", "Go os/exec", RAW)
BEGIN, END = "<!-- written by make bench-peers -->", "<!-- end -->"


def quoted(figures: Figures, page: str) -> str:
    """A page with the tables in short, and who is ahead, between the marks."""
    names = [name for name in QUOTED if all(name in figures[case.key] for case in CASES)]
    lines = [
        BEGIN,
        "| | " + " | ".join(f"**{name}**" if name in OURS else name for name in names) + " |",
        "| --- |" + " ---: |" * len(names),
    ]
    for case in CASES:
        cells = " | ".join(shown(case, figures[case.key][name]) for name in names)
        lines.append(f"| {case.title}, {case.unit} | {cells} |")
    lines += ["", "Ahead of fastproc:", "", *ahead(figures), END]
    before, rest = page.split(BEGIN, 1)
    return before + "\n".join(lines) + rest.split(END, 1)[1]


WIDTH, COLUMN, ROW = 1180, 566, 19
MARGIN, LABELS, BARS = 24, 150, 280
GREY = 'fill="#5b6572"'


def color(name: str) -> str:
    """Ours, the limit, Python's, the others'."""
    if name in OURS:
        return "#0f8a5f"
    if name == RAW:
        return "#8a94a3"
    return "#b0662d" if name in PYTHON else "#4c6fb1"


def text(x: float, y: float, content: str, attributes: str = "") -> str:
    """A text element."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{content}</text>'


def panel(case: Case, rows: dict[str, float], left: float, top: float) -> list[str]:
    """One case: bars on a scale of powers of ten, from the limit; memory from one KiB."""
    base = 1024.0 if case.key in WRONG_RATIO else rows[RAW]
    out = [text(left, top, case.title, 'font-size="14" font-weight="600"')]
    names = ranked(case, rows)
    most = max(1.0, log10(max(max(rows.values()) / base, 1.0)))
    zero = left + LABELS
    for power in range(int(most) + 1):
        x = zero + BARS * power / most
        bottom = top + 14 + ROW * len(names)
        out.append(f'<line x1="{x:.1f}" y1="{top + 10:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="#e6e9ed"/>')
        label = f"{10**power} KiB" if case.key in WRONG_RATIO else f"{10**power}×"
        out.append(text(x, bottom + 12, label, f'text-anchor="middle" font-size="10.5" {GREY}'))
    for place, name in enumerate(names):
        y = top + 14 + ROW * place
        weight = 'font-weight="700"' if name in OURS else ""
        length = max(2.0, BARS * log10(max(rows[name] / base, 1.0)) / most)
        out.append(text(zero - 8, y + 11, name, f'text-anchor="end" {weight}'))
        out.append(f'<rect x="{zero:.1f}" y="{y:.1f}" width="{length:.1f}" height="13" rx="2" fill="{color(name)}"/>')
        figure = f"{shown(case, rows[name])} {case.unit}"
        if case.key not in WRONG_RATIO:
            figure = f"{rows[name] / base:.2f}× <tspan {GREY}>{figure}</tspan>"
        out.append(text(zero + length + 6, y + 11, figure, f'font-size="11" {weight}'))
    return out


def plot(figures: Figures, keys: list[str], machine: str) -> str:
    """Panels of some cases, two beside each other."""
    chosen = [case for case in CASES if case.key in keys and RAW in figures[case.key]]
    chosen.sort(key=lambda case: keys.index(case.key))
    body: list[str] = []
    top = 96.0
    for index in range(0, len(chosen), 2):
        pair = chosen[index : index + 2]
        for column, case in enumerate(pair):
            body += panel(case, figures[case.key], MARGIN + column * COLUMN, top)
        top += ROW * max(len(figures[case.key]) for case in pair) + 64
    height = top + 8
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" font-family="system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif" '
        'font-size="12.5" fill="#20262e">'
    )
    says = "× the time of a C program that does the same in the fewest system calls; shorter is better; scale of tens."
    return "\n".join(
        [
            head,
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
            text(MARGIN, 38, "Starting programs, by whom", 'font-size="20" font-weight="600"'),
            text(MARGIN, 60, says, GREY),
            *body,
            text(MARGIN, height - 16, machine, f'font-size="11.5" {GREY}'),
            "</svg>",
            "",
        ]
    )
