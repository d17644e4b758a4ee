"""The table and the plot of bench_spawn.py. Pure: figures in, text out."""

from __future__ import annotations

from typing import NamedTuple

RAW = "raw C loop"
RAW_APART = "raw C loop, own process"
DROP_IN = "fastproc.subprocess.run"
STANDARD = "subprocess.run"
RIVALS = (RAW, RAW_APART, "fastproc.run", DROP_IN, "os.posix_spawn", STANDARD)
PARENTS = ("small parent", "parent with 1 GiB resident")

Case = tuple[str, bool, str]
"""Program, captured, parent."""


class Row(NamedTuple):
    """One rival in one case; times in microseconds."""

    median: float
    p10: float
    p90: float
    of_medians: float
    """Ratio of the medians to the raw loop in the same process."""
    of_rounds: float
    """Median of the ratios of each round, to the same."""
    of_medians_apart: float
    """Ratio of the medians to the raw loop in its own small process."""
    faster_than_standard: float
    """Median of the ratios of each round: subprocess.run by this one."""


Results = dict[Case, dict[str, Row]]


def captured_text(captured: bool) -> str:
    """How the two kinds of run are called in table and plot."""
    return "stdout and stderr captured" if captured else "nothing captured"


def markdown(results: Results, machine: str, rounds: int) -> str:
    """The tables, with what the columns mean and the claims they bear on."""
    lines = [
        "# What one run of a program costs",
        "",
        f"Written by `make bench`. {machine}.",
        "",
        f"{rounds} rounds for each case; a round runs every rival once, in shuffled order; the two parents take turns",
        "in blocks of rounds. The limit is the *raw C loop*: vfork, exec, two pipes, poll, waitid and nothing else,",
        "called from the measuring process; and once more in a small process of its own.",
        "",
        "- **median, p10, p90**: microseconds for one run, as the caller sees it.",
        "- **× raw**: ratio of the medians to the raw C loop in the same process. **rounds**: median of the ratios of",
        "  each round to the same. **× apart**: ratio of the medians to the raw C loop in its own process.",
        "",
        "![plot](spawn.svg)",
    ]
    for (program, captured, parent), rows in results.items():
        lines += [
            "",
            f"## {program}, {captured_text(captured)}, {parent}",
            "",
            "| | median µs | p10 | p90 | × raw | rounds | × apart |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for rival in RIVALS:
            row = rows[rival]
            figures = f"{row.median:.0f} | {row.p10:.0f} | {row.p90:.0f}"
            lines.append(
                f"| {rival} | {figures} | {row.of_medians:.2f} | {row.of_rounds:.2f} | {row.of_medians_apart:.2f} |"
            )
    lines += [
        "",
        "## fastproc with 1 GiB resident against itself with a small parent",
        "",
        "| | small µs | 1 GiB µs | ratio |",
        "| --- | ---: | ---: | ---: |",
    ]
    for (program, captured, parent), rows in results.items():
        if parent == PARENTS[0]:
            small = rows["fastproc.run"].median
            large = results[program, captured, PARENTS[1]]["fastproc.run"].median
            lines.append(f"| {program}, {captured_text(captured)} | {small:.0f} | {large:.0f} | {large / small:.2f} |")
    lines += [
        "",
        "## fastproc.subprocess.run against subprocess.run",
        "",
        "Standard time by ours: of the medians, and the median of the ratios of each round.",
        "",
        "| | standard µs | ours µs | times as fast | rounds |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for (program, captured, parent), rows in results.items():
        before, after = rows[STANDARD], rows[DROP_IN]
        lines.append(
            f"| {program}, {captured_text(captured)}, {parent} | {before.median:.0f} | {after.median:.0f} "
            f"| {before.median / after.median:.2f} | {after.faster_than_standard:.2f} |"
        )
    return "\n".join(lines) + "\n"


COLORS = {
    RAW: ("#8a94a3", "#c9ced6"),
    RAW_APART: ("#8a94a3", "#c9ced6"),
    "fastproc.run": ("#0f8a5f", "#8fd0b6"),
    DROP_IN: ("#0f8a5f", "#8fd0b6"),
    "os.posix_spawn": ("#4c6fb1", "#b3c3e2"),
    STANDARD: ("#b0662d", "#e3c0a3"),
}
WIDTH, HEIGHT = 1180, 784
MARGIN, PANEL_WIDTH, PANEL_HEIGHT = 24, 566, 310
LABELS, BARS = 172, 268  # widths inside a panel: the names, the bars


def nice_step(limit: float) -> int:
    """A round distance for three to six grid lines up to limit."""
    return next(step for step in (50, 100, 200, 250, 500, 1000, 2000, 5000, 10000, 10**9) if limit / step <= 6)


GREY = 'fill="#5b6572"'


def text(x: float, y: float, content: str, attributes: str) -> str:
    """A text element."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{content}</text>'


def svg(results: Results, machine: str) -> str:
    """The plot: four panels, for each rival the two parents; a bar is the median, the line on it p10 to p90."""
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif" font-size="13" fill="#20262e">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(MARGIN, 38, "What one run of a program costs, in microseconds", 'font-size="20" font-weight="600"'),
        text(
            MARGIN,
            60,
            "Bar: median; line: p10 to p90; ×: median against the raw C loop of the same parent. "
            "Dark bar: small parent; light bar: parent with 1 GiB resident.",
            GREY,
        ),
    ]
    cases = list(dict.fromkeys((program, captured) for program, captured, _ in results))
    for index, (program, captured) in enumerate(cases):
        left = MARGIN + (index % 2) * PANEL_WIDTH
        top = 92 + (index // 2) * (PANEL_HEIGHT + 12)
        title = f"{program}, {captured_text(captured)}"
        out.append(text(left, top + 12, title, 'font-size="15" font-weight="600"'))
        # One scale for the panels beside each other.
        limit = max(row.p90 for (name, _, _), rows in results.items() if name == program for row in rows.values())
        scale = BARS / limit
        zero, bottom = left + LABELS, top + PANEL_HEIGHT - 26
        step = nice_step(limit)
        for value in range(0, int(limit) + 1, step):
            x = zero + value * scale
            out.append(f'<line x1="{x:.1f}" y1="{top + 24}" x2="{x:.1f}" y2="{bottom}" stroke="#e6e9ed"/>')
            out.append(text(x, bottom + 16, str(value), f'text-anchor="middle" font-size="11" {GREY}'))
        for place, rival in enumerate(RIVALS):
            y = top + 32 + place * 42
            weight = ' font-weight="700"' if rival == "fastproc.run" else ""
            out.append(text(zero - 10, y + 19, rival, f'text-anchor="end"{weight}'))
            for shade, parent in enumerate(PARENTS):
                row = results[program, captured, parent][rival]
                bar = y + shade * 16
                low, high = zero + row.p10 * scale, zero + row.p90 * scale
                out.append(
                    f'<rect x="{zero}" y="{bar}" width="{row.median * scale:.1f}" height="14" rx="2" '
                    f'fill="{COLORS[rival][shade]}"/>'
                )
                out.append(
                    f'<line x1="{low:.1f}" y1="{bar + 7}" x2="{high:.1f}" y2="{bar + 7}" '
                    'stroke="#20262e" stroke-width="1.2"/>'
                )
                ratio = f'<tspan font-weight="400" {GREY}>{row.of_medians:.2f}×</tspan>'
                out.append(text(high + 7, bar + 11, f"{row.median:.0f} {ratio}", f'font-size="11.5"{weight}'))
        out.append(f'<line x1="{zero}" y1="{top + 24}" x2="{zero}" y2="{bottom}" stroke="#8a94a3"/>')
    out += [text(MARGIN, HEIGHT - 20, machine, f'font-size="11.5" {GREY}'), "</svg>"]
    return "\n".join(out) + "\n"
