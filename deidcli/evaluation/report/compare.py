"""Compare: two sets of results side by side, figure by figure, and whether a difference is one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deidcli.evaluation.report.markup import render
from deidcli.evaluation.report.summary import interval, written
from deidcli.evaluation.results import Attack, Figure, Results, Run

BETTER, WORSE, OTHER, SAME, UNSURE = "better", "worse", "different", "equal", "within the intervals"
ONLY_A, ONLY_B, NO_INTERVAL = "only in A", "only in B", " (no interval)"
TITLE = "Two evaluations side by side"


@dataclass(frozen=True)
class Line:
    """A figure of both. mark: what became of it from A to B; one of the words above."""

    name: str
    a: Figure | None
    b: Figure | None

    @property
    def difference(self) -> float:
        """B less A; NaN where one was not measured."""
        return self.b.value - self.a.value if self.a and self.b else float("nan")

    @property
    def change(self) -> str:
        """The difference as text, empty where there is none."""
        figure = self.b or self.a
        if figure is None or math.isnan(self.difference):
            return ""
        text = written(abs(self.difference), figure.unit)
        return f"{'-' if self.difference < 0 else '+'}{text.replace(' %', ' points')}"

    @property
    def mark(self) -> str:
        a, b = (side if _measured(side) else None for side in (self.a, self.b))
        if a is None or b is None:
            return ONLY_A if a else ONLY_B if b else ""
        if self.difference == 0:
            return SAME
        known = _overlap(a, b)
        if known:
            return UNSURE
        return _direction(b.better, self.difference) + (NO_INTERVAL if known is None else "")


@dataclass(frozen=True)
class Block:
    """The figures of a run, or of the attacks on it, under one title."""

    title: str
    lines: tuple[Line, ...]


def compared(a: Results, b: Results) -> list[Block]:
    """The runs and attacks of both, in the order of `a`, then what only `b` has.

    Runs belong together by label, protocol, data, split and recogniser; where each side has but one, by being the only
    one.
    """
    alone = len(a.runs) == len(b.runs) == 1
    runs = [_keyed([(() if alone else _key(run), run) for run in side.runs]) for side in (a, b)]
    attacks = [_keyed([((attack.name, attack.label), attack) for attack in side.attacks]) for side in (a, b)]
    blocks = [_of_runs(runs[0].get(key), runs[1].get(key)) for key in {**runs[0], **runs[1]}]
    blocks += [_of_attacks(attacks[0].get(key), attacks[1].get(key)) for key in {**attacks[0], **attacks[1]}]
    return [block for block in blocks if block.lines]


def as_text(blocks: Sequence[Block], a: str, b: str) -> str:
    """A table for a terminal. a, b: what the two are called."""
    return "\n\n".join([f"A: {a}\nB: {b}", *("\n".join(_text(block)) for block in blocks), _sum(blocks)])


def as_page(blocks: Sequence[Block], a: str, b: str) -> str:
    """The same as a page of its own."""
    return render(
        "compare.html", title=TITLE, a=a, b=b, blocks=blocks, total=_sum(blocks), mark_looks=_mark_looks,
    )  # fmt: skip


def _of_runs(a: Run | None, b: Run | None) -> Block:
    sides = [side for side in (a, b) if side]
    run = sides[0]
    where = " ".join(word for word in (run.data, run.split) if word)
    label = run.label if a is None or b is None or a.label == b.label else f"{a.label} (A), {b.label} (B)"
    names = dict.fromkeys(figure.name for each in sides for figure in each.figures)
    lines = (Line(name, a.figure(name) if a else None, b.figure(name) if b else None) for name in names)
    title = f"{label}: {run.protocol} on {where}, seen by {run.judge.recogniser}"
    return Block(title, tuple(line for line in lines if line.mark))


def _of_attacks(a: Attack | None, b: Attack | None) -> Block:
    attack = next(side for side in (a, b) if side)
    verification = f"verification, {attack.verification.name}"
    lines = (Line("rank 1", a.rank1 if a else None, b.rank1 if b else None),
             Line(verification, a.verification if a else None, b.verification if b else None))  # fmt: skip
    broken = " and ".join(name for name, each in (("A", a), ("B", b)) if each and each.breaks)
    title = f"{attack.name} attack on {attack.label}{f': breaks {broken}' if broken else ''}"
    return Block(title, tuple(line for line in lines if line.mark))


def _key(run: Run) -> tuple:
    return run.label, run.protocol, run.data, run.split, run.judge.recogniser, run.judge.threshold


def _keyed(pairs: Sequence[tuple]) -> dict:
    """By key, and by how many had the same key before."""
    found: dict = {}
    for key, value in pairs:
        number = 0
        while (key, number) in found:
            number += 1
        found[key, number] = value
    return found


def _measured(figure: Figure | None) -> bool:
    return figure is not None and not math.isnan(figure.value)


def _overlap(a: Figure, b: Figure) -> bool | None:
    """Whether the intervals share a point; None where one has no interval."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None
    if any(map(math.isnan, (a.low, a.high, b.low, b.high))):
        return None
    return a.low <= b.high and b.low <= a.high


def _direction(better: str, difference: float) -> str:
    if better not in ("lower", "higher"):
        return OTHER
    return BETTER if (difference < 0) == (better == "lower") else WORSE


def _shown(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    within = interval(figure)
    return f"{written(figure.value, figure.unit)}{f' [{within}]' if within else ''}"


def _text(block: Block) -> Iterator[str]:
    rows = [("", "A", "B", "B - A", ""), *((n.name, _shown(n.a), _shown(n.b), n.change, n.mark) for n in block.lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    yield block.title
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _sum(blocks: Sequence[Block]) -> str:
    marks = [line.mark.removesuffix(NO_INTERVAL) for block in blocks for line in block.lines]
    words = (BETTER, WORSE, OTHER, UNSURE, SAME, ONLY_A, ONLY_B)
    found = [f"{marks.count(word)} {word}" for word in words if word in marks]
    return f"From A to B: {', '.join(found)}." if found else "Nothing is in both."


def _mark_looks(mark: str) -> tuple[str, str]:
    """The colour and the sign of a mark."""
    return {BETTER: ("good", "▲ "), WORSE: ("bad", "▼ ")}.get(mark.removesuffix(NO_INTERVAL), ("none", ""))
