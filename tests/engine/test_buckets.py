"""Buckets: what comes out is what a folder would hold, whole or not at all, on a server of S3 here and in memory."""

import json
import os
import time

import pytest

from deidcli.engine.buckets import Url, place_of
from deidcli.errors import UsageError
from tests.conftest import tree
from tests.engine.test_archives import members, tarred

pytest.importorskip("upath", reason="needs the extra `remote`")
QUICK = ("--method", "pixelate", "--no-verify", "--seed", "3")


@pytest.fixture(scope="module")
def server():
    """A server of S3 on this machine, and where it listens."""
    pytest.importorskip("s3fs", reason="needs s3fs")
    moto = pytest.importorskip("moto.server", reason="needs moto")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["s3", "memory"])
def bucket(request, monkeypatch):
    """An empty bucket as (its URL, its file system)."""
    import fsspec

    if request.param == "s3":
        where = request.getfixturevalue("server")
        for name, value in (("AWS_ACCESS_KEY_ID", "me"), ("AWS_SECRET_ACCESS_KEY", "secret"),
                            ("AWS_ENDPOINT_URL", where), ("AWS_DEFAULT_REGION", "us-east-1")):  # fmt: skip
            monkeypatch.setenv(name, value)
    fs = fsspec.filesystem(request.param, **({"use_listings_cache": False} if request.param == "s3" else {}))
    name = f"test-{time.time_ns()}"
    fs.mkdir(name)
    return f"{request.param}://{name}", fs


def put(bucket, files, below="in"):
    url, fs = bucket
    for name, data in files.items():
        fs.pipe_file(f"{url}/{below}/{name}", data)
    return f"{url}/{below}"


def got(bucket, below="out"):
    """Every object below, manifests left out, by name."""
    url, fs = bucket
    top = fs._strip_protocol(f"{url}/{below}")
    files = {name[len(top) + 1 :]: fs.cat_file(name) for name in fs.find(top)}
    return {name: data for name, data in files.items() if not name.startswith("deid-manifest")}


def lines(bucket):
    url, fs = bucket
    return [json.loads(line) for line in fs.cat_file(f"{url}/out/deid-manifest.jsonl").splitlines()]


@pytest.fixture
def plain(deid, folder, tmp_path):
    assert deid("anonymize", *QUICK, folder, tmp_path / "plain").status == 0
    return tree(tmp_path / "plain")


def test_a_bucket_gets_what_a_folder_would(deid, bucket, folder, plain, tmp_path):
    source = put(bucket, {**tree(folder), "notes.txt": b"words", "sub/x.bin": b"?"})
    done = deid("anonymize", *QUICK, source, f"{bucket[0]}/out")
    assert done.status == 0, done.err
    assert got(bucket) == plain, "and no lock, no temporary name, no piece of the manifest"
    assert "3 of 3 files written" in done.err and "left out: 1 sidecar (.txt), 1 unknown (.bin)" in done.err
    said = lines(bucket)
    assert [row["input"] for row in said] == ["none.png", "one.png", "sub/three.jpg"]
    assert said[1]["output"] == f"{bucket[0]}/out/one.png"
    # To and from folders of this machine.
    assert deid("anonymize", *QUICK, source, tmp_path / "out").status == 0 and tree(tmp_path / "out") == plain
    assert deid("anonymize", *QUICK, "--overwrite", folder, f"{bucket[0]}/out").status == 0 and got(bucket) == plain


def test_going_on_in_a_bucket(deid, bucket, folder, plain):
    source, out = put(bucket, tree(folder)), f"{bucket[0]}/out"
    assert deid("anonymize", *QUICK, source, out).status == 0
    done = deid("anonymize", *QUICK, source, out)
    assert done.status == 3 and "exists" in done.err
    assert "3 of 3 files are done already" in deid("anonymize", *QUICK, "--resume", source, out).err
    bucket[1].pipe_file(f"{out}/one.png", b"changed")
    done = deid("anonymize", *QUICK, "--resume", source, out)
    assert "2 of 3 files are done already" in done.err and got(bucket) == plain


def test_lines_of_a_killed_run_count(deid, bucket, folder, plain, monkeypatch):
    """Its manifest is there in pieces only, and a lock that shows no life is no lock."""
    source, out = put(bucket, tree(folder)), f"{bucket[0]}/out"
    with monkeypatch.context() as patch:
        patch.setattr("deidcli.engine.bucket_output.SAVE", -1)
        patch.setattr("deidcli.engine.bucket_output.BucketManifest.close", lambda self: None)
        assert deid("anonymize", *QUICK, source, out).status == 0
    url, fs = bucket
    assert sum(".piece-" in name for name in fs.find(f"{url}/out")) == 3
    lock = {"pid": 1, "host": "elsewhere", "seen": 1.0, "since": "then"}
    fs.pipe_file(f"{out}/.deid-lock", json.dumps(lock).encode())
    done = deid("anonymize", *QUICK, "--resume", source, out)
    assert done.status == 0 and "3 of 3 files are done already" in done.err, done.err
    assert "did not end properly" in done.err and got(bucket) == plain
    assert len(lines(bucket)) == 3


def test_one_run_at_a_time(deid, bucket, folder):
    source, out = put(bucket, tree(folder)), f"{bucket[0]}/out"
    lock = {"pid": os.getpid(), "host": os.uname().nodename, "seen": 1.0, "since": "then"}
    bucket[1].pipe_file(f"{out}/.deid-lock", json.dumps(lock).encode())
    done = deid("anonymize", *QUICK, source, out)
    assert done.status == 3 and "another run writes into" in done.err
    assert list(got(bucket)) == [".deid-lock"]
    bucket[1].rm_file(f"{out}/.deid-lock")
    for part in ("1/2", "2/2"):
        assert deid("anonymize", *QUICK, "--shard", part, source, out).status == 0
    assert sorted(got(bucket)) == ["none.png", "one.png", "sub/three.jpg"]


def test_large_files_go_in_parts(deid, bucket, tmp_path, folder, monkeypatch):
    monkeypatch.setattr("deidcli.engine.bucket_output.IN_MEMORY", 1000)
    monkeypatch.setattr("deidcli.engine.buckets.IN_MEMORY", 1000)
    monkeypatch.setattr("deidcli.engine.stored.IN_MEMORY", 1000)
    source, out = put(bucket, tree(folder)), f"{bucket[0]}/out"
    assert deid("anonymize", *QUICK, folder, tmp_path / "plain").status == 0
    assert deid("anonymize", *QUICK, source, out).status == 0
    assert got(bucket) == tree(tmp_path / "plain")


def test_an_upload_that_breaks_leaves_nothing(deid, bucket, folder, monkeypatch):
    source, out = put(bucket, tree(folder)), f"{bucket[0]}/out"
    whole = deid("anonymize", *QUICK, source, out)
    assert whole.status == 0
    monkeypatch.setattr("deidcli.engine.bucket_output.IN_MEMORY", 1000)
    monkeypatch.setattr("deidcli.engine.bucket_output.BLOCK", 1000)
    before = got(bucket)
    writes = type(bucket[1].open(f"{bucket[0]}/x", "wb", autocommit=False)).write
    monkeypatch.setattr(type(bucket[1].open(f"{bucket[0]}/x", "wb", autocommit=False)), "write", _breaks(writes))
    done = deid("anonymize", "--method", "blur", *QUICK[2:], "--overwrite", source, out)
    assert done.status == 3 and "the line is dead" in done.err
    assert got(bucket) == before


def _breaks(write):
    def broken(self, data):
        if "/out/" in str(getattr(self, "path", "")) and not bytes(data).startswith(b'{"input"'):
            raise ConnectionError("the line is dead")
        return write(self, data)

    return broken


def test_shards_in_a_bucket(deid, bucket, folder, plain, tmp_path):
    shard = tarred(tmp_path / "a.tar", {**tree(folder), "one.json": b"{}"})
    source = put(bucket, {"a.tar": shard.read_bytes()})
    assert deid("anonymize", *QUICK, source, f"{bucket[0]}/out").status == 0
    (tmp_path / "made.tar").write_bytes(got(bucket)["a.tar"])
    assert members(tmp_path / "made.tar") == {**plain, "one.json": b"{}"}
    assert "3 of 3 files are done already" in deid("anonymize", *QUICK, "--resume", source, f"{bucket[0]}/out").err


def test_closed_sets_are_counted_in_buckets(deid, bucket, folder):
    source = put(bucket, tree(folder))
    done = deid("anonymize", "--method", "ksame-pixel", "--k", "2", "--seed", "1", source, f"{bucket[0]}/out")
    assert done.status == 0, done.err


def test_what_cannot_be_done_is_one_line(deid, bucket, folder):
    source = put(bucket, tree(folder))
    cases = [
        ((f"{bucket[0]}/nothing", f"{bucket[0]}/out"), "there is no such file"),
        ((source, source), "written over"),
        ((source, "https://127.0.0.1/out"), "can only be read"),
        (("nonsense://a/b", f"{bucket[0]}/out"), "nonsense"),
        (("sftp://me:word@host/in", f"{bucket[0]}/out"), "password"),
        ((source, f"{bucket[0]}/out", "--quarantine", "aside"), "do not go with"),
        ((folder, folder.parent / "out", "--quarantine", f"{bucket[0]}/aside"), "do not go with"),
        ((f"file://{folder}", f"{bucket[0]}/out"), "give its path"),
        ((folder, f"{bucket[0]}/out", "--remove-source"), "do not go with"),
    ]
    for arguments, said in cases:
        done = deid("anonymize", *QUICK, *arguments)
        assert done.status == 2 and said in done.err and "word@" not in done.err, done.err
        assert len(done.err.splitlines()) == 1
    assert got(bucket) == {}


def test_a_page_of_the_web_is_read(deid, tmp_path, folder, plain):
    """By a server that hands out a folder of this machine."""
    import functools
    import http.server
    import threading

    pytest.importorskip("aiohttp", reason="needs aiohttp")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/one.png"
        done = deid("anonymize", *QUICK, url, tmp_path / "out")
        assert deid("anonymize", *QUICK, f"{url}x", tmp_path / "none").status == 2
        server.shutdown()
    assert done.status == 0, done.err
    assert tree(tmp_path / "out") == {"one.png": plain["one.png"]}


def test_urls_are_extended_like_paths():
    url = place_of("s3://bucket/a")
    assert str(url / "b" / "c.jpg") == "s3://bucket/a/b/c.jpg" and os.fspath(url.parent) == "s3://bucket"
    assert isinstance(url.with_name("x"), Url) and str(url.with_name("x")) == "s3://bucket/x"
    for text in ("s3://me:secret@bucket/a", "zip://a::s3://bucket/b.zip"):
        with pytest.raises(UsageError):
            place_of(text)
