"""A verdict as text for people who want to know whether they may give a folder away, as JSON, and as the XML of JUnit
that servers of continuous integration read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from xml.etree import ElementTree

from deidcli.evaluation.verify import WRONG, Finding, Verdict

# What each kind of finding means for the whole folder: of one, and of {n}.
_WRONG = {
    "recognised": ("one face is still taken for the person in the original",
                   "{n} faces are still taken for the people in the originals"),
    "untouched": ("one face is as it was: the run did not find it",
                  "{n} faces are as they were: the run did not find them"),
    "place": ("one file says where it was taken", "{n} times a file says where it was taken"),
    "thumbnail": ("one file holds another copy of its picture", "{n} further pictures lie in files"),
    "metadata": ("one entry of metadata tells of people or devices",
                 "{n} entries of metadata tell of people or devices"),
    "track": ("one track of a video is neither picture nor sound",
              "{n} tracks of videos are neither picture nor sound"),
    "hidden": ("one file holds bytes that no viewer shows", "{n} files hold bytes that no viewer shows"),
    "stray": ("one picture in the folder has no known input", "{n} pictures in the folder have no known input"),
    "unlisted": ("one input is in no manifest: nothing was done to it",
                 "{n} inputs are in no manifest: nothing was done to them"),
    "altered": ("one file is no longer what the run wrote", "{n} files are no longer what the run wrote"),
    "unreadable": ("one file cannot be read again", "{n} files cannot be read again"),
    "failed": ("one file failed and was not written", "{n} files failed and were not written"),
    "suspect": ("one place looks like a face that the run did not know",
                "{n} places look like faces that the run did not know"),
    "unlooked": ("one file in the folder is of a kind that nobody can look into",
                 "{n} files in the folder are of a kind that nobody can look into"),
}  # fmt: skip


def as_text(verdict: Verdict) -> str:
    """The verdict in lines of text."""
    parts = [_head(verdict), _measured(verdict), _settings(verdict), _looks(verdict), _unknown(verdict)]
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part)))


def _head(v: Verdict) -> Iterator[str]:
    yield f"{'NOT SAFE YET' if v.wrong else 'Nothing looks wrong'}. {_summary(v)}"
    if not v.looked:
        yield "- Not one written file could be looked at again, so nothing is known of them"
    for kind, (one, many) in _WRONG.items():
        if count := v.counts.get(kind):
            yield f"- {one if count == 1 else many.format(n=count)}"
    if v.missing:
        yield f"- {v.missing} of {v.files if not v.listed else v.written} results are not " + (
            "where they were written; of these nothing is known" if v.listed else "there"
        )


def _summary(v: Verdict) -> str:
    if not v.listed:
        return f"{v.written} files are there of {v.files}; there is no manifest."
    files = f"{v.written} of {v.files} files were written"
    files += f", {v.skipped} skipped" if v.skipped else ""
    left = f", {v.counts['left']} left as they were" if v.counts.get("left") else ""
    return f"{files}; {v.replaced} faces replaced, {v.covered} covered{left}."


def _measured(v: Verdict) -> Iterator[str]:
    yield f"Looked at again: {v.looked} of {v.written} written files" + ("" if v.complete else ", the likeliest first.")
    if not v.compared:
        yield "The originals were not at hand, so no face was compared: give --input."
        return
    yield f"{v.measured} faces were compared with their originals by {v.recogniser} (one person up to {v.threshold:g})."
    recognised = v.counts.get("recognised", 0)
    if v.measured:
        yield f"{recognised or 'None'} of them {'is' if recognised < 2 else 'are'} still recognised." + _bound(v)
    if v.median is not None:
        yield f"Replaced faces: the closest is {v.closest:.2f} from its original, half are beyond {v.median:.2f}."
    if v.linkable:
        yield (
            f"{v.linked} of {v.linkable} new faces lie nearer to their own original than to any other original here "
            "(blind guessing: 1)."
        )


def _bound(v: Verdict) -> str:
    if v.complete or v.counts.get("recognised"):
        return ""
    return f" If these files are like the others, at most {v.most:.1%} of all faces are (95 % certain)."


def _settings(v: Verdict) -> Iterator[str]:
    for text, count in v.settings.items():
        yield f"Made with {text}: {count} files."
    if v.unverified:
        yield f"{v.unverified} replaced faces were not compared by the run itself (--no-verify, or no landmarks)."
    if len(v.settings) > 1:
        yield "Files of one folder were made with different settings: check that this was meant."


def _looks(v: Verdict) -> Iterator[str]:
    if v.look:
        yield f"Look at these {len(v.look)} first:" if len(v.look) > 1 else "Look at this one first:"
    for number, look in enumerate(v.look, 1):
        worst, *rest = look.findings
        more = f" (and {len(rest)} more)" if rest else ""
        yield f"{number:3}. {_shown(look.name)}: {worst.text}{more}"


def _unknown(v: Verdict) -> Iterator[str]:
    yield "What this look cannot tell:"
    if not v.complete:
        yield f"- anything about the {v.written - v.looked} written files that it did not look at (--seconds 0 for all)"
    yield f"- faces that neither the run nor {v.detector} finds: look yourself, or try another --detector"
    yield f"- whether another recogniser than {v.recogniser}, or a friend, knows somebody: try another --recogniser"
    yield "- who is known by clothes, place, text, voice, file names, or the people beside them"
    yield "- whether somebody can undo the method: `deid evaluate attacks` tries"


def _shown(name: str) -> str:
    """A name without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)


def as_json(verdict: Verdict) -> str:
    """One object: the fields of `Verdict`, and whether anything is wrong."""
    return json.dumps(asdict(verdict) | {"wrong": verdict.wrong}, default=str)


def as_junit(verdict: Verdict, names: Iterable[str]) -> str:
    """A test suite with a case for each of `names` and each file with a finding; what is wrong with one fails it."""
    found = {look.name: look.findings for look in verdict.look}
    cases = list(dict.fromkeys([*names, *found]))
    failed = [name for name in cases if any(_is_wrong(each, verdict) for each in found.get(name, ()))]
    suite = ElementTree.Element("testsuite", name="deid verify", errors="0", skipped="0")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(len(failed)))
    for name in cases:
        case = ElementTree.SubElement(suite, "testcase", classname="deid.verify", name=_clean(name))
        findings = found.get(name, ())
        wrong = [each for each in findings if _is_wrong(each, verdict)]
        if wrong:
            failure = ElementTree.SubElement(case, "failure", type=wrong[0].kind, message=_clean(wrong[0].text))
            failure.text = "\n".join(_clean(f"{each.kind}: {each.text}") for each in wrong)
        others = [each for each in findings if each not in wrong]
        if others:
            ElementTree.SubElement(case, "system-out").text = "\n".join(_clean(each.text) for each in others)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def _is_wrong(finding: Finding, verdict: Verdict) -> bool:
    return finding.kind in WRONG and finding.kind not in verdict.allowed


def _clean(text: str) -> str:
    """Without what XML cannot hold."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
