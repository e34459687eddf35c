"""The README's table of results, written from report.json between two marks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deidcli.errors import UsageError
from deidcli.evaluation.results import Attack, Figure, Results, Run

BEGIN, END = "<!-- results -->", "<!-- /results -->"
COLUMNS = (
    ("match rate", "two pictures of one person"),
    ("self match rate", "a picture and its very original"),
    ("rank-1", "right first guess"),
    ("faces found", "new faces found"),
    ("SSIM", "whole picture alike (SSIM)"),
    ("expression kept", "expression kept"),
    ("gender kept", "gender kept"),
    ("age difference", "age, years off"),
)


def update(readme: Path, results: Results) -> bool:
    """Write the table into `readme`; whether the file changed. Raises UsageError where the marks are missing."""
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
    """The results as Markdown: what was measured on, a row for each run, and the attacks that break a method."""
    if not results.runs:
        raise UsageError("the report holds no runs", "make one with `deid evaluate all`")
    columns = [(name, title) for name, title in COLUMNS if any(run.figure(name) for run in results.runs)]
    return "\n".join([_measured_on(results.runs[0]), "", *_table(results, columns), "", *_notes(results)]).rstrip()


def _measured_on(run: Run) -> str:
    judge, name = run.judge, run.figure("match rate")
    pairs = f", {name.count} pairs of one person" if name else ""
    code = run.version + (f", commit `{run.commit}`" if run.commit else "")
    return (
        f"{run.data} {run.split}{pairs}; recogniser {judge.recogniser} at {judge.threshold:g}, which on the originals "
        f"matches {judge.true_accepts:.4f} of one person's pairs and {judge.false_accepts:.4f} of strangers'; seed "
        f"{'secret' if run.seed is None else run.seed}; 95 % intervals by person; deid {code}."
    )


def _table(results: Results, columns: list[tuple[str, str]]) -> Iterator[str]:
    yield "| method | " + " | ".join([*(title for _, title in columns), "broken by"]) + " |"
    yield "|---" * (len(columns) + 2) + "|"
    for run in results.runs:
        cells = [_cell(run.figure(name)) for name, _ in columns]
        yield f"| `{run.label}` | " + " | ".join([*cells, _broken(results.attacks, run.label)]) + " |"


def _broken(attacks: tuple[Attack, ...], label: str) -> str:
    own = [attack for attack in attacks if attack.label == label]
    if not own:
        return "not attacked"
    return ", ".join(attack.name for attack in own if attack.breaks) or "none"


def _notes(results: Results) -> Iterator[str]:
    broken = [a for a in results.attacks if a.breaks and a.method != "original"]
    for attack in broken:
        yield (
            f"- `{attack.label}`, {attack.name}: right first guess {_cell(attack.rank1)} (chance {attack.chance:.3f}), "
            f"{attack.verification.name} {_cell(attack.verification)}. {attack.note}"
        )


def _cell(figure: Figure | None) -> str:
    if figure is None or figure.value != figure.value:
        return "-"
    if figure.low is None or figure.high is None or figure.low != figure.low:
        return f"{figure.value:.4g}"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
