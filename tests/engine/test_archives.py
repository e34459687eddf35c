"""Archives and shards: members in their order with the very bytes that files would have, whole or not at all."""

import io
import json
import os
import pickle
import tarfile
import zipfile

import pytest

from deidcli.engine import archives
from deidcli.engine.archives import open_archive
from deidcli.engine.jobs import list_files
from deidcli.errors import MediaError
from tests.conftest import rows, tree

QUICK = ("--method", "pixelate", "--no-verify", "--seed", "3")
BROKEN = b"\xff\xd8\xff\xe0junk"


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name, (2020, 1, 2, 3, 4, 6)), data, zipfile.ZIP_DEFLATED)
    return path


def tarred(path, members):
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(data), 1_500_000_000, "somebody"
            file.addfile(info, io.BytesIO(data))
    return path


def parquet(path, pictures, **columns):
    pa = pytest.importorskip("pyarrow", reason="needs PyArrow")
    import pyarrow.parquet as pq

    table = pa.table({"id": list(range(len(pictures))), "image": pa.array(pictures), **columns})
    pq.write_table(table.replace_schema_metadata({"huggingface": "{}"}), path, row_group_size=2, compression="zstd")
    return path


def members(path):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as file:
            return {name: file.read(name) for name in file.namelist()}
    with tarfile.open(path) as file:
        return {info.name: file.extractfile(info).read() for info in file}


@pytest.fixture
def pictures(folder):
    """The files of `folder`: one.png, sub/three.jpg, none.png."""
    return tree(folder)


@pytest.fixture
def plain(deid, folder, tmp_path):
    """The outputs of `folder` when its files are no members."""
    assert deid("anonymize", *QUICK, folder, tmp_path / "plain").status == 0
    return tree(tmp_path / "plain")


def test_zip_holds_what_a_folder_would(deid, tmp_path, pictures, plain):
    source = zipped(tmp_path / "in.zip", {"read me.txt": b"words", **dict(reversed(pictures.items())), "a/": b""})
    done = deid("anonymize", *QUICK, "--manifest", tmp_path / "m.jsonl", source, tmp_path / "out.zip")
    assert done.status == 0, done.err
    made = members(tmp_path / "out.zip")
    assert list(made) == list(reversed(pictures)) and made == plain
    with zipfile.ZipFile(tmp_path / "out.zip") as file:
        assert {(info.date_time, info.compress_type) for info in file.infolist()} == {((2020, 1, 2, 3, 4, 6), 8)}
    said = rows(tmp_path / "m.jsonl")
    assert list(said) == [f"in.zip/{name}" for name in reversed(pictures)]
    assert "3 of 3 files written" in done.err and "left out: 1 sidecar (.txt)" in done.err


def test_shard_keeps_samples_whole(deid, tmp_path, pictures, plain):
    one, none, three = (pictures[name] for name in ("one.png", "none.png", "sub/three.jpg"))
    samples = {"0.cls": b"7", "0.png": one, "0.json": b"{}", "1.cls": b"8", "1.jpg": BROKEN, "1.json": b"{}"}
    samples |= {"2.jpg": three, "2.txt": b"words", "2.npy": b"numbers", "3.txt": b"of nothing", "4.png": none}
    done = deid("anonymize", *QUICK, tarred(tmp_path / "in.tar", samples), tmp_path / "out")
    made = members(tmp_path / "out" / "in.tar")
    assert done.status == 1 and "in.tar/1.jpg" in done.err
    # What may show faces and is not looked at is left out, and so is all of a sample whose picture failed.
    assert list(made) == ["0.cls", "0.png", "0.json", "2.jpg", "2.txt", "4.png"]
    assert (made["0.png"], made["2.jpg"], made["4.png"]) == tuple(
        plain[n] for n in ("one.png", "sub/three.jpg", "none.png")
    )
    with tarfile.open(tmp_path / "out" / "in.tar") as file:
        assert {(info.uname, info.mtime) for info in file} == {("", 1_500_000_000)}
    assert "3 carried along in archives" in done.err and "1 failed (in.tar/1.jpg)" in done.err
    assert "left out: 1 sidecar (.txt), 1 unknown (.npy)" in done.err


def test_table_keeps_rows_and_columns(deid, tmp_path, pictures, plain):
    shown = [{"bytes": data, "path": name} for name, data in pictures.items()]
    source = parquet(tmp_path / "in.parquet", [*shown, None, {"bytes": BROKEN, "path": "x.jpg"}], label=list("abcde"))
    done = deid("anonymize", *QUICK, "--column", "image", source, tmp_path / "out")
    import pyarrow.parquet as pq

    made = pq.ParquetFile(tmp_path / "out" / "in.parquet")
    table = made.read().to_pydict()
    assert done.status == 1 and "in.parquet/000000004/image" in done.err
    assert table["image"] == [{"bytes": plain[name], "path": name} for name in pictures] + [None, None]
    assert (table["id"], table["label"]) == ([0, 1, 2, 3, 4], list("abcde"))
    assert made.schema_arrow == pq.read_schema(source) and made.schema_arrow.metadata[b"huggingface"] == b"{}"
    assert made.metadata.num_row_groups == 3
    assert made.metadata.row_group(0).column(0).compression == "ZSTD"


def test_table_with_other_pictures_is_refused(deid, tmp_path, pictures):
    data = list(pictures.values())
    source = parquet(tmp_path / "in.parquet", data, small=data)
    done = deid("anonymize", *QUICK, "--column", "image", source, tmp_path / "out")
    assert done.status == 3 and "'small' holds bytes" in done.err
    assert deid("anonymize", *QUICK, "--column", "image", "--column", "small", source, tmp_path / "both").status == 0
    done = deid("anonymize", *QUICK, "--column", "other", source, tmp_path / "out")
    assert done.status == 3 and "no column 'other'" in done.err


def test_resumed_archive_is_left_alone(deid, tmp_path, pictures):
    source = tarred(tmp_path / "in.tar", pictures)
    out = tmp_path / "out"
    assert deid("anonymize", *QUICK, source, out).status == 0
    before = (out / "in.tar").stat()
    done = deid("anonymize", *QUICK, "--resume", source, out)
    assert done.status == 0 and "3 of 3 files are done already" in done.err
    assert (out / "in.tar").stat().st_ino == before.st_ino
    assert deid("anonymize", *QUICK, source, out).status == 2, "it exists"
    whole = (out / "in.tar").read_bytes()
    (out / "in.tar").write_bytes(whole[:1000])
    done = deid("anonymize", *QUICK, "--resume", source, out)
    assert done.status == 0 and "0 of 3 files are done already" in done.err
    assert (out / "in.tar").read_bytes() == whole


def test_archive_that_breaks_is_not_there(deid, tmp_path, pictures, monkeypatch):
    """The disk is full at its end: no row says that anything was done, and nothing is left."""
    monkeypatch.setattr("deidcli.engine.archives.zip_tar._ZipRewriter.finish", _full)
    source = zipped(tmp_path / "in.zip", pictures)
    done = deid("anonymize", *QUICK, source, tmp_path / "out")
    assert done.status == 3 and "No space" in done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deid-manifest.jsonl"]
    assert {row["status"] for row in rows(tmp_path / "out").values()} == {"failed"}


def test_an_archive_that_changes_is_not_written(deid, tmp_path, pictures, monkeypatch):
    """It is another one than was listed by the time that it is read."""
    from deidcli.engine.archives import packing

    source = tarred(tmp_path / "in.tar", pictures)
    put = packing._Pack.put
    monkeypatch.setattr(packing._Pack, "put", lambda self, *more: (os.utime(source, (1, 1)), put(self, *more))[1])
    done = deid("anonymize", *QUICK, source, tmp_path / "out")
    assert done.status == 3 and "it changed while it was read" in done.err
    assert not (tmp_path / "out" / "in.tar").exists()


def _full(self):
    raise OSError(28, "No space left on device")


def test_closed_set_counts_members(deid, tmp_path, crowd, nobody, portraits, pictures):
    source = tarred(tmp_path / "in.tar", pictures)
    done = deid("anonymize", "--method", "ksame-pixel", "--k", "2", "--seed", "1", source, tmp_path / "out")
    assert done.status == 0, done.err
    assert list(members(tmp_path / "out" / "in.tar")) == list(pictures)


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png", "a\\x.png", "C:x.png", "x" * 1100])
def test_names_that_lead_elsewhere(deid, tmp_path, pictures, name):
    for source in (zipped(tmp_path / "in.zip", {}), tarred(tmp_path / "in.tar", {name: b"x"})):
        if source.suffix == ".zip":
            zipped(source, {"good.png": pictures["one.png"], name: pictures["one.png"]})
        done = deid("anonymize", *QUICK, source, tmp_path / "out" / source.name)
        assert done.status == 3 and "it has " in done.err, done.err
        assert not (tmp_path / "x.png").exists() and not (tmp_path / "out" / source.name).exists()


def test_links_twins_and_passwords(deid, tmp_path, pictures):
    with tarfile.open(tmp_path / "links.tar", "w") as file:
        link = tarfile.TarInfo("one.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    done = deid("anonymize", *QUICK, tmp_path / "links.tar", tmp_path / "out")
    assert "holds no picture" in done.err and "left out: 1 special" in done.err
    with pytest.warns(UserWarning), zipfile.ZipFile(tmp_path / "twins.zip", "w") as file:
        for _ in range(2):
            file.writestr("one.png", pictures["one.png"])
    assert "twice" in deid("anonymize", *QUICK, tmp_path / "twins.zip", tmp_path / "out").err
    data = bytearray(zipped(tmp_path / "locked.zip", {"one.png": pictures["one.png"]}).read_bytes())
    for mark, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.index(mark) + place] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    assert "is encrypted" in deid("anonymize", *QUICK, tmp_path / "locked.zip", tmp_path / "out").err


def test_bombs(tmp_path, monkeypatch):
    small = zipped(tmp_path / "in.zip", {f"{n}.png": bytes(100_000) for n in range(20)})
    assert len(open_archive(small).checked()) == 20
    for name, value in (("MEMBERS", 10), ("LARGEST", 99_999), ("SMALL", 1000)):
        with monkeypatch.context() as patch:
            patch.setattr(archives, name, value)
            with pytest.raises(MediaError, match="far more than an archive"):
                open_archive(small).checked()


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 not a zip", b"\0" * 3000])
def test_damaged_archives_fail_in_one_line(deid, tmp_path, damage):
    for kind in ("zip", "tar", "parquet"):
        (tmp_path / f"in.{kind}").write_bytes(damage)
        done = deid("anonymize", *QUICK, "--column", "image", tmp_path / f"in.{kind}", tmp_path / "out")
        said = [line for line in done.err.splitlines() if line.startswith("deid: ")]
        empty = kind == "tar" and damage.startswith(b"\0")
        assert (done.status == 3 and len(said) == 1 and f"in.{kind}: it is damaged" in said[0]) or empty, done.err


def test_archives_stay_of_their_kind(deid, tmp_path, pictures):
    source = zipped(tmp_path / "in.zip", pictures)
    for output, said in ((tmp_path / "out.tar", "would become"), ("-", "standard output"), (source, "written over")):
        done = deid("anonymize", *QUICK, source, output)
        assert done.status == 2 and said in done.err, done.err
    assert (
        "do not go with archives"
        in deid("anonymize", *QUICK, "--quarantine", tmp_path / "q", source, tmp_path / "o").err
    )


def test_a_member_is_read_in_another_process(tmp_path, pictures):
    """What is open does not travel."""
    for source in (zipped(tmp_path / "in.zip", pictures), tarred(tmp_path / "in.tar", pictures)):
        jobs = list_files([str(source)], None).jobs
        again = pickle.loads(pickle.dumps(jobs))
        assert [job.source.open().read() for job in again] == list(pictures.values())
        assert len({id(job.source.packed) for job in again}) == 1


def test_parts_of_a_run_take_archives_whole(deid, tmp_path, pictures):
    for number in range(4):
        tarred(
            tmp_path / "shards" / f"{number}.tar" if (tmp_path / "shards").mkdir(exist_ok=True) is None else "",
            pictures,
        )
    for part in ("1/2", "2/2"):
        assert deid("anonymize", *QUICK, "--shard", part, tmp_path / "shards", tmp_path / "out").status == 0
    assert all(list(members(tmp_path / "out" / f"{number}.tar")) == list(pictures) for number in range(4))
    lines = [json.loads(line)["input"] for path in (tmp_path / "out").glob("*.jsonl") for line in path.open()]
    assert sorted(lines) == sorted(f"{number}.tar/{name}" for number in range(4) for name in pictures)
