"""What is no picture, or no whole one, is refused in one line; nothing is guessed."""

import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image

from deidcli.errors import MediaError, MissingDependency
from deidcli.media.open import is_media, open_reader

from .drawn import drawn, frames, saved, smooth, through
from .test_modes import sixteen_bits

KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"]


def refused(data):
    with pytest.raises(MediaError) as caught:
        frames(data)
    line = str(caught.value)
    assert "\n" not in line and line.startswith("drawn: ") and caught.value.hint
    return line


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 0.999])
def test_truncated(kind, share):
    data = saved(drawn("RGB", (90, 70)), kind)
    cut = data[: min(int(len(data) * share), len(data) - 2)]
    refused(cut)


@pytest.mark.parametrize("settings", [{"lossless": True}, {"save_all": True}])
def test_truncated_moving_webp(settings):
    more = [drawn("RGB", (50, 40), 2)] if "save_all" in settings else []
    data = saved(drawn("RGB", (50, 40)), "WEBP", append_images=more, **settings)
    refused(data[:-40])


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_truncated_sixteen_bits(channels):
    from deidcli.media.image.png_chunks import Chunk, chunks, written

    parts = chunks(sixteen_bits(channels))
    raw = zlib.decompress(b"".join(part.payload for part in parts if part.kind == b"IDAT"))
    short = zlib.compress(raw[: len(raw) // 2])
    refused(written([parts[0], Chunk(b"IDAT", short), Chunk(b"IEND", b"")]))


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes_give_a_picture_or_one_error(kind):
    data = bytearray(saved(drawn("RGB", (40, 30)), kind))
    for at in range(8, len(data), max(len(data) // 60, 1)):
        damaged = bytes(data[:at]) + bytes([data[at] ^ 0x55]) + bytes(data[at + 1 :])
        for change in (True, False):
            try:
                through(damaged, change)
            except MediaError as error:
                assert "\n" not in str(error)


def test_empty_and_text():
    assert "empty" in refused(b"")
    assert "hello" in refused(b"hello, this is a note about a picture")
    assert "89 50" in refused(b"\x89PNX\xff\xfe\xfd\xfc")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "JPEG", "TIFF"])
def test_decompression_bomb(kind):
    data = bytearray(saved(Image.new("L" if kind != "BMP" else "RGB", (16, 16)), kind))
    if kind == "PNG":
        data[16:24] = struct.pack(">II", 60000, 60000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", 60000, 60000)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", 60000, 60000)
    elif kind == "JPEG":
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", 60000, 60000)
    else:
        for tag in (256, 257):
            at = data.index(struct.pack("<HH", tag, 4 if struct.pack("<HH", tag, 4) in data else 3))
            data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, 60000)
    assert "limit" in refused(bytes(data))


def test_endless_tiff_directories():
    data = bytearray(saved(drawn("L"), "TIFF"))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    assert "loop" in refused(bytes(data))


def test_paths(tmp_path):
    picture = tmp_path / "ein Bild – 写真.txt"
    picture.write_bytes(saved(Image.fromarray(smooth()), "JPEG"))
    note = tmp_path / "note.jpg"
    note.write_text("not a picture")
    assert is_media(picture) and not is_media(note)
    assert not is_media(tmp_path) and not is_media(tmp_path / "absent")
    with open_reader(picture) as reader:
        assert (reader.info.format, reader.info.size, reader.info.frames) == ("JPEG", (64, 48), 1)
    for path in (note, tmp_path, tmp_path / "absent.png"):
        with pytest.raises(MediaError, match=path.name):
            open_reader(path)


def test_unreadable(tmp_path, monkeypatch):
    path = tmp_path / "closed.png"
    path.write_bytes(saved(drawn("L"), "PNG"))

    def closed(*_):
        raise PermissionError(13, "Permission denied")

    # The superuser may read everything, so a mode of 0 would prove nothing in a container.
    monkeypatch.setattr(type(path), "open", closed)
    with pytest.raises(MediaError, match="permission"):
        open_reader(path)


def test_open_file_object(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(saved(drawn("L"), "PNG"))
    with path.open("rb") as file, open_reader(file) as reader:
        assert reader.info.format == "PNG"


def test_heic_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    head = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic")
    with pytest.raises(MediaError):
        open_reader(head)
    pytest.importorskip("PIL")
    from deidcli.media.image.heif import _pillow_heif

    with pytest.raises(MissingDependency, match="heif"):
        _pillow_heif()


def test_a_full_disk_is_a_media_error():
    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

    from deidcli.media.stream import WriteOptions

    with open_reader(saved(drawn("L"), "PNG"), "drawn") as reader:
        writer = reader.writer(Full(), WriteOptions())
        for frame in reader.frames():
            writer.write(frame, None)
        with pytest.raises(MediaError, match="No space"):
            writer.finish()


def test_a_frame_left_out_is_noticed():
    from io import BytesIO

    from deidcli.media.stream import WriteOptions

    with open_reader(saved(drawn("L"), "PNG"), "drawn") as reader, pytest.raises(MediaError, match="0 of 1"):
        reader.writer(BytesIO(), WriteOptions()).finish()


def test_opening_loads_no_library_before_a_picture_comes():
    code = "import sys, deidcli.media.open; print([m for m in ('PIL', 'cv2', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
