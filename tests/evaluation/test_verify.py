"""`deid verify`: a folder against its input, by any tool, without believing what can be looked at."""

import io
import json
import shutil
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from deidcli.evaluation.verify.measure import is_kept
from deidcli.evaluation.verify.records import paired
from deidcli.evaluation.verify.traces import traces
from deidcli.values import Box
from tests.conftest import found, read, save

DLIB = ("--recogniser", "dlib", "--quiet")


@pytest.fixture
def out(deid, folder, tmp_path):
    """`folder` with its faces covered."""
    assert deid("anonymize", "--method", "solid", "--no-verify", "--quiet", folder, tmp_path / "out").status == 0
    return tmp_path / "out"


def look(deid, *options):
    """The exit status, and for each file the kinds of what was found."""
    done = deid("verify", "--format", "json", *DLIB, *options)
    said = json.loads(done.out)
    assert said["wrong"] == (done.status != 0)
    return done.status, {each["name"]: [one["kind"] for one in each["findings"]] for each in said["look"]}, said


@pytest.mark.parametrize("manifest", [(), ("--manifest", "none")])
def test_a_sound_folder(deid, folder, out, manifest):
    status, kinds, said = look(deid, *manifest, folder, out)
    assert status == 0 and said["looked"] == said["files"] == 3 and said["listed"] == (not manifest)
    assert kinds["none.png"] == ["empty"]


def test_a_folder_that_was_only_copied(deid, folder, tmp_path):
    """What a tool that does nothing leaves; the face of a file without a manifest is known by the search alone."""
    shutil.copytree(folder, tmp_path / "copy")
    status, kinds, _ = look(deid, folder, tmp_path / "copy")
    assert status == 1 and kinds["one.png"][0] == "untouched" and kinds["sub/three.jpg"].count("untouched") == 3
    assert kinds["none.png"] == ["empty"]


def test_a_manifest_is_not_believed(deid, folder, out):
    """It says that all faces are covered and gives the checksum of what lies there; the face is open."""
    shutil.copy(folder / "one.png", out / "one.png")
    lines = [json.loads(line) for line in (out / "deid-manifest.jsonl").read_text().splitlines()]
    lines = [line | {"output_sha256": line["sha256"]} if line["input"] == "one.png" else line for line in lines]
    (out / "deid-manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, kinds, _ = look(deid, folder, out)
    assert status == 1 and kinds["one.png"][0] == "recognised"


def test_missing_and_extra_files(deid, folder, out, portrait):
    (out / "none.png").unlink()
    save(portrait, out / "more" / "open.png")
    (out / "archive.zip").write_bytes(b"PK\3\4\0\0\xff\xfe")
    (out / "notes.txt").write_text("who was there")
    for manifest in ((), ("--manifest", "none")):
        status, kinds, said = look(deid, *manifest, folder, out)
        assert status == 1 and kinds["none.png"] == ["missing"] and said["missing"] == 1
        assert kinds["more/open.png"] == ["stray", "suspect"], "its face is looked for, too"
        assert kinds["archive.zip"] == ["unlooked"] and kinds["notes.txt"] == ["beside"]
    status, _, said = look(deid, "--allow", "missing,stray,suspect,unlooked", folder, out)
    assert status == 0 and said["counts"]["missing"] == 1


def test_a_result_in_another_folder_is_none(deid, folder, out, tmp_path):
    """The manifest of a copied folder still says where the results lay when they were written."""
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    (copy / "none.png").unlink()
    assert (out / "none.png").exists()
    status, kinds, said = look(deid, folder, copy)
    assert status == 1 and kinds["none.png"] == ["missing"] and said["missing"] == 1


@pytest.mark.parametrize("text", ["{nonsense\n", "\0" * 40, "[1, 2"])
def test_a_manifest_of_which_nothing_can_be_read(deid, folder, out, text):
    (out / "deid-manifest.jsonl").write_text(text)
    done = deid("verify", *DLIB, folder, out)
    assert done.status == 2 and "deid-manifest.jsonl" in done.err
    assert look(deid, "--manifest", "none", folder, out)[0] == 0


def test_other_tools_change_names_size_and_quality(deid, folder, portrait, tmp_path):
    """Their results belong to the input of the same stem; an open face is found at half the size, too."""
    half = cv2.resize(portrait, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    save(half, tmp_path / "out" / "one_anonymized.jpg", quality=70)
    save(read(folder / "none.png"), tmp_path / "out" / "none.webp")
    (tmp_path / "out" / "sub").mkdir()
    status, kinds, _ = look(deid, folder, tmp_path / "out")
    assert status == 1 and kinds["one.png"] == ["untouched", "resized"] and kinds["sub/three.jpg"] == ["missing"]
    assert kinds["none.png"] == ["empty"]


def test_a_picture_that_was_cut(deid, portrait, tmp_path):
    """It cannot be laid over its original, and the person is still known."""
    save(portrait, tmp_path / "in" / "a.png")
    save(portrait[4:, 30:], tmp_path / "out" / "a.png")
    status, kinds, _ = look(deid, tmp_path / "in", tmp_path / "out")
    assert status == 1 and kinds["a.png"] == ["untouched", "resized"]


def test_a_weak_blur_is_recognised(deid, portrait, tmp_path):
    save(portrait, tmp_path / "in" / "a.png")
    save(cv2.GaussianBlur(portrait, (0, 0), 5), tmp_path / "out" / "a.png")
    status, kinds, _ = look(deid, tmp_path / "in", tmp_path / "out")
    assert status == 1 and kinds["a.png"] == ["recognised"]


def test_details_of_a_face(portrait, face):
    """Recompression, half the resolution and another brightness keep them; blur, mosaic and another face do not."""
    small = cv2.resize(portrait, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    Image.fromarray(portrait).save(buffer, "jpeg", quality=30)
    kept = [np.asarray(Image.open(buffer)), cv2.resize(small, (224, 224)), cv2.convertScaleAbs(portrait, beta=12)]
    assert all(is_kept(portrait, other, face.box) for other in kept)
    mosaic = cv2.resize(cv2.resize(portrait, (24, 24), interpolation=cv2.INTER_AREA), (224, 224), interpolation=0)
    gone = [cv2.GaussianBlur(portrait, (0, 0), 8), mosaic, np.full_like(portrait, 127), portrait[:, ::-1]]
    assert not any(is_kept(portrait, other, face.box) for other in gone)
    assert not is_kept(portrait, portrait, Box(-50, -50, -10, -10))


def test_two_detectors_look(deid, folder, out, portrait):
    """What one of them misses the other one finds: here one is blind to all but huge faces."""
    shutil.copy(folder / "one.png", out / "one.png")
    status, kinds, said = look(deid, "--manifest", "none", "--detector", "hog,cnn", "--upsample", "0", folder, out)
    assert status == 1 and kinds["one.png"] == ["untouched"] and said["detector"] == "hog and cnn"


def test_junit(deid, folder, out):
    (out / "one.png").unlink()
    done = deid("verify", "--format", "junit", *DLIB, folder, out)
    suite = ElementTree.fromstring(done.out)
    assert done.status == 1 and suite.attrib["tests"] == "3" and suite.attrib["failures"] == "1"
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["one.png"] and suite.find("testcase/failure").get("type") == "missing"


def test_text_and_usage(deid, folder, out, tmp_path):
    done = deid("verify", *DLIB, folder, out)
    assert done.status == 0 and done.out.decode().startswith("Nothing looks wrong. 3 of 3 files were written")
    assert deid("verify", *DLIB, folder, tmp_path / "none").status == 2
    assert deid("verify", *DLIB, tmp_path / "none", out).status == 2
    wrong = deid("verify", *DLIB, "--allow", "everything", folder, out)
    assert wrong.status == 2 and "--allow everything" in wrong.err
    (tmp_path / "empty").mkdir()
    assert deid("verify", *DLIB, folder, tmp_path / "empty").status == 3, "nothing could be looked at"


def test_names_are_paired_once(tmp_path, nobody):
    for name in ("a.jpg", "a_1.jpg", "b.png", "c.png"):
        save(nobody, tmp_path / "in" / name)
    for name in ("a.jpg", "a_1.jpg", "b.jpg", "c_x.png", "c_y.png"):
        save(nobody, tmp_path / "out" / name)
    records = paired(tmp_path / "out", tmp_path / "in")
    found = {record.name: record.after and record.after.name for record in records.records if record.before}
    assert found == {"a.jpg": "a.jpg", "a_1.jpg": "a_1.jpg", "b.png": "b.jpg", "c.png": None}, "c could be either"
    assert records.strays == ("c_x.png", "c_y.png")


# What a file tells beside its pixels


def _exif():
    exif = Image.Exif()
    exif[0x010F] = "Camera of Kim Doe"
    exif[0x8825] = {1: "N", 2: (52.0, 13.0, 5.0), 3: "E", 4: (13.0, 22.0, 7.0)}
    return exif.tobytes()


def _told(path, before=None, policy="safe"):
    return sorted({trace.kind for trace in traces(path, before, policy)})


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_exif_and_place(portrait, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(portrait).save(path, exif=_exif())
    assert {"metadata", "place"} <= set(_told(path))


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("jpg", {"comment": b"Kim Doe"}), ("gif", {"comment": b"Kim Doe"}), ("webp", {"xmp": b"<x>Kim Doe</x>"}),
     ("jpg", {"xmp": b"<x>Kim Doe</x>"})],
)  # fmt: skip
def test_comments(portrait, tmp_path, suffix, options):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(portrait).save(path, **options)
    assert "metadata" in _told(path)


def test_text_of_a_png(portrait, tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Author", "Kim Doe", zip=True)
    Image.fromarray(portrait).save(tmp_path / "a.png", pnginfo=text)
    assert "metadata" in _told(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp"])
def test_bytes_behind_the_picture(portrait, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(portrait).save(path)
    assert _told(path) == []
    path.write_bytes(path.read_bytes() + bytes(range(200)))
    assert _told(path) == ["hidden"]


def test_segments_and_chunks_that_nothing_shows(portrait, tmp_path):
    Image.fromarray(portrait).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xe7\0\x0aKim Doe." + data[2:])
    assert [trace.text for trace in traces(tmp_path / "a.jpg", None, "safe")] == ["12 bytes that no viewer shows"]
    Image.fromarray(portrait).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    chunk = b"\0\0\0\x08prVtKim Doe." + bytes(4)
    (tmp_path / "a.png").write_bytes(data[:-12] + chunk + data[-12:])
    assert [trace.text for trace in traces(tmp_path / "a.png", None, "safe")] == ["20 bytes that no viewer shows"]


def test_a_value_of_the_original_that_hides(portrait, tmp_path):
    """In a part of the file that no library names."""
    Image.fromarray(portrait).save(tmp_path / "in.jpg", exif=_exif())
    Image.fromarray(portrait).save(tmp_path / "out.tif", compression=None)
    with (tmp_path / "out.tif").open("ab") as file:
        file.write(b"....Camera of Kim Doe....")
    assert "metadata" in _told(tmp_path / "out.tif", tmp_path / "in.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp", "avif"])
def test_a_plain_file_of_pillow_tells_nothing(portrait, tmp_path, suffix):
    Image.fromarray(portrait).save(tmp_path / f"a.{suffix}")
    assert _told(tmp_path / f"a.{suffix}") == []
    assert cv2.imwrite(str(tmp_path / f"b.{suffix}"), portrait) or suffix == "gif"
    assert not (tmp_path / f"b.{suffix}").exists() or _told(tmp_path / f"b.{suffix}") == []


@pytest.mark.parametrize("policy", ["safe", "none"])
def test_what_deid_writes_tells_nothing(deid, portrait, tmp_path, policy):
    for suffix in ("jpg", "png", "webp", "tif"):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(portrait).save(tmp_path / "in" / f"a.{suffix}", exif=_exif())
    options = ("--method", "solid", "--no-verify", "--quiet", "--metadata", policy)
    assert deid("anonymize", *options, tmp_path / "in", tmp_path / "out").status == 0
    for path in sorted((tmp_path / "out").glob("a.*")):
        assert list(traces(path, tmp_path / "in" / path.name, policy)) == [], path.name
    assert found(read(tmp_path / "out" / "a.jpg")) == []


def test_videos(deid, portrait, tmp_path):
    """Sampled frames show an open face, and tags tell of a place; a video that was covered tells nothing."""
    from tests.media.filmed import av

    (tmp_path / "in").mkdir()
    with av.open(str(tmp_path / "in" / "a.mp4"), "w") as out:
        out.metadata.update({"title": "Kim Doe at home", "location": "+52.5-013.2/"})
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 224, 224, "yuv420p", 8_000_000
        for number in range(12):
            shown = portrait if number > 3 else np.full_like(portrait, 90)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), "rgb24").reformat(format="yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    shutil.copytree(tmp_path / "in", tmp_path / "copy")
    status, kinds, _ = look(deid, tmp_path / "in", tmp_path / "copy")
    assert status == 1 and {"untouched", "place", "metadata"} <= set(kinds["a.mp4"])
    every = look(deid, "--frames", "0", tmp_path / "in", tmp_path / "copy")[1]
    assert every["a.mp4"].count("untouched") == 8 > kinds["a.mp4"].count("untouched") > 3
    options = ("--method", "solid", "--no-verify", "--quiet")
    assert deid("anonymize", *options, tmp_path / "in", tmp_path / "out").status == 0
    status, kinds, said = look(deid, "--frames", "0", tmp_path / "in", tmp_path / "out")
    assert status == 0, said["look"]
