"""The `evaluate` command: which file holds which of its own, none loaded before it is called; and what they share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deidcli.cli import Files
from deidcli.cli import options as opt
from deidcli.cli.progress import shown
from deidcli.engine.settings import RECOGNISER
from deidcli.errors import DeidError, UsageError, one_line
from deidcli.networks.backend import use_device

if TYPE_CHECKING:
    from deidcli.evaluation.bench import Bench, Subject
    from deidcli.evaluation.results import Attack, Run


FILES = {
    **dict.fromkeys(("pair", "pairs", "folder", "looks", "downstream", "detection", "people"), "pictures"),
    **dict.fromkeys(("attacks", "all", "video"), "attacks"),
    **dict.fromkeys(("quick", "kanonymity", "table", "report", "compare", "readme"), "reports"),
}


@click.group("evaluate", cls=Files, package=__name__, files=dict(sorted(FILES.items())))
def command() -> None:
    """Measure how well faces are protected, and what is kept of the picture."""


DEFAULT = "original,cleanir:angle=0,cleanir:angle=90,cleanir:angle=120,cleanir:angle=180,blur"
EACH = "each"
SELECTED = "gender"  # what groups have in common, of a method that asks for it
DIGITS = 4  # of a figure in a table on the terminal

recogniser = opt.stacked(
    opt.recogniser(f"{RECOGNISER}, while --verify verifies as a run does"),
    click.option("--distance", type=opt.Real(0), help="Threshold of the recogniser; default: its own."),
)

output = opt.stacked(
    click.option("--out", metavar="DIR", help="Write report.json there, and the worst outputs beside it."),
    click.option("--json", "as_json", is_flag=True, help="A JSON line a method instead of a table."),
)

cache = click.option(
    "--cache", metavar="DIR",
    help="Where the faces of originals are kept over runs, as numbers; none for nowhere. [default: the user's cache]",
)  # fmt: skip

setting = opt.stacked(cache, output, opt.seed, opt.detection, opt.device, opt.config, opt.progress)

measured = opt.stacked(
    recogniser,
    click.option("--limit", type=click.IntRange(1), help="Only so many pairs of each kind, or pictures."),
    click.option("--verify/--no-verify", default=False, show_default=True,
                 help="Measure the whole escalation of `deid anonymize` (stronger settings, then a cover) "
                      "and not the method alone."),
    setting,
)  # fmt: skip


def methods(default: str) -> opt.Decorator:
    """The option that says what is measured."""
    text = f"What to measure: original, NAME or NAME:OPTION=VALUE, or {EACH} (every method and preset), with commas."
    return click.option("--methods", default=default, show_default=True, help=text)


def make_bench(
    folder: Path, data: str, options: dict[str, Any], split: str = "", labels: bool = True, verifiers: str = ""
) -> Bench:
    """The bench that the options ask for. labels: whether classifiers read labels. verifiers: a preset of epdnet whose
    verifiers read them instead. Raises UsageError.
    """
    from deidcli.evaluation.bench import Bench, Study
    from deidcli.evaluation.originals import installed, verifiers_of
    from deidcli.faces.recognisers import default

    use_device(options["device"])
    place = cache_folder(options)
    named = options["recogniser"] or ("" if options["distance"] is None else RECOGNISER)
    study = Study(
        folder, data, split, opt.detect_options(options), named or RECOGNISER, options["distance"], options["seed"],
        bool(options.get("verify")), named or default(), options.get("persona", "track"), place,
    )  # fmt: skip
    readers = verifiers_of(verifiers) if verifiers else installed() if labels else ()
    return Bench(study, progress(options), readers)


def cache_folder(options: dict[str, Any]) -> Path | None:
    """Where the faces of originals are kept, None for nowhere."""
    from deidcli.evaluation.originals import default_folder

    named = options["cache"]
    return None if named == "none" else Path(named) if named else default_folder()


def progress(options: dict[str, Any]) -> Callable[[Iterable, int, str], Iterator]:
    """Progress as the options want it shown."""
    style = "none" if options["quiet"] else options["progress"]
    return lambda items, total, unit: shown(items, total, style, unit)


def subjects(text: str, seed: int | None) -> list[Subject]:
    """What --methods names. Raises UsageError."""
    return [subject(word, seed) for word in split(text)]


def split(text: str) -> list[str]:
    """The words of --methods, each once, with every method and preset in the place of `each`."""
    return list(dict.fromkeys(word for part in text.split(",") for word in (every() if part == EACH else [part])))


def subject(text: str, seed: int | None, labels: Path | None = None) -> Subject:
    """A method as it is named on the command line, like cleanir:angle=90. Raises UsageError, or PresetError.

    labels: the table for a method that wants one and was given none.
    """
    from deidcli.evaluation.bench import ORIGINAL, Subject

    if text == ORIGINAL:
        return Subject(ORIGINAL)
    return Subject(text, again(text, seed, labels))


def again(text: str, seed: int | None, labels: Path | None = None) -> Any:
    """A new instance of a method with a secret of its own, or with that of `seed`."""
    name, *settings = text.split(":")
    flags: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--methods {text}: not understood", "write NAME:OPTION=VALUE")
        flags[key.replace("-", "_")] = opt.parsed(key.replace("-", "_"), value)
    if labels and "select" in flags:
        flags.setdefault("labels", str(labels))
    from deidcli.methods import make

    return make(name, flags, seed)


def every() -> list[str]:
    """Every method, each with every preset of its own where it has presets, and a choice of groups where it asks."""
    from dataclasses import fields

    from deidcli.methods import available
    from deidcli.presets import presets

    known: dict[str, list[str]] = {}
    for preset in presets():
        known.setdefault(preset.method, []).append(preset.name)
    found: list[str] = []
    for name, kind in available().items():
        own = {item.name: item.default for item in fields(kind.Options)}
        names = known.get(name, []) if "preset" in own else [""]
        found += [f"{name}:preset={each}" if each != own.get("preset", "") else name for each in names]
        found[-1:] = [f"{name}:select={SELECTED}"] if "select" in own else found[-1:]
    return found


def existing(
    texts: Sequence[str], seed: int | None, labels: Path | None = None
) -> tuple[list[Subject], dict[str, str]]:
    """The subjects that can be made, and why the others cannot. labels: as for `subject`."""
    found, missing = [], {}
    for text in texts:
        try:
            found.append(subject(text, seed, labels))
        except DeidError as error:
            missing[text] = one_line(error)
    return found, missing


def finish(runs: Sequence[Run], options: dict[str, Any], attacks: Sequence[Attack] = ()) -> None:
    """Write report.json where --out names a folder."""
    if options["out"]:
        from deidcli.evaluation.bench import now
        from deidcli.evaluation.results import Results

        Results(tuple(runs), tuple(attacks), now()).save(Path(options["out"]))


def kept(options: dict[str, Any], label: str) -> Path | None:
    """Where the worst outputs of a method are written."""
    return Path(options["out"]) / "worst" / safe(label) if options["out"] else None


def safe(label: str) -> str:
    """A label as the name of a folder."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in label)


def print_runs(runs: Iterable[Run], columns: Sequence[str], as_json: bool, head: bool = True) -> list[Run]:
    """Print a line for each run while it is measured; returns all of them."""
    from deidcli.evaluation.results import to_json

    seen: list[Run] = []
    for run in runs:
        if as_json:
            click.echo(json.dumps(to_json(run), allow_nan=False))
        else:
            _line(run, columns, head=head and not seen)
        seen.append(run)
    return seen


def _line(run: Run, columns: Sequence[str], head: bool) -> None:
    wide = [max(27, len(name) + 2) for name in columns]
    if head:
        judge, data = run.judge, f"{run.data} {run.split}".strip()
        compared = (
            f", recogniser {judge.recogniser} at {judge.threshold:g}: of the originals' pairs it "
            f"matches {judge.true_accepts:.4f} of one person's and {judge.false_accepts:.4f} of strangers'"
        )
        click.echo(data + ("" if math.isnan(judge.true_accepts) else compared))  # nobody is compared in some of them
        click.echo(f"{'method':28}" + "".join(f"{name:>{w}}" for name, w in zip(columns, wide, strict=True)))
    click.echo(f"{run.label:28}" + "".join(f"{_cell(run, name):>{w}}" for name, w in zip(columns, wide, strict=True)))


def _cell(run: Run, name: str) -> str:
    figure = run.figure(name)
    return figure.text(DIGITS) if figure else "-"
