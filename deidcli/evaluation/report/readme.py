"""The table of results in a text, written from report.json between two marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from deidcli.errors import UsageError
from deidcli.evaluation.metrics import SHUFFLES
from deidcli.evaluation.report.summary import UNTOUCHED
from deidcli.evaluation.results import Attack, Results, Run
from deidcli.evaluation.tables import TABLES

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
