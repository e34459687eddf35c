"""Formats: a verdict for programs, as JSON and as the XML of JUnit that servers of continuous integration read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from xml.etree import ElementTree

from deidcli.evaluation.verify.findings import WRONG, Finding
from deidcli.evaluation.verify.verdict import Verdict


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
