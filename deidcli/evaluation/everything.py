"""Everything: every subject under one plan and all attacks, saved as it goes, so that a killed run can be resumed."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deidcli.errors import DeidError, UsageError, one_line
from deidcli.evaluation.attacks import AttackOptions, AttackSet, find, run_attacks
from deidcli.evaluation.bench import VERSION, Bench, Subject, now, weights_of
from deidcli.evaluation.originals import likeliest
from deidcli.evaluation.plan import Plan, evaluate_subject, make_run
from deidcli.evaluation.results import REPORT, Results, Run
from deidcli.evaluation.tables import Table


@dataclass(frozen=True)
class Evaluation:
    """What is to be done. attacks: their names. worst: where the worst outputs of a label are written."""

    plan: Plan
    crowd: AttackSet | None
    attacks: tuple[str, ...]
    how: AttackOptions
    out: Path
    worst: Callable[[str], Path]


@dataclass(frozen=True)
class Step:
    """What was just done for a subject. run: None where it failed, for `error`."""

    subject: Subject
    run: Run | None
    error: str = ""


def evaluate_all(bench: Bench, subjects: Sequence[Subject], order: Evaluation, resume: bool) -> Iterator[Step]:
    """Measure and attack every subject, and save report.json after each; one that fails does not stop the others.

    resume: leave out what the report has already. Raises UsageError for a report that was made under other settings.
    """
    crowd = order.crowd and asdict(order.crowd)
    settings = fingerprint(bench, order.plan, how=asdict(order.how), crowd=crowd, attacks=order.attacks)
    results = resume_results(order.out, settings, resume)
    attackers = [find(name) for name in order.attacks]
    for subject in subjects:
        done = next((run for run in results.runs if _same(run, subject)), None)
        try:
            if done is None:
                results = _without(results, subject.label)
                run, _ = evaluate_subject(bench, subject, order.plan, order.worst(subject.label))
                outcomes = tuple(run_attacks(bench, subject, order.crowd, attackers, order.how)) if order.crowd else ()
                results = replace(results, runs=(*results.runs, run), attacks=results.attacks + outcomes, made=now())
                results.save(order.out)
                done = run
            yield Step(subject, done)
        except DeidError as error:
            yield Step(subject, None, one_line(error))


def evaluate_table(
    bench: Bench, table: Table, subjects: Sequence[Subject], plan: Plan, out: Path | None, resume: bool,
    worst: Callable[[str], Path | None],
) -> Iterator[Run]:  # fmt: skip
    """The rows of a paper's table, saved in `out` after each. resume: as for `evaluate_all`. Raises UsageError."""
    results = resume_results(out, fingerprint(bench, plan), resume) if out else Results()
    reference = next((subject for subject in subjects if subject.label == table.reference), None)
    for subject in subjects:
        run = next((known for known in results.runs if _same(known, subject)), None)
        if run is None and table.sets:
            run = table.of_sets(bench, subject, plan)
        elif run is None:
            if reference and plan.reference is None:
                plan = replace(plan, reference=bench.observe(reference, plan.replaced))
            own = plan.reference if subject is reference else None
            outputs = own or bench.observe(subject, plan.replaced)
            assert table.tell is not None
            run = make_run(bench, subject, plan, outputs, table.tell(bench, outputs, plan), worst(subject.label))
        if run not in results.runs:
            results = _without(results, subject.label)
            results = replace(results, runs=(*results.runs, run), made=now())
            if out:
                results.save(out)
        yield run


def resume_results(out: Path, settings: str, resume: bool) -> Results:
    """The results to go on with. Raises UsageError for a report of other settings."""
    if not resume or not (out / REPORT).is_file():
        return Results(settings=settings)
    results = Results.load(out)
    if results.settings != settings:
        raise UsageError(f"{out / REPORT} was made under other settings", "use --overwrite, or another --out")
    return results


def fingerprint(bench: Bench, plan: Plan, **more: Any) -> str:
    """Sixteen hexadecimal digits that are equal for two evaluations of the same pictures in the same way.

    The methods and the commit are not in it: every run names its own, and goes on counting while its weights are the
    same.
    """
    study = bench.study
    settings: dict[str, Any] = {**asdict(study), "cache": "", "folder": str(study.folder.resolve())}
    settings |= {"plan": asdict(plan), **more}
    settings |= {"deid": VERSION, "labels": [reader.name for reader in bench.instruments.labellers]}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def write_labels(bench: Bench, path: Path, label: str = "gender") -> Path | None:
    """A table of the labels that classifiers give to every original; None where none of them knows `label`."""
    reader = next((each for each in bench.instruments.labellers if each.classes.get(label)), None)
    if reader is None:
        return None
    settings = likeliest(reader.classes[label], bench.labelled.labels[label])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", label), *zip(bench.labelled.names, settings, strict=True)])
    return path


def _same(run: Run, subject: Subject) -> bool:
    options = asdict(subject.method.options) if subject.method else {}
    return (run.label, run.options, run.checksum) == (subject.label, options, weights_of(subject.method)[1])


def _without(results: Results, label: str) -> Results:
    """Without what is known of a label: its weights are others now."""
    runs = tuple(run for run in results.runs if run.label != label)
    return replace(results, runs=runs, attacks=tuple(a for a in results.attacks if a.label != label))
