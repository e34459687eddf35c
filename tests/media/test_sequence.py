"""Videos as folders of numbered pictures, and such folders as one sequence."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from deidcli.errors import MediaError
from deidcli.media.image.reader import numbered
from deidcli.media.open import open_reader
from deidcli.media.stream import ReadOptions, VideoOptions, WriteOptions

from .drawn import negative, region
from .filmed import COUNT, film, psnr, scene


def written(path, folder, options, read=None):
    """Write a source to a folder, every second frame changed."""
    folder.mkdir()
    with open_reader(path, options=read or ReadOptions()) as reader:
        assert reader.makes_folder(options)
        writer = reader.writer(folder, options)
        for frame in reader.frames():
            writer.write(*(negative(frame) if frame.index % 2 else (frame, None)))
        writer.finish()
        writer.close()
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_frames_of_a_video(tmp_path, kind):
    path = film(tmp_path / "in.mkv", stamps=[0, 10, 500, 510])
    names = written(path, tmp_path / "out", WriteOptions(video=VideoOptions(frames=kind)))
    assert names == [f"{number:06d}.{kind}" for number in range(4)]
    with open_reader(path) as reader:
        for frame, name in zip(reader.frames(), names, strict=True):
            with Image.open(tmp_path / "out" / name) as picture:
                wanted = negative(frame)[0].pixels if frame.index % 2 else frame.pixels
                assert psnr(np.array(picture), wanted) > (98 if kind == "png" else 40)
                assert not picture.info.get("exif")


@pytest.fixture
def folder(tmp_path):
    """img_0007.png, img_0008.png, img_0010.png: one is missing."""
    place = tmp_path / "in"
    place.mkdir()
    for number in (7, 8, 10):
        Image.fromarray(scene(number)).save(place / f"img_{number:04d}.png")
    return place


def test_a_sequence_in_and_out(folder, tmp_path):
    with open_reader(folder, options=ReadOptions(fps=29.97)) as reader:
        frames = list(reader.frames())
        assert (reader.info.format, reader.info.frames, reader.info.size) == ("sequence", 3, (96, 64))
    assert [frame.time for frame in frames] == [Fraction(n * 100, 2997) for n in (0, 1, 3)]
    assert [frame.index for frame in frames] == [0, 1, 2]
    names = written(folder, tmp_path / "out", WriteOptions())
    assert names == [f"img_{number:04d}.png" for number in (7, 8, 10)]
    for index, number in enumerate((7, 8, 10)):
        old, new = scene(number), np.array(Image.open(tmp_path / "out" / f"img_{number:04d}.png"))
        mask = region(64, 96)
        assert np.array_equal(old[~mask], new[~mask]) and np.array_equal(old, new) == (index != 1)


def test_formats_of_a_sequence_are_kept(tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    for number in range(3):
        Image.fromarray(scene(number)).save(place / f"{number}.jpg", quality=90, dpi=(300, 300))
    written(place, tmp_path / "out", WriteOptions())
    assert (tmp_path / "out" / "0.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    with Image.open(tmp_path / "out" / "1.jpg") as picture:
        assert picture.info["dpi"] == (300, 300)


@pytest.mark.parametrize(("names", "wanted"), [
    (["b2.png", "b10.png", "b1.png"], [(1, "b1.png"), (2, "b2.png"), (10, "b10.png")]),
    (["a1.png", "a2.png", "notes.txt", ".DS_Store"], [(1, "a1.png"), (2, "a2.png")]),
    (["a1.png"], []),
    (["a1.png", "b2.png"], []),
    (["a1.png", "a2.jpg"], []),
    (["a1.png", "a01.png"], []),
    (["a1.png", "a2.png", "sea.png"], []),
    (["1.mp4", "2.mp4"], []),
    ([], []),
])  # fmt: skip
def test_numbered_names(names, wanted):
    assert numbered(names) == wanted


def test_odd_folders_are_errors(folder, tmp_path):
    (folder / "img_0009.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"img_0009\.png: not a picture"):
        list(open_reader(folder).frames())
    (folder / "img_0009.png").unlink()
    moving = [Image.fromarray(scene(number)) for number in range(3)]
    moving[0].save(folder / "img_0009.png", save_all=True, append_images=moving[1:])
    with pytest.raises(MediaError, match="several pictures"):
        list(open_reader(folder).frames())
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="not a sequence"):
        open_reader(tmp_path / "empty")


def test_every_frame_has_to_come_back(folder, tmp_path):
    path = film(tmp_path / "in.mkv")
    for source, count in ((folder, 3), (path, COUNT)):
        out = tmp_path / f"out{count}"
        out.mkdir()
        with open_reader(source) as reader:
            writer = reader.writer(out, WriteOptions(video=VideoOptions(frames="png")))
            frames = list(reader.frames())
            writer.write(frames[0], None)
            with pytest.raises(MediaError, match=f"1 of {count} frames"):
                writer.finish()
