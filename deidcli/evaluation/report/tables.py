"""Results as tables: two sets side by side, figure by figure; and the table in a text, written between two marks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deidcli.errors import UsageError
from deidcli.evaluation.metrics import SHUFFLES
from deidcli.evaluation.report import render
from deidcli.evaluation.report.summary import UNTOUCHED, interval, written
from deidcli.evaluation.results import Attack, Figure, Results, Run
from deidcli.evaluation.tables import TABLES

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


DIGITS = 3
BEGIN, END = "<!-- results -->", "<!-- /results -->"
COLUMNS = (
    ("match rate", "two pictures of one person"),
    ("self match rate", "a picture and its very original"),
    ("stranger match rate", "two strangers"),
    ("faces found", "new faces found"),
    ("expression kept", "expression kept"),
    ("ATTR", "gender and race kept (ATTR)"),
)


def update(readme: Path, results: Results) -> bool:
    """Write the table into `readme`; whether the file changed. Raises UsageError where the marks are missing.

    A file of JSON gets the figures of the table, as `deid report` tells them, and those by chance.
    """
    if readme.suffix == ".json":
        there = readme.read_bytes() if readme.exists() else b""
        names = {"match rate", *(name for name, _ in _columns(results))}
        chance = {figure.name for run in results.runs for figure in run.figures if " by chance" in figure.name}
        results.figures_alone(names | chance).save(readme)
        return readme.read_bytes() != there
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"{readme} cannot be read: {error}", "name a text file") from error
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UsageError(f"{readme} has no place for results", f"put the lines {BEGIN} and {END} there")
    before, rest = text.split(BEGIN)
    new = f"{before}{BEGIN}\n{markdown(results)}\n{END}{rest.split(END)[1]}"
    if new != text:
        readme.write_text(new, encoding="utf-8")
    return new != text


def markdown(results: Results) -> str:
    """The results as Markdown: a row for each run with the strongest attack, and what was measured on."""
    return "\n".join([*_table(results, _columns(results)), "", *_measured_on(results)])


def _columns(results: Results) -> list[tuple[str, str]]:
    """The figures of the columns, and their titles."""
    if not results.runs:
        raise UsageError("the report holds no runs", "make one with `deid evaluate all`")
    table = TABLES.get(results.runs[0].protocol.removeprefix("table:"))
    wanted = table.readme if table and table.readme else COLUMNS
    return [(name, title) for name, title in wanted if any(run.figure(name) for run in results.runs)]


def _table(results: Results, columns: list[tuple[str, str]]) -> Iterator[str]:
    attacked = ["strongest attack, rank-1"] if results.attacks else []
    yield "| method | " + " | ".join([*(title for _, title in columns), *attacked]) + " |"
    yield "|---" * (len(columns) + 1 + len(attacked)) + "|"
    for run in results.runs:
        cells = [_cell(run, name) for name, _ in columns]
        cells += [_strongest(results.attacks, run.label)] if attacked else []
        yield f"| `{run.label}` | " + " | ".join(cells) + " |"


def _strongest(attacks: Iterable[Attack], label: str) -> str:
    """What anybody gets who has the tool; bold where that breaks the method."""
    own = [attack for attack in attacks if attack.label == label and not attack.condition]
    if not own:
        return "not attacked"
    best = max(own, key=lambda attack: (attack.breaks, attack.rank1.value))
    said = f"{best.name} {best.rank1.text(DIGITS)}"
    return f"**{said}**" if best.breaks else said


def _measured_on(results: Results) -> Iterator[str]:
    run = results.runs[0]
    judge, pairs = run.judge, run.figure("match rate")
    count = f"{pairs.count} pairs of one person; " if pairs else ""
    yield (
        f"{run.data} {run.split}, {count}recogniser {judge.recogniser} at {judge.threshold:g}; seed "
        f"{'secret' if run.seed is None else run.seed}; 95 % intervals by person; deid {_code(results.runs)}."
    )
    chance = [figure for figure in run.figures if " by chance" in figure.name]
    if chance:
        said = "; ".join(f"{figure.name} {figure.text(DIGITS)}" for figure in chance)
        yield f"By chance (names shuffled {SHUFFLES} times, and where 95 % of that lies): {said}."
    naive = [attack for attack in results.attacks if attack.method == UNTOUCHED and attack.name == "naive"]
    if results.attacks:
        among = naive[0] if naive else results.attacks[0]
        yield (
            f"Attacks: {among.rank1.count} people, chance {among.chance:.3f}. The one that names most of them of those "
            "that need no secret of the run and look at the face; bold where it breaks the method: the interval of its "
            "rank-1, or of true accepts at a low false-accept rate, lies more than ten points above guessing."
        )


def _code(runs: Iterable[Run]) -> str:
    """The versions and commits that measured, each once."""
    said = (run.version + (f" (`{run.commit}`)" if run.commit else "") for run in runs)
    return ", ".join(dict.fromkeys(said))


def _cell(run: Run, name: str) -> str:
    figure = run.figure(name)
    return figure.text(DIGITS) if figure else "-"
