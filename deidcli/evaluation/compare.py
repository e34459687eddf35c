"""Compare: two sets of results side by side, figure by figure, and whether a difference is one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deidcli.evaluation.pages.markup import Child, Html, e, page, table
from deidcli.evaluation.pages.names import interval, written
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
    def mark(self) -> str:
        if not _measured(self.a) or not _measured(self.b):
            return ONLY_A if _measured(self.a) else ONLY_B if _measured(self.b) else ""
        if self.difference == 0:
            return SAME
        known = _overlap(self.a, self.b)
        if known:
            return UNSURE
        return _direction(self.b.better, self.difference) + (NO_INTERVAL if known is None else "")


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
    head = e(
        "header", e("h1", TITLE), e("p", e("strong", "A "), a, e("br"), e("strong", "B "), b), e("p", _sum(blocks))
    )
    note = "A difference is called one where the two intervals of 95 % do not overlap."
    return page(TITLE, head, (_section(block) for block in blocks), e("footer", e("p", note, class_="note")))


def _of_runs(a: Run | None, b: Run | None) -> Block:
    run = a or b
    where = " ".join(word for word in (run.data, run.split) if word)
    label = run.label if a is None or b is None or a.label == b.label else f"{a.label} (A), {b.label} (B)"
    names = dict.fromkeys(figure.name for each in (a, b) if each for figure in each.figures)
    lines = (Line(name, a.figure(name) if a else None, b.figure(name) if b else None) for name in names)
    title = f"{label}: {run.protocol} on {where}, seen by {run.judge.recogniser}"
    return Block(title, tuple(line for line in lines if line.mark))


def _of_attacks(a: Attack | None, b: Attack | None) -> Block:
    attack = a or b
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


def _change(line: Line) -> str:
    if math.isnan(line.difference):
        return ""
    text = written(abs(line.difference), line.name)
    return f"{'-' if line.difference < 0 else '+'}{text.replace(' %', ' points')}"


def _shown(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    within = interval(figure)
    return f"{written(figure.value, figure.name)}{f' [{within}]' if within else ''}"


def _text(block: Block) -> Iterator[str]:
    rows = [("", "A", "B", "B - A", ""), *((n.name, _shown(n.a), _shown(n.b), _change(n), n.mark) for n in block.lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    yield block.title
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _sum(blocks: Sequence[Block]) -> str:
    marks = [line.mark.removesuffix(NO_INTERVAL) for block in blocks for line in block.lines]
    words = (BETTER, WORSE, OTHER, UNSURE, SAME, ONLY_A, ONLY_B)
    found = [f"{marks.count(word)} {word}" for word in words if word in marks]
    return f"From A to B: {', '.join(found)}." if found else "Nothing is in both."


def _section(block: Block) -> Html:
    rows: list[list[Child]] = [
        [line.name, _cell(line.a), _cell(line.b), _change(line), _mark(line.mark)] for line in block.lines
    ]
    return e(
        "section", e("h3", block.title), table(["Figure", "A", "B", "B less A", "Mark"], rows, block.title, hidden=True)
    )


def _cell(figure: Figure | None) -> Child:
    return "–" if figure is None else [written(figure.value, figure.name), e("small", interval(figure))]


def _mark(word: str) -> Html:
    plain = word.removesuffix(NO_INTERVAL)
    colour, sign = {BETTER: ("good", "▲ "), WORSE: ("bad", "▼ ")}.get(plain, ("none", ""))
    return e("span", e("span", sign, aria_hidden="true") if sign else None, word, class_=f"tag {colour}")
