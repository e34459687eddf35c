"""`deid doctor --json`: the same checks for programs."""

import json

from deidcli.cli import doctor


def test_json(deid, monkeypatch):
    """What was found by its name, what is missing, and the same status as in text."""
    monkeypatch.setattr(doctor, "_backend", lambda: [])
    done = deid("doctor", "--json")
    said = json.loads(done.out)
    assert said["ok"] == (done.status == 0) and said["missing"] == ([] if said["ok"] else said["missing"])
    assert said["found"]["numpy"].count(".") == 2 and said["python"].startswith("3.")
    monkeypatch.setattr(doctor, "_codecs", lambda: ["a library: install it"])
    done = deid("doctor", "--json")
    assert done.status == 3 and json.loads(done.out)["missing"][-1] == "a library: install it"
