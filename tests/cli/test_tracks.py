"""Faces that move, end to end: an animation keeps its tracks from `deid detect` to the manifest and the sheet."""

import json

import av
import numpy as np
import pytest
from PIL import Image

from deidcli.faces.detectors.shipped import HogDetector
from deidcli.media.open import open_reader
from tests.conftest import read, rows, save, tree

SEARCH = ("--detector", "hog", "--no-low-light")
QUICK = (*SEARCH, "--method", "solid", "--color", "#00ff00", "--no-verify", "--seed", "1")
FRAMES, SIDE, HIDDEN = 12, 112, (5, 6)


def place(index):
    """The left side of the portrait in a frame."""
    return 4 * index


def written(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mp4":
        return filmed(path, frames)
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40, lossless=True)
    return path


def filmed(path, frames):
    """A video of 25 frames a second."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.height, stream.width = frames[0].shape[:2]
        for picture in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return path


def drawn(portrait, nobody):
    """A portrait that moves to the right; in the frames HIDDEN it has no eyes, and nobody finds it."""
    small = np.asarray(Image.fromarray(portrait).resize((SIDE, SIDE)))
    wide = np.asarray(Image.fromarray(nobody).resize((SIDE + 60, SIDE)))
    frames = []
    for index in range(FRAMES):
        frame = wide.copy()
        frame[:, place(index) : place(index) + SIDE] = small
        if index in HIDDEN:
            # The middle of the portrait is its face.
            rows, left = slice(SIDE // 4, 3 * SIDE // 4), place(index) + SIDE // 4
            frame[rows, left : left + SIDE // 2] = frame[rows, left : left + SIDE // 2].mean(axis=(0, 1))
        frames.append(frame)
    return frames


@pytest.fixture(params=["png", "gif", "mp4"])
def film(request, tmp_path, portrait, nobody):
    """An animation or a video in a folder."""
    return written(tmp_path / "in" / f"film.{request.param}", drawn(portrait, nobody))


@pytest.fixture
def png(tmp_path, portrait, nobody):
    """An animation without loss."""
    return written(tmp_path / "in" / "film.png", drawn(portrait, nobody))


def frames_of(path):
    with open_reader(path) as reader:
        return [frame.pixels for frame in reader.frames()]


def listed(deid, *arguments):
    done = deid("detect", *SEARCH, *arguments)
    assert done.status == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def green(pixels, box):
    left, top, right, bottom = (max(0, round(v)) for v in box)
    part = pixels[top:bottom, left:right].astype(int)
    return float(((part[..., 1] > 200) & (part[..., 0] < 90)).mean())


def test_one_face_is_one_track(deid, film):
    alone = listed(deid, "--no-track", film)
    assert [len(row["faces"]) for row in alone] == [0 if i in HIDDEN else 1 for i in range(FRAMES)]
    tracked = listed(deid, film)
    assert [[face["track"] for face in row["faces"]] for row in tracked] == [[0]] * FRAMES
    assert [row["frame"] for row in tracked] == list(range(FRAMES))
    shift = np.diff([row["faces"][0]["box"][0] for row in tracked])
    assert np.abs(shift - 4).max() < 3, "the box moves with the face, in the frames where it was not found too"


def test_no_frame_shows_it(deid, film, tmp_path):
    out = tmp_path / "out"
    done = deid("anonymize", *QUICK, film.parent, out)
    assert done.status == 0 and f"{FRAMES} faces replaced" in done.err
    boxes = [row["faces"][0]["box"] for row in listed(deid, film)]
    for pixels, box in zip(frames_of(out / film.name), boxes, strict=True):
        assert green(pixels, box) > 0.98
    [track] = rows(out)[film.name]["tracks"]
    assert track["track"] == 0 and track["frames"] == [0, FRAMES - 1] and track["replaced"] == FRAMES
    assert track["times"] == [0, 0.44] and track["runs"] == [[0, FRAMES - 1, "replaced", "solid"]]
    assert 2 <= len(track["boxes"]) <= FRAMES and rows(out)[film.name]["faces"] == []
    assert np.abs(np.subtract(track["boxes"][0][1:], boxes[0])).max() <= 1


def test_alone_the_frames_show_it(deid, png, tmp_path):
    """What tracking is for."""
    assert deid("anonymize", *QUICK, "--no-track", png.parent, tmp_path / "out").status == 0
    boxes = [row["faces"][0]["box"] for row in listed(deid, png)]
    shown = [i for i, pixels in enumerate(frames_of(tmp_path / "out" / png.name)) if green(pixels, boxes[i]) < 0.5]
    assert shown == list(HIDDEN)
    assert [face["frame"] for face in rows(tmp_path / "out")[png.name]["faces"]][:3] == [0, 1, 2]


def test_there_and_back(deid, png, tmp_path):
    """The list of `deid detect` gives the same film, and what was edited is taken as it stands."""
    said = listed(deid, png)
    (tmp_path / "faces").write_text("\n".join(map(json.dumps, said)))
    searched, given, edited = (tmp_path / name for name in ("searched", "given", "edited"))
    assert deid("anonymize", *QUICK, png.parent, searched).status == 0
    assert deid("anonymize", *QUICK, "--faces", tmp_path / "faces", png.parent, given).status == 0
    for a, b in zip(frames_of(searched / png.name), frames_of(given / png.name), strict=True):
        assert (np.abs(a.astype(int) - b) > 8).mean() < 2e-3
    boxes = [row["faces"][0]["box"] for row in said]
    for row in said[3:6]:
        row["faces"] = []
    said[9]["faces"][0]["track"] = 7
    (tmp_path / "faces").write_text("\n".join(map(json.dumps, said)))
    assert deid("anonymize", *QUICK, "--faces", tmp_path / "faces", png.parent, edited).status == 0
    covered = [green(pixels, box) > 0.9 for pixels, box in zip(frames_of(edited / png.name), boxes, strict=True)]
    assert covered == [not 3 <= i < 6 for i in range(FRAMES)]
    tracks = {t["track"]: [run[:2] for run in t["runs"]] for t in rows(edited)[png.name]["tracks"]}
    assert tracks == {0: [[0, 2], [6, 8], [10, 11]], 7: [[9, 9]]}


def test_a_manifest_is_taken_back(deid, film, tmp_path):
    """As it stands it gives the same film; a track that was taken out is left alone, a run that was cut short ends."""
    first, again, less = (tmp_path / name for name in ("first", "again", "less"))
    assert deid("anonymize", *QUICK, film.parent, first).status == 0
    manifest = first / "deid-manifest.jsonl"
    assert deid("anonymize", *QUICK, "--faces", manifest, film.parent, again).status == 0
    boxes = [row["faces"][0]["box"] for row in listed(deid, film)]
    for pixels, box in zip(frames_of(again / film.name), boxes, strict=True):
        assert green(pixels, box) > 0.85
    row = json.loads(manifest.read_text())
    row["tracks"] = []
    (tmp_path / "edited").write_text(json.dumps(row))
    assert deid("anonymize", *QUICK, "--faces", tmp_path / "edited", film.parent, less).status == 0
    assert rows(less)[film.name]["tracks"] == []


def test_a_manifest_of_pictures_is_taken_back(deid, folder, tmp_path):
    assert deid("anonymize", *QUICK, folder, tmp_path / "out").status == 0
    manifest = tmp_path / "out" / "deid-manifest.jsonl"
    assert deid("anonymize", *QUICK, "--faces", manifest, folder, tmp_path / "again").status == 0
    for name in ("one.png", "none.png"):
        assert np.array_equal(read(tmp_path / "out" / name), read(tmp_path / "again" / name))
    count = {name: len(row["faces"]) for name, row in rows(tmp_path / "again").items()}
    assert count == {name: len(row["faces"]) for name, row in rows(tmp_path / "out").items()}


def test_a_box_that_was_added_is_followed(deid, png, tmp_path):
    """Without a number it is tracked, with a number of its own."""
    said = listed(deid, png)
    added = [120 - 20, 70, 120 + 10, 100]
    said[2]["faces"].append({"box": added})
    (tmp_path / "faces").write_text("\n".join(map(json.dumps, said)))
    again = listed(deid, "--faces", tmp_path / "faces", png)
    where = [i for i, row in enumerate(again) if 1 in {face["track"] for face in row["faces"]}]
    assert where[0] == 0 and where[-1] >= 4 and all(0 in {f["track"] for f in row["faces"]} for row in again)


def test_frames_between_are_not_searched(deid, png, monkeypatch):
    searched = []
    find = HogDetector.find
    monkeypatch.setattr(HogDetector, "find", lambda self, pictures: searched.extend(pictures) or find(self, pictures))
    said = listed(deid, "--detect-every", 4, png)
    assert len(searched) == 4, "0, 4, 8 and the last"
    assert [[face["track"] for face in row["faces"]] for row in said] == [[0]] * FRAMES
    lefts = [row["faces"][0]["box"][0] for row in said]
    assert np.abs(np.diff(lefts) - 4).max() < 4


def test_batches_and_threads_change_nothing(deid, png, tmp_path):
    kept = []
    for number, more in enumerate((("--batch-size", 1, "--workers", 1), ("--batch-size", 5, "--workers", 3), ())):
        out = tmp_path / str(number)
        done = deid("anonymize", *SEARCH, "--method", "pixelate", "--cells", 9, "--seed", 3, *more, png.parent, out)
        assert done.status == 0, done.err
        kept.append(tree(out))
    assert kept[0] == kept[1] == kept[2]


def test_sheet(deid, film, portrait, tmp_path):
    """A row for the track, whose pictures show what was written; none for a still."""
    save(portrait, film.parent / "still.png")
    out = tmp_path / "out"
    assert deid("anonymize", *QUICK, "--preview-sheet", film.parent, out).status == 0
    assert sorted(tree(out)) == sorted([film.name, f"{film.name}.tracks.png", "still.png"])
    sheet = read(out / f"{film.name}.tracks.png")
    middle = sheet[24 + 36, 250 + 36 :: 72]
    assert (np.abs(middle.astype(int) - (0, 255, 0)) < 9).all() and len(middle) == 10 and sheet.shape[0] == 24 + 72
    assert (sheet[24:, :250] < 128).any(), "its number and its times"
    again = deid("anonymize", *QUICK, "--preview-sheet", film.parent, out)
    assert again.status in (1, 3), "what exists is not replaced"


def test_a_sheet_has_its_own_place(deid, png, portrait, tmp_path):
    save(portrait, png.parent / "film.png.tracks.png")
    done = deid("anonymize", *QUICK, "--preview-sheet", png.parent, tmp_path / "out")
    assert done.status == 2 and "tracks.png" in done.err and not (tmp_path / "out").exists()
    done = deid("anonymize", *QUICK, "--preview-sheet", "-", "-", stdin=png.read_bytes())
    assert done.status == 2 and "standard output" in done.err


def test_a_film_that_fails_leaves_no_sheet(deid, png, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no")

    monkeypatch.setattr("deidcli.media.image.reader.ImageWriter.finish", broken)
    assert deid("anonymize", *QUICK, "--preview-sheet", png.parent, tmp_path / "out").status == 3
    assert tree(tmp_path / "out") == {}


def test_pages_are_no_film(deid, portrait, tmp_path):
    """Pages have no times: each is a picture of its own."""
    pages = [Image.fromarray(portrait)] * 2
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    done = deid("anonymize", *QUICK, tmp_path / "pages.tif", tmp_path / "out.tif", "--manifest", tmp_path / "m")
    row = rows(tmp_path / "m")["pages.tif"]
    assert done.status == 0 and [f["frame"] for f in row["faces"]] == [0, 1] and row["tracks"] == []


def test_a_number_that_is_none_is_refused(deid, png, tmp_path):
    for track in (-2, 1.5, "a", True):
        (tmp_path / "faces").write_text(
            json.dumps({"input": png.name, "faces": [{"box": [1, 2, 3, 4], "track": track}]})
        )
        done = deid("anonymize", *QUICK, "--faces", tmp_path / "faces", png.parent, tmp_path / "out")
        assert done.status == 2 and "track" in done.err
