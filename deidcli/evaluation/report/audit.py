"""An audit as people read it: sections of sentences and tables, as a page, as a PDF, and signed.

The same sections make the page and the PDF, so that both say the same; the JSON beside them has everything.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from deidcli.engine.manifest import COPIED, DONE, FAILED, SALVAGED, SKIPPED
from deidcli.errors import DeidError, MissingDependency, UsageError, printable
from deidcli.evaluation.audit import REMARKS, WRONG
from deidcli.evaluation.report import render
from deidcli.evaluation.report.summary import interval, written
from deidcli.evaluation.results import Figure, from_json
from deidcli.evaluation.tables import TABLES

LISTED = 500  # exceptions of a kind on the page and on paper; the JSON has all


@dataclass(frozen=True)
class Section:
    """A part of the audit as people read it: sentences, then a table, whose columns are so wide on paper."""

    title: str
    text: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    widths: tuple[int, ...] = ()


def sections(said: Mapping[str, Any]) -> list[Section]:
    """The audit in the order in which it is read."""
    found = [_look(said)]
    for number, run in enumerate(said["runs"], 1):
        found += [_ran(run, number, len(said["runs"])), _worth(run)]
    keys = ("what", "file", "licence", "state", "sha256")
    weights = tuple(tuple(one[key] or "not known" for key in keys) for one in said["weights"])
    installed = ("As they are installed where this report was made. A run names the checksum of its own preset above.",)
    head = ("network", *keys[1:])
    found.append(Section("Weights and their licences", installed, head, weights, (22, 25, 17, 16, 60)))
    return [*found, *_exceptions(said["exceptions"]), _records(said)]


def _look(said: Mapping[str, Any]) -> Section:
    files, faces = said["files"], said["faces"]
    done = files.get(DONE, 0) + files.get(SALVAGED, 0)
    text = [
        f"{done} files were written, {files['without a face']} of them without a face in them; "
        f"{files.get(FAILED, 0)} failed, {files.get(SKIPPED, 0)} were skipped, {files.get(COPIED, 0)} copied as is.",
        f"{faces.get('replaced', 0)} faces were replaced, {faces.get('covered', 0)} covered and {faces.get('left', 0)} "
        f"left as they are, in {said['frames']} pictures or frames; a face of a video counts in each frame.",
    ]
    if said["wrong"]:
        text.append(f"{said['wrong']} things are wrong: see the exceptions.")
    else:
        text.append("Nothing is wrong: no file failed, every result is there, and each has the sha256 of its manifest.")
    if not said["inputs at hand"]:
        text.append("The originals were not at hand, so that inputs of which no manifest speaks could not be named.")
    sound = {"audio": "sound", "subtitle": "subtitles", "data": "data tracks"}
    text += [f"{count} videos keep their {sound.get(kind, kind)}." for kind, count in said["tracks"].items()]
    text.append("A face that the detector did not find is in no manifest; `deid verify` looks for such faces.")
    return Section("In one look", tuple(text))


def _ran(run: Mapping[str, Any], number: int, count: int) -> Section:
    made, search = run["made"], run["search"]
    said = {"method": run["method"], "files": run["files"], "from": run["begun"] or "not recorded",
            "to": run["ended"] or "not recorded", "deid": made.get("deid", "not recorded")}  # fmt: skip
    said |= {f"--{key.replace('_', '-')}": value for key, value in run["options"].items()}
    said |= {"weights": made["weights"]} if made.get("weights") else {}
    compared = "the method leaves no face to compare" if made.get("verify") else "nobody (--no-verify)"
    said |= {"compared with its original by": made.get("recogniser") or compared} if made else {}
    own = ("distance", "fallback", "persona", "on_no_face", "choice", "metadata", "streams")
    said |= {key: made[key] for key in own if made.get(key) not in (None, "")}
    said |= {f"search: {key}": value for key, value in search.items() if value is not None}
    said |= {"fingerprint of all settings": ", ".join(run["settings"])}
    title = "What ran" if count == 1 else f"What ran ({number} of {count})"
    text = ("Seeds and secrets are in no manifest, and not in this report.",)
    return Section(title, text, ("setting", "value"), tuple((k, str(v)) for k, v in said.items()), (50, 90))


def _worth(run: Mapping[str, Any]) -> Section:
    known, title = run["measured"], f"What was measured of {run['method']}"
    if known is None:
        return Section(title, (f"Nothing was measured of {run['method']} with these weights; see `deid evaluate`.",))
    titles = dict(TABLES["fdeid"].readme)
    same = {True: "the same", False: "OTHER", None: "unknown"}
    text = (
        f"{known['label']}, the method alone and without verification, on {known['data']}, {known['measured'][:10]}, "
        f"by deid {known['version']} ({known['commit'] or 'no commit'}).",
        f"Compared with this run: weights {same[known['same weights']]}, version {same[known['same version']]}, "
        f"options {same[known['same options']]}. Shares are of people whom nobody trained on; intervals are of 95 %.",
    )
    rows, order = [], {name: place for place, name in enumerate(titles)}
    for one in sorted(known["figures"], key=lambda one: order.get(one["name"], len(order))):
        figure = from_json(Figure, one)
        name = titles.get(figure.name, figure.name).partition(": ")[2] or titles.get(figure.name, figure.name)
        better = {"lower": "lower is better", "higher": "higher is better"}.get(figure.better, "")
        rows.append((name, written(figure.value, figure.unit), interval(figure), better, figure.meaning))
    head = ("figure", "value", "interval", "", "what it counts")
    return Section(title, text, head, tuple(rows), (30, 18, 26, 21, 55))


def _exceptions(exceptions: Sequence[Mapping[str, Any]]) -> Iterator[Section]:
    """All kinds of exceptions in a table, then the files of each."""
    kinds = {**WRONG, **REMARKS}
    own = {kind: [entry for entry in exceptions if entry["kind"] == kind] for kind in kinds}
    rows = tuple((kind, str(len(each)), str(sum(entry["count"] for entry in each)), kinds[kind],
                  "wrong" if kind in WRONG else "") for kind, each in own.items() if each)  # fmt: skip
    text = () if rows else ("There are none.",)
    head = ("what", "files", "how many", "what it means", "")
    yield Section("Exceptions", text, head if rows else (), rows, (25, 14, 16, 75, 14))
    for kind, each in own.items():
        if each:
            more = (f"{len(each) - LISTED} more are in the JSON file.",) if len(each) > LISTED else ()
            named = tuple((entry["file"], str(entry["count"]), entry["why"]) for entry in each[:LISTED])
            yield Section(f"Exceptions: {kind}", more, ("file", "how many", "why"), named, (55, 14, 75))


def _records(said: Mapping[str, Any]) -> Section:
    by = said["by"]
    rows = [("folder", said["folder"]), ("this report", said["made"])]
    rows += [(f"{each['file']}, {each['lines']} lines", f"sha256 {each['sha256']}") for each in said["manifests"]]
    rows += [("made by", f"deid {by['deid']} {by['commit']}".strip())]
    rows += [("on", f"Python {by['python']}, {by['platform']}"), *by["packages"].items()]
    text = ("The JSON file beside this report holds all of it for a program, and the sha256 of the page and the PDF. "
            "A signature, where there is one, is that of the JSON file.",)  # fmt: skip
    return Section("Records", text, ("what", "value"), tuple(rows), (50, 90))


# --- files


def write_audit(said: Mapping[str, Any], page: Path) -> list[Path]:
    """Write PAGE, and beside it the PDF and the JSON, which holds the sha256 of both. Raises UsageError.

    Raises MissingDependency where the libraries for pages are not installed; nothing is written then.
    """
    title = f"Audit of {Path(said['folder']).name}"
    parts = sections(said)
    made = {page: _page(title, said, parts).encode(), page.with_suffix(".pdf"): _paper(title, said, parts)}
    beside = {place.name: hashlib.sha256(data).hexdigest() for place, data in made.items()}
    text = json.dumps({**said, "beside": beside}, indent=1, ensure_ascii=False)
    made[page.with_suffix(".json")] = f"{text}\n".encode("utf-8", "backslashreplace")
    try:
        for place, data in made.items():
            place.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{page} cannot be written: {error.strerror}", "name another file with --page") from error
    return list(made)


def _page(title: str, said: Mapping[str, Any], parts: Sequence[Section]) -> str:
    return render("audit.html", title=title, said=said, sections=parts)


def _paper(title: str, said: Mapping[str, Any], parts: Sequence[Section]) -> bytes:
    """The PDF, by fpdf2. matplotlib's font has the letters of most scripts; others show as boxes."""
    try:
        from fpdf import FPDF
        from matplotlib import get_data_path
    except ImportError as error:
        raise MissingDependency(f"a PDF needs {error.name}", "run `pip install deidcli[eval]`") from error

    class Paper(FPDF):
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font("DejaVu", "", 7)
            self.cell(0, 5, f"{_plain(title)}, page {self.page_no()} of {{nb}}", align="R")

    pdf = Paper(format="A4")
    pdf.set_creation_date(datetime.fromisoformat(said["made"].replace("Z", "+00:00")))
    pdf.set_title(title)
    pdf.set_margin(18)
    pdf.set_auto_page_break(True, 18)
    for style, file in (("", "DejaVuSans.ttf"), ("B", "DejaVuSans-Bold.ttf")):
        pdf.add_font("DejaVu", style, Path(get_data_path()) / "fonts" / "ttf" / file)
    pdf.add_page()

    def lines(text: str, size: float, style: str = "", room: float = 1.5) -> None:
        pdf.set_font("DejaVu", style, size)
        pdf.multi_cell(0, size * 0.5, _plain(text), new_x="LMARGIN", new_y="NEXT", align="L")
        pdf.ln(room)

    lines(title, 18, "B", 0)
    lines(f"deid {said['by']['deid']}, {said['made']}", 8)
    for part in parts:
        if pdf.will_page_break(30):
            pdf.add_page()
        pdf.start_section(part.title)
        pdf.ln(3)
        lines(part.title, 12, "B")
        for text in part.text:
            lines(text, 9)
        if not part.rows:
            continue
        pdf.set_font("DejaVu", "", 7)
        pdf.set_draw_color(190)
        with pdf.table(
            col_widths=part.widths,
            line_height=3.6,
            padding=(0.8, 1),
            borders_layout="HORIZONTAL_LINES",
            text_align="LEFT",
        ) as table:
            for cells in (part.head, *part.rows):
                row = table.row()
                for cell in cells:
                    row.cell(_plain(cell))
    return bytes(pdf.output())


def _plain(text: str) -> str:
    """Text as paper can hold it: names may hold what is no UTF-8, and control characters."""
    return printable(text.encode("utf-8", "replace").decode())


# --- signature

SIGNERS = ("minisign", "gpg")


def signer(wanted: str) -> str:
    """Which program signs: the one that is named, for "auto" the first of SIGNERS that is there. Raises UsageError."""
    names = SIGNERS if wanted == "auto" else (wanted,)
    found = next((name for name in names if shutil.which(name)), None)
    if found is None:
        raise UsageError(f"--sign: {' and '.join(names)} {'are' if len(names) > 1 else 'is'} not installed",
                         "install minisign or GnuPG, or leave out --sign")  # fmt: skip
    return found


def sign(path: Path, program: str, key: str = "") -> Path:
    """Sign a file with a detached signature beside it. key: GPG's name of a key, or minisign's secret key file.

    The program speaks for itself, and may ask for a password. Raises DeidError where it did not sign.
    """
    if program == "gpg":
        place = path.with_name(path.name + ".asc")
        command = ["gpg", "--yes", "--armor", *(["--local-user", key] if key else []), "--output", str(place)]
        command += ["--detach-sign", str(path)]
    else:
        place = path.with_name(path.name + ".minisig")
        command = ["minisign", "-S", "-m", str(path), "-x", str(place), *(["-s", key] if key else [])]
    place.unlink(missing_ok=True)
    status = subprocess.run(command).returncode
    if status or not place.exists():
        said = f"{path} is not signed: {program} ended with status {status}"
        raise DeidError(said, "the report itself is written; --key names the key")
    return place
