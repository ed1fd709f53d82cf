"""Rounds in turn, and the table of what they measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROUNDS = 3

Figures = Mapping[str, float]
"""What one round measured, by name and unit."""
Measure = Callable[[], Figures]
"""Runs one round."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of this project and of a baseline, round by round."""

    what: str
    baseline: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return median(self.ours) / median(self.theirs)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the largest ratio of two neighbouring rounds."""
        ratios = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        return min(ratios), max(ratios)


def compare(what: str, ours: Measure, baselines: Mapping[str, Measure]) -> list[Row]:
    """Measures in turn, so that what else the machine does meets all of them alike; one more round before warms up."""
    contenders = {"activities": ours, **baselines}
    measured: dict[str, list[Figures]] = {name: [] for name in contenders}
    for number in range(ROUNDS + 1):
        for name, measure in contenders.items():
            figures = measure()
            shown = ", ".join(f"{value:.1f} {figure}" for figure, value in figures.items())
            print(f"{what}: {name}: {shown}{'' if number else ' (warming up)'}", file=sys.stderr)
            if number:
                measured[name].append(figures)
    return [
        Row(
            f"{what}, {figure}",
            name,
            tuple(each[figure] for each in measured["activities"]),
            tuple(each[figure] for each in measured[name]),
        )
        for name in baselines
        for figure in measured[name][0]
    ]


def table(rows: Iterable[Row]) -> str:
    """The rows for reading."""
    lines = [("what", "activities", "baseline", "", "ratio", "spread")]
    for row in rows:
        least, most = row.spread
        medians = (f"{median(row.ours):.1f}", f"{median(row.theirs):.1f}")
        lines.append((row.what, medians[0], medians[1], row.baseline, f"{row.ratio:.2f}", f"{least:.2f}-{most:.2f}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in (1, 2, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def write_json(rows: Iterable[Row], path: Path) -> None:
    """The rows for programs."""
    content = [
        {
            "what": row.what,
            "baseline": row.baseline,
            "activities_median": median(row.ours),
            "baseline_median": median(row.theirs),
            "ratio": row.ratio,
            "spread": row.spread,
            "activities_rounds": row.ours,
            "baseline_rounds": row.theirs,
        }
        for row in rows
    ]
    path.write_text(json.dumps(content, indent=2) + "\n")
