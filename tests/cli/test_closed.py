"""Closed-set runs of the command: people are found, groups are made, the promise is checked, nothing is left over."""

import json
import tempfile

import numpy as np
import pytest
from PIL import Image

from tests.conftest import EXAMPLES, _cut, found, read, rows, save, tree

PIXEL = ("--method", "ksame-pixel", "--size", "64")
PEOPLE, TWICE = 7, (0, 5, 6)


@pytest.fixture(scope="session")
def everyone():
    """A portrait (224, 224, 3) of each of PEOPLE people."""
    pictures = [read(EXAMPLES / name) for name in ("group.jpg", "pair.png")]
    cut = [_cut(pixels, face.box) for pixels in pictures for face in found(pixels, upsample=0)]
    assert len(cut) == PEOPLE
    return cut


@pytest.fixture
def party(tmp_path, everyone):
    """A picture of each person, of some a second one, mirrored, and one of nobody."""
    for number, pixels in enumerate(everyone):
        save(pixels, tmp_path / "in" / "a" / f"{number}.png")
        if number in TWICE:
            save(pixels[:, ::-1], tmp_path / "in" / "b" / f"{number}.png")
    save(np.full((60, 60, 3), 90, np.uint8), tmp_path / "in" / "nobody.png")
    return tmp_path / "in"


def marks(out, mark):
    """The mark of the face in each picture that has one."""
    return {name: row["faces"][0].get(mark) for name, row in rows(out).items() if row["faces"]}


def test_people_share_surrogates(deid, party, tmp_path, monkeypatch):
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spare))
    done = deid("anonymize", *PIXEL, "--k", 3, party, tmp_path / "out")
    assert done.status == 0 and "3-anonymity holds: 7 people in 11 files share 2 surrogates" in done.err, done.err
    assert not list(spare.iterdir()), "something of the first pass was left"
    person, surrogate = marks(tmp_path / "out", "person"), marks(tmp_path / "out", "surrogate")
    assert len(set(person.values())) == PEOPLE and len(set(surrogate.values())) == 2
    for number in TWICE:
        assert person[f"a/{number}.png"] == person[f"b/{number}.png"], "one person, two pictures"
    before, after = tree(party), tree(tmp_path / "out")
    assert all(before[name] != after[name] for name in person)
    again = deid("evaluate", "kanonymity", tmp_path / "out" / "deid-manifest.jsonl", "--json")
    assert again.status == 0 and json.loads(again.out)["least"] == 3


def test_names_are_secret(deid, party, tmp_path):
    """Each run without a seed has names of its own. Pictures do not depend on it: a mean has nothing that is drawn."""
    for out, more in (("x", ()), ("y", ()), ("s", ("--seed", 4))):
        assert deid("anonymize", *PIXEL, "--k", 2, *more, party, tmp_path / out).status == 0
    first, second = (set(marks(tmp_path / out, "person").values()) for out in "xy")
    assert len(first) == len(second) == PEOPLE and not first & second
    assert tree(tmp_path / "s") == tree(tmp_path / "x") == tree(tmp_path / "y")


@pytest.mark.parametrize("more", [("--k", 8), ("--k", 7, "--pairing", "furthest")])
def test_too_few_people(deid, party, tmp_path, more):
    done = deid("anonymize", *PIXEL, *more, party, tmp_path / "out")
    assert done.status == 2 and "people" in done.err and "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_furthest_and_diverse(deid, party, tmp_path):
    base = ("anonymize", *PIXEL, "--k", 3, "--seed", 2, party)
    assert deid(*base, tmp_path / "near", "--pairing", "nearest").status == 0
    assert deid(*base, tmp_path / "far", "--pairing", "furthest").status == 0
    assert deid(*base, tmp_path / "auto").status == 0
    near, far = tree(tmp_path / "near"), tree(tmp_path / "far")
    assert tree(tmp_path / "auto") == far, "two groups: auto is furthest"
    assert all(near[name] != far[name] for name in marks(tmp_path / "near", "person"))
    done = deid(*base, tmp_path / "diverse", "--diverse")
    assert done.status == 0 and "people behind each group" in done.err
    person, surrogate = (marks(tmp_path / "diverse", mark) for mark in ("person", "surrogate"))
    assert len(set(surrogate.values())) == PEOPLE == len(set(zip(person.values(), surrogate.values(), strict=True)))
    assert set(marks(tmp_path / "diverse", "guarantee").values()) == {"diverse"}


def test_parts_are_one_run(deid, party, tmp_path):
    base = ("anonymize", *PIXEL, "--k", 3, "--seed", 6)
    assert deid(*base, party, tmp_path / "whole").status == 0
    for part in ("1/2", "2/2"):
        done = deid(*base, "--shard", part, party, tmp_path / "parts")
        assert done.status == 0 and "checked together" in done.err
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")
    manifests = sorted((tmp_path / "parts").glob("*.jsonl"))
    assert len(manifests) == 2
    together = deid("evaluate", "kanonymity", *manifests)
    assert together.status == 0 and b"7 people in 11 files" in together.out
    for option in (("--shard", "1/2"), ("--resume",)):
        refused = deid("anonymize", *PIXEL, "--k", 3, *option, party, tmp_path / "parts")
        assert refused.status == 2 and "--seed" in refused.err


def test_resumed(deid, party, everyone, tmp_path):
    base = ("anonymize", *PIXEL, "--k", 3, "--seed", 6, "--resume", party, tmp_path / "out")
    assert deid(*base).status == 0
    first = tree(tmp_path / "out")
    (tmp_path / "out" / "a" / "0.png").unlink()
    done = deid(*base)
    assert done.status == 0 and "10 of 11 files are done already" in done.err and "3-anonymity holds" in done.err
    assert tree(tmp_path / "out") == first
    save(everyone[0][::-1], party / "new.png")
    done = deid(*base)
    assert done.status == 0 and "0 of 12 files are done already" in done.err and "3-anonymity holds" in done.err


def test_a_damaged_file_fails_alone(deid, party, tmp_path):
    whole = (party / "a" / "0.png").read_bytes()
    (party / "a" / "0.png").write_bytes(whole[: len(whole) // 2])
    done = deid("anonymize", *PIXEL, "--k", 3, party, tmp_path / "out")
    assert done.status == 1 and "3-anonymity holds: 7 people in 10 files" in done.err


def test_who_is_covered_hides_nobody(deid, party, tmp_path):
    done = deid("anonymize", *PIXEL, "--k", 3, "--verify", "--distance", 5, party, tmp_path / "out")
    assert done.status == 0 and "no face is shown" in done.err
    assert set(marks(tmp_path / "out", "person").values()) == {None}


def test_standard_input_is_refused(deid, party, tmp_path):
    data = (party / "a" / "0.png").read_bytes()
    done = deid("anonymize", *PIXEL, "-", tmp_path / "out.png", stdin=data)
    assert done.status == 2 and "cannot be read twice" in done.err


def test_one_file_without_a_manifest(deid, everyone, tmp_path):
    save(np.vstack([np.hstack(everyone[:3]), np.hstack(everyone[3:6])]), tmp_path / "six.png")
    done = deid("anonymize", *PIXEL, "--k", 2, tmp_path / "six.png", tmp_path / "out.png")
    assert done.status == 0 and "2-anonymity holds: 6 people in 1 files" in done.err, done.err


def test_select(deid, party, tmp_path):
    """Groups have one value; who has a rare one is covered; a table that does not fit is refused."""
    table = tmp_path / "labels.csv"
    kinds = ["old", "old", "old", "young", "young", "young", "rare"]
    lines = [f"{folder}/{n}.png,{kind}" for n, kind in enumerate(kinds) for folder in "ab"[: 1 + (n in TWICE)]]
    table.write_text("\n".join(["image,kind", *lines]))
    base = ("anonymize", "--method", "ksame-select", "--size", "64", "--k", 2, party)
    done = deid(*base, tmp_path / "out", "--labels", table, "--select", "kind")
    assert done.status == 0 and "2-anonymity holds: 6 people" in done.err, done.err
    surrogate = marks(tmp_path / "out", "surrogate")
    assert surrogate["a/6.png"] is None and surrogate["b/6.png"] is None
    assert not {surrogate[f"a/{n}.png"] for n in range(3)} & {surrogate[f"a/{n}.png"] for n in range(3, 6)}
    for wrong in (("--select", "age"), ("--select", " "), ("--select", "kind", "--k", 4)):
        assert deid(*base, tmp_path / "no", "--labels", table, *wrong).status == 2
    read = deid(*base, tmp_path / "read")
    assert read.status == 0 and "2-anonymity holds" in read.err, read.err
    assert deid(*base, tmp_path / "no", "--select", "kind").status == 2, "no classifier reads that"
    table.write_text("image,kind\na/0.png,old\n")
    missing = deid(*base, tmp_path / "no", "--labels", table, "--select", "kind")
    assert missing.status == 2 and "has no row for a/1.png" in missing.err
    assert not (tmp_path / "no").exists()


def test_a_file_that_changes_between_the_passes(party, everyone, tmp_path):
    """Its faces are not where they were seen, so it is not written."""
    from deidcli.engine.jobs import list_jobs
    from deidcli.engine.local import anonymize
    from deidcli.engine.settings import Settings
    from deidcli.methods import find

    kind = find("ksame-pixel")
    jobs = list_jobs([str(party)], str(tmp_path / "out"))
    work = anonymize(jobs, kind(kind.Options(k=2, size=64)), Settings(verify=False))
    save(np.roll(everyone[0], 60, axis=1), party / "a" / "0.png")
    (party / "a" / "1.png").unlink()
    done = {row.input: row for row in work}
    assert "was changed while the run went on" in done["a/0.png"].error
    assert done["a/1.png"].status == "failed" and done["a/2.png"].status == "done"
    assert not (tmp_path / "out" / "a" / "0.png").exists()


def test_a_video_is_part_of_the_set(deid, everyone, tmp_path):
    """Three people for four frames and in portraits of their own: a track is one person, and the same as elsewhere."""
    crowd = np.hstack(everyone[4:7])
    frames = [Image.fromarray(np.roll(crowd, 2 * number, axis=1)) for number in range(4)]
    (tmp_path / "in").mkdir()
    frames[0].save(tmp_path / "in" / "film.gif", save_all=True, append_images=frames[1:], duration=100)
    for number in range(3):
        save(everyone[4 + number], tmp_path / "in" / f"{number}.png")
    done = deid("anonymize", *PIXEL, "--k", 3, tmp_path / "in", tmp_path / "out")
    assert done.status == 0 and "3-anonymity holds: 3 people in 4 files share 1 surrogates" in done.err, done.err
    tracks = rows(tmp_path / "out")["film.gif"]["tracks"]
    assert len(tracks) == 3 and all(track["replaced"] == 4 for track in tracks)
    alone = {rows(tmp_path / "out")[f"{number}.png"]["faces"][0]["person"] for number in range(3)}
    assert {track["person"] for track in tracks} == alone
