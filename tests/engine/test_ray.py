"""A cluster of Ray on this machine: the same bytes as in one process, and nothing lost or twice when a node dies."""

import json
import threading
import time

import numpy as np
import pytest

from deidcli.engine.jobs import Job
from deidcli.engine.parts import TRIES, Part, Parts, remaining
from tests.conftest import EXAMPLES, rows, save, tree
from tests.engine.test_archives import members, tarred

QUICK = ("--method", "pixelate", "--no-verify", "--seed", "3")
FILES = 24


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes with a processor each, on this machine."""
    pytest.importorskip("ray", reason="needs the extra `ray`")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def on_ray(deid, nodes, monkeypatch):
    """`deid anonymize --runner ray` on the cluster."""
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    return lambda *arguments: deid("anonymize", "--runner", "ray", *arguments)


@pytest.fixture
def many(tmp_path, crowd):
    for number in range(FILES):
        save(np.roll(crowd, 9 * number, axis=0), tmp_path / "in" / f"folder {number % 3}" / f"{number:02}.png")
    return tmp_path / "in"


def listed(folder):
    return [json.loads(line)["input"] for line in (folder / "deid-manifest.jsonl").open()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_nodes_write_what_one_process_does(deid, on_ray, many, tmp_path, folder):
    (many / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0junk")
    tarred(
        many / "shard.tar", {"none.png": (folder / "none.png").read_bytes(), "one.json": b"{}", "none.txt": b"words"}
    )
    here = deid("anonymize", *QUICK, many, tmp_path / "here")
    there = on_ray(*QUICK, many, tmp_path / "there")
    assert here.status == there.status == 1, there.err
    assert here.err.splitlines()[-1].replace("/here/", "/there/") == there.err.splitlines()[-1]
    assert tree(tmp_path / "here") == tree(tmp_path / "there")
    assert list(members(tmp_path / "there" / "shard.tar")) == ["none.png", "none.txt"]
    one, two = rows(tmp_path / "here"), rows(tmp_path / "there")
    for row in (*one.values(), *two.values()):
        row["output"], row["seconds"], row["stamp"] = None, 0, None
        row["made"].pop("at")
    assert one == two and len(listed(tmp_path / "there")) == FILES + 1 + 1 + 3
    done = on_ray(*QUICK, "--resume", many, tmp_path / "there")
    assert f"{FILES + 4} of {FILES + 5} files are done already" in done.err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_closed_set_is_counted_by_all(deid, on_ray, many, tmp_path):
    options, many = ("--method", "ksame-pixel", "--k", "2", "--seed", "1"), many / "folder 0"
    here, there = deid("anonymize", *options, many, tmp_path / "here"), on_ray(*options, many, tmp_path / "there")
    assert here.status == there.status == 0, there.err
    assert tree(tmp_path / "here") == tree(tmp_path / "there")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_that_dies_loses_nothing(deid, on_ray, nodes, many, tmp_path):
    """It is gone while it works; the others do what it had begun, and every file is there, and listed, once."""
    assert deid("anonymize", *QUICK, many, tmp_path / "here").status == 0
    extra, out = nodes.add_node(num_cpus=1), tmp_path / "there"
    died = []

    def kill():
        end = time.monotonic() + 120
        while time.monotonic() < end and len(list(out.rglob("*.png"))) < 4:
            time.sleep(0.01)
        nodes.remove_node(extra, allow_graceful=False)
        died.append(len(list(out.rglob("*.png"))))

    killer = threading.Thread(target=kill)
    killer.start()
    done = on_ray("--workers", "3", *QUICK, many, out)
    killer.join()
    assert died and 4 <= died[0] < FILES, "it died in the middle"
    assert done.status == 0, done.err
    assert tree(tmp_path / "here") == {k: v for k, v in tree(out).items() if not k.endswith(".deid-part")}
    assert sorted(listed(out)) == sorted(set(listed(out))) and len(listed(out)) == FILES


def test_what_one_process_alone_can_do(on_ray, folder, tmp_path):
    for arguments in (("--persona", "identity", folder, tmp_path / "out"), (folder / "one.png", "-")):
        done = on_ray(*QUICK, *arguments)
        assert done.status == 2 and "leave out --runner ray" in done.err


def test_commands_of_the_examples_are_understood():
    """The command of each file of examples/ray has options that there are."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    from deidcli.cli.anonymize import command

    for name in ("job.yaml", "cluster.yaml"):
        text = (EXAMPLES.parent / "ray" / name).read_text()
        assert yaml.safe_load(text)
        [line] = [line for line in text.splitlines() if "deid anonymize" in line]
        words = line.partition("deid anonymize ")[2].split()
        parsed = command.make_context("anonymize", words).params
        assert parsed["runner"] == "ray" and parsed["output"] == "s3://bucket/out"


def jobs(count):
    return [Job(None, None, f"{number}") for number in range(count)]


def test_parts_hold_every_job_once():
    for count in (0, 1, 7, 1000):
        parts, made = Parts(jobs(count), count, 2), []
        while (part := parts.next()) is not None:
            made.append(part)
        assert [job.name for part in made for job in part.jobs] == [f"{number}" for number in range(count)]
        assert count < 1000 or len(made[0].jobs) == 64 > len(made[-1].jobs)


def test_what_kills_every_process_is_given_up():
    whole = Part(0, tuple(jobs(3)))
    parts = Parts((), 0, 1)
    again = remaining(whole, {"1"})
    assert [part.jobs[0].name for part in again] == ["0", "2"] and all(part.again for part in again)
    for _ in range(TRIES - 1):
        again = [each for part in again for each in remaining(part, set())]
    parts.again(again)
    assert [row.status for _, row in parts.given_up()] == ["failed", "failed"] and parts.next() is None
