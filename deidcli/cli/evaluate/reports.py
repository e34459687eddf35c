"""`evaluate quick` and `kanonymity` of a finished run; `table`, `report`, `compare` and `readme` of results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deidcli.cli import evaluate, results
from deidcli.cli import options as opt
from deidcli.engine.settings import RECOGNISER
from deidcli.engine.survey import MANIFEST
from deidcli.errors import UsageError
from deidcli.networks.backend import use_device

if TYPE_CHECKING:
    from deidcli.evaluation.bench import Bench, Subject
    from deidcli.evaluation.results import Run


@click.command("report", cls=opt.Command)
@click.argument("results", metavar="REPORT_JSON")
@click.argument("output", metavar="OUT_DIR")
@opt.stacked(
    click.option("--faces/--no-faces", default=True, show_default=True,
                 help="Show the new faces that are closest to their originals, both as pictures."),
    opt.config,
)  # fmt: skip
def report_command(results: str, output: str, **options: Any) -> int:
    """Write a page, its plots and a table from REPORT_JSON (a report.json, or the folder it is in) into OUT_DIR.

    The page needs no network and no scripts, and begins with a summary in plain words. With pictures of faces it is as
    sensitive as the originals are: leave them out with --no-faces before it is passed on.

    \b
    deid evaluate report results/report.json report/
    """
    from deidcli.evaluation.report import write_report
    from deidcli.evaluation.results import Results

    page = write_report(Results.load(Path(results)), Path(output), options["faces"])
    click.echo(str(page))
    return 0


@click.command("compare", cls=opt.Command)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@opt.stacked(
    click.option("--html", metavar="FILE", help="Write a page, too."),
    opt.config,
)  # fmt: skip
def compare_command(first: str, second: str, **options: Any) -> int:
    """Set two evaluations side by side: A and B are report.json files, or the folders they are in.

    Every figure with its difference. "better" and "worse" are said where the intervals do not overlap; where a figure
    has no interval, that is said with them.

    \b
    deid evaluate compare before/report.json after/report.json --html compare.html
    """
    from deidcli.evaluation.report.tables import as_page, as_text, compared
    from deidcli.evaluation.results import Results

    blocks = compared(Results.load(Path(first)), Results.load(Path(second)))
    if options["html"]:
        _write_page(Path(options["html"]), as_page(blocks, first, second))
    click.echo(as_text(blocks, first, second))
    return 0


def _write_page(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {path}: {error.strerror}", "give a path like compare.html") from error


@click.command("readme", cls=opt.Command)
@click.argument("report", metavar="REPORT")
@click.argument("readme", metavar="FILE")
def readme_command(report: str, readme: str) -> int:
    """Write the figures of REPORT (a report.json) as a table into FILE, between two lines that mark the place.

    A FILE that ends in .json gets the figures alone, as `deid report` tells them. In a text the lines are
    <!-- results --> and <!-- /results -->; what stands between them is replaced.

    \b
    deid evaluate readme report/report.json docs/results.md
    """
    from deidcli.evaluation.report.tables import update
    from deidcli.evaluation.results import Results

    changed = update(Path(readme), Results.load(Path(report)))
    click.echo(f"{readme}: {'written' if changed else 'as it was'}", err=True)
    return 0


TABLES = (
    "cleanir-2", "ksame-net-3", "ksame-net-11", *(f"autoencoder-{n}" for n in (1, 3, 4, 5, 6, 7, 8)), "fatm-lfw",
    "epdnet-1", "epdnet-gallery", "fdeid",
)  # fmt: skip


@click.command("table", cls=opt.Command)
@click.argument("name", type=click.Choice(TABLES))
@click.argument("folder", metavar="FOLDER")
@opt.stacked(
    click.option("--methods", help="Other methods than the table's own, as for `evaluate pairs`."),
    click.option("--split", metavar="FILE", help="CSV with columns person, split; only the people of `val` are taken."),
    click.option("--labels", metavar="FILE", help="CSV with columns image, expression: for ksame-net-11."),
    click.option("--photographs", is_flag=True,
                 help="Measure whole photographs, after blending, where the table is of the crops that networks make."),
    click.option("--sheet", metavar="FILE",
                 help="Draw ten of the crops that networks see, as a PNG: a row for each of --methods, as in the "
                      "figures of the paper. It shows real faces."),
    click.option("--resume", is_flag=True, help="Go on with the report in --out; other weights are done again."),
    evaluate.measured,
)  # fmt: skip
def table_command(name: str, folder: str, **options: Any) -> int:
    """Measure a paper's table on FOLDER, which has one sub-folder a person.

    Methods of the table that are not in this tool are left out, and said on standard error. What the paper reports is
    printed behind what is measured, as far as it does; its data and its recogniser were others.

    \b
    deid evaluate table cleanir-2 lfw/images --split lfw/people.csv
    """
    from deidcli.evaluation.bench import pictures_of
    from deidcli.evaluation.crops import on_crops
    from deidcli.evaluation.everything import evaluate_table
    from deidcli.evaluation.tables import table
    from deidcli.faces.attributes import load_labels
    from deidcli.training.data import split_of

    chosen = table(name)
    cropped = chosen.crops and not options["photographs"]
    if options["sheet"] and not cropped:
        raise UsageError("--sheet draws the crops of a table that is measured on them", "leave out --sheet")
    page = results.sheet_path(options["sheet"], Path(folder))
    if chosen.label and not options["labels"]:
        raise UsageError(f"{name} needs --labels", f"give a CSV with the columns image and {chosen.label}")
    if chosen.recogniser and options["recogniser"] is None:
        options["recogniser"] = chosen.recogniser
    labels = (load_labels(Path(options["labels"])).get(chosen.label, {}),) if chosen.label else ()
    pictures = pictures_of(Path(folder))
    if options["split"]:
        people = split_of(Path(options["split"]), "val")
        pictures = {who: names for who, names in pictures.items() if who in people}
    texts = options["methods"].split(",") if options["methods"] else chosen.methods
    wanted, missing = evaluate.existing(texts, options["seed"])
    data, split = Path(folder).parent.name or folder, "val" * bool(options["split"])
    labels_shown = not chosen.crops or "ATTR" in chosen.columns
    bench = evaluate.make_bench(Path(folder), data, options, split, labels_shown, chosen.verifiers)
    plan = chosen.plan(pictures, bench.study.draw, options["limit"], *labels)
    bench.read(plan.names)
    if cropped:
        bench, plan = on_crops(bench, plan, chosen.crops)
    runs: list[Run] = []
    if not options["as_json"]:
        click.echo(chosen.title)
    for text, reason in missing.items():
        click.echo(f"left out: {text}: {reason}", err=True)
    if not wanted:
        raise UsageError(f"none of {', '.join(texts)} can be measured", "name others with --methods")
    out = Path(options["out"]) if options["out"] else None
    keep = partial(evaluate.kept, options)
    for run in evaluate_table(bench, chosen, wanted, plan, out, options["resume"], keep):
        columns = chosen.columns or [figure.name for figure in run.figures]
        runs += evaluate.print_runs([run], columns, options["as_json"], head=not runs)
        paper = chosen.paper.get(run.label)
        if paper and not options["as_json"]:
            click.echo(f"{'  the paper':28}" + "".join(f"{paper.get(column, ''):>27}" for column in columns))
    if page:
        _draw(bench, wanted, page)
    if chosen.sets and out:
        from deidcli.evaluation.closed_sets import draw

        draw(runs, bench, wanted, plan, out)
    return 1 if bench.originals.failed else 0


def _draw(bench: Bench, subjects: Sequence[Subject], page: Path) -> None:
    from PIL import Image

    from deidcli.evaluation.crops import CropBench, sheet
    from deidcli.evaluation.report.sheets import save

    assert isinstance(bench, CropBench)
    save(Image.fromarray(sheet(bench, subjects)), page)


@click.command("kanonymity", cls=opt.Command)
@click.argument("manifests", metavar="MANIFEST...", nargs=-1, required=True)
@opt.stacked(
    click.option("--k", type=click.IntRange(2), help="What is to hold; default: what the run promised."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines."),
    opt.config,
)  # fmt: skip
def kanonymity_command(manifests: tuple[str, ...], k: int | None, as_json: bool) -> int:
    """Check that every surrogate is shown for at least k people and no person has two; exit status 1 if not.

    It also looks for every output that is listed, and compares its sha256. Give the manifests of all parts of a run
    with --shard together.

    \b
    deid evaluate kanonymity out/deid-manifest.jsonl
    deid evaluate kanonymity out/deid-manifest-*-of-4.jsonl
    """
    from deidcli.evaluation.kanonymity import check

    verdict = check([Path(path) for path in manifests], k)
    if as_json:
        click.echo(json.dumps(asdict(verdict)))
    else:
        for problem in verdict.problems:
            click.echo(f"deid: {problem}", err=True)
        click.echo(verdict.line())
    return 0 if verdict.holds else 1


ALLOWED = ("missing",)  # results that were moved away; what is there is judged


@click.command("quick", cls=opt.Command)
@click.argument("output", metavar="OUT_DIR")
@opt.stacked(
    click.option("--input", "inputs", metavar="IN_DIR",
                 help="The originals; without them no face is compared and only the results are searched."),
    click.option("--manifest", metavar="FILE", help=f"Where it lies; default: every manifest in OUT_DIR ({MANIFEST})."),
    click.option("--limit", type=click.IntRange(0), default=0, show_default=True,
                 help="Look at so many files again at most; 0: no limit."),
    click.option("--seconds", type=opt.Real(0), default=60, show_default=True,
                 help="Stop looking after so long; 0: look at all."),
    results.look,
    results.sheet,
    opt.recogniser(RECOGNISER),
    click.option("--distance", type=opt.Real(0), help="Threshold of the recogniser; default: its own."),
    opt.detection,
    click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text."),
    opt.device,
    opt.config,
    opt.progress,
)  # fmt: skip
def quick_command(output: str, **options: Any) -> int:
    """Say how safe OUT_DIR is that `deid anonymize` has written, and which files to look at first.

    Reads the manifest, looks for a minute at the files again, the likeliest trouble first: are new faces still taken
    for their originals, are there faces that the run did not know, is every file what was written. It says, too, what
    it cannot know. `deid verify` looks at everything, and needs no manifest. Exit status: 0 nothing looks wrong;
    1 something does.

    \b
    deid evaluate quick out/ --input in/
    deid evaluate quick out/ --input in/ --seconds 0 --detector all --sheet look.png
    """
    from deidcli.evaluation.verify.formats import as_json, as_text
    from deidcli.evaluation.verify.measure import FRAMES, READ
    from deidcli.evaluation.verify.records import load

    use_device(options["device"])
    sheet = results.sheet_path(options["sheet"], Path(output))
    place = options["inputs"] and Path(options["inputs"]), options["manifest"] and Path(options["manifest"])
    judges = results.judges(options["recogniser"] or RECOGNISER, options["distance"])
    detectors = [opt.detect_options(options).detector]
    options |= {"frames": FRAMES}
    verdict = results.looked(load(Path(output), *place), detectors, judges, ALLOWED, options, reach=READ, both=False)
    if sheet:
        results.draw(verdict, sheet)
    click.echo(as_json(verdict) if options["as_json"] else as_text(verdict))
    return results.WRONG if verdict.wrong else results.FINE
