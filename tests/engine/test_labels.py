"""Labels of data sets: what is written is read again, documented files are read, and what makes no sense is refused."""

import json

import numpy as np
import pytest

from deidcli.engine.labels import FORMATS, Labelled, document, label_paths, put_labels, read_faces
from deidcli.engine.output import OutputFolder
from deidcli.errors import MediaError, UsageError
from deidcli.values import UNTRACKED, Box, Face
from tests.conftest import rows, save, tree

SIZE = (640, 480)
POINTS = np.random.default_rng(1).uniform(100, 200, (68, 2)).astype(np.float32)
BOXES = [Box(10.3, 20.7, 110.9, 140.2), Box(-4.4, 300.1, 61.6, 381.9), Box(600.5, 0.2, 655.0, 30.4)]
STILL = [Labelled(0, SIZE, tuple(Face(box, 0.5, POINTS if n == 0 else None, n) for n, box in enumerate(BOXES)))]
# A track that is gone for two frames, one that ends early, and one that begins late.
SHOWN = {0: (0, 1, 2, 5, 6), 1: (0, 1, 2), 2: (4, 5, 6)}
FILM = [
    Labelled(index, SIZE, tuple(Face(BOXES[track].shifted(3 * index + 0.4, index), 0.5, None, track)
                                for track, frames in SHOWN.items() if index in frames), True)
    for index in range(7)
]  # fmt: skip


def sides(faces):
    return sorted(face.box.as_list() for face in faces)


def written(form, name, frames, folder):
    target = put_labels(form, name, frames, folder / name, OutputFolder(folder))
    target.commit()
    return folder


@pytest.mark.parametrize("form", FORMATS)
def test_pictures_come_back(tmp_path, form):
    """Boxes within half a pixel, of two pictures of one name in two folders, and of one without a face."""
    names = ["a/one.jpg", "b/one.jpg", "none.png"]
    for name, frames in zip(names, (STILL, STILL[:1], [Labelled(0, SIZE)]), strict=True):
        written(form, name, frames, tmp_path)
    known = read_faces(tmp_path, names)
    for name in names[:2]:
        found = known.of(name, 0, SIZE)
        np.testing.assert_allclose(sides(found), sides(STILL[0].faces), atol=0.5)
        assert all(face.track == UNTRACKED for face in found), "a face of a picture is located anew"
    assert known.of(names[2], 0, SIZE) == []
    if form in ("coco", "cvat"):
        marked = [face.landmarks for face in known.of(names[0], 0, SIZE) if face.landmarks is not None]
        np.testing.assert_allclose(marked[0], POINTS, atol=0.06)
    with pytest.raises(MediaError, match="not in the list"):
        known.of("other.jpg", 0, SIZE)


@pytest.mark.parametrize("form", FORMATS)
def test_videos_come_back(tmp_path, form):
    """Every frame has the faces that it had, and but for Pascal VOC each its track."""
    written(form, "sub/clip.mp4", FILM, tmp_path)
    known = read_faces(tmp_path, ["sub/clip.mp4"])
    for frame in FILM:
        found = known.of("sub/clip.mp4", frame.index, SIZE)
        np.testing.assert_allclose(sides(found), sides(frame.faces), atol=0.5, err_msg=f"frame {frame.index}")
    if form == "voc":
        return
    tracks = [sorted(face.track for face in known.of("sub/clip.mp4", index, SIZE)) for index in range(7)]
    assert [len(set(each)) for each in tracks] == [len(frame.faces) for frame in FILM]
    of = {track: [n for n, each in enumerate(tracks) if track in each] for each in tracks for track in each}
    assert sorted(map(tuple, of.values())) == sorted(SHOWN.values())


def test_one_file_of_all(tmp_path):
    """COCO holds pictures and videos together; CVAT holds pictures, or one video."""
    files = {"one.jpg": STILL, "clip.mp4": FILM}
    (tmp_path / "all.json").write_bytes(document("coco", files))
    known = read_faces(tmp_path / "all.json", files)
    assert len(known.of("one.jpg", 0)) == 3 and [len(known.of("clip.mp4", n)) for n in range(7)] == [
        2,
        2,
        2,
        0,
        1,
        2,
        2,
    ]
    with pytest.raises(UsageError, match="cannot hold"):
        document("cvat", files)


# --- Files in the layout that the formats' documentation shows.

COCO = {
    "info": {"year": 2017, "version": "1.0", "description": "d", "contributor": "c", "url": "u", "date_created": "t"},
    "licenses": [{"id": 1, "name": "n", "url": "u"}],
    "images": [
        {"id": 397133, "width": 640, "height": 427, "file_name": "000000397133.jpg", "license": 1, "flickr_url": "u",
         "coco_url": "u", "date_captured": "2013-11-14 17:02:52"},
        {"id": 37777, "width": 352, "height": 230, "file_name": "000000037777.jpg", "license": 1},
    ],
    "annotations": [
        {"id": 82445, "image_id": 397133, "category_id": 1, "area": 1481.3, "iscrowd": 0,
         "segmentation": [[224.24, 297.18, 228.29, 297.18, 234.91, 298.29]], "bbox": [217.62, 240.54, 38.99, 57.75]},
        {"id": 119568, "image_id": 397133, "category_id": 44, "area": 17376.9, "iscrowd": 1,
         "segmentation": {"counts": [272, 2, 4], "size": [427, 640]}, "bbox": [1.0, 240.24, 346.63, 186.76]},
        {"id": 200887, "image_id": 397133, "category_id": 1, "area": 1.0, "iscrowd": 0, "num_keypoints": 1,
         "keypoints": [433, 94, 2] + [0, 0, 0] * 16, "bbox": [388.66, 69.92, 109.41, 277.62]},
    ],
    "categories": [
        {"id": 1, "name": "person", "supercategory": "person", "keypoints": ["nose"] * 17, "skeleton": [[16, 14]]},
        {"id": 44, "name": "bottle", "supercategory": "kitchen"},
    ],
}  # fmt: skip

CVAT_IMAGES = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>4</id><name>segmentation</name><size>27</size><mode>annotation</mode><overlap>0</overlap>
    <bugtracker></bugtracker><flipped>False</flipped><created>2018-09-25 11:34:24</created>
    <labels><label><name>face</name><attributes></attributes></label>
            <label><name>traffic_line</name><attributes></attributes></label></labels>
    <segments><segment><id>4</id><start>0</start><stop>26</stop><url>http://localhost</url></segment></segments>
    <owner><username>admin</username><email></email></owner></task><dumped>2018-09-25 11:38:28</dumped></meta>
  <image id="0" name="filename000.jpg" width="1600" height="1200">
    <box label="face" xtl="757.06" ytl="462.05" xbr="959.78" ybr="581.97" occluded="0" z_order="1">
      <attribute name="speed">0</attribute></box>
    <box label="face" xtl="100" ytl="100" xbr="300" ybr="200" occluded="1" rotation="90.0" z_order="1"></box>
    <polygon label="face" points="1079.86,542.28;1171.33,551.30;1082.67,599.12" occluded="0" z_order="2"></polygon>
    <ellipse label="face" cx="400" cy="500" rx="20" ry="30" occluded="0" z_order="0"></ellipse>
    <mask label="face" source="manual" occluded="0" rle="4,2,6" left="707" top="888" width="13"
      height="15" z_order="0"/>
    <cuboid label="face" occluded="0" source="manual" xtl1="58.28" ytl1="286.06" xbl1="58.28" ybl1="523.24"
      xtr1="245.01" ytr1="270.01" xbr1="245.01" ybr1="541.29" xtl2="362.58" ytl2="276.15" xbl2="362.58" ybl2="534.19"
      xtr2="172.42" ytr2="291.35" xbr2="172.42" ybr2="516.64" z_order="0"></cuboid>
    <polyline label="traffic_line" points="462.10,0.00;126.80,1200.00" occluded="0"></polyline>
    <points label="traffic_line" points="1,2;3,4" occluded="0"></points>
    <tag label="good_frame" source="manual"></tag>
  </image>
</annotations>"""

CVAT_VIDEO = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>5</id><name>interpolation</name><size>30</size><mode>interpolation</mode><start_frame>0</start_frame>
    <stop_frame>29</stop_frame><frame_filter></frame_filter><original_size><width>640</width><height>480</height>
    </original_size><source>some_video_file.mp4</source></task></meta>
  <track id="0" label="face" source="manual">
    <box frame="3" xtl="10.0" ytl="20.0" xbr="50.0" ybr="60.0" outside="0" occluded="0" keyframe="1" z_order="0"></box>
    <box frame="7" xtl="50.0" ytl="20.0" xbr="90.0" ybr="60.0" outside="0" occluded="0" keyframe="1" z_order="0"></box>
    <box frame="9" xtl="50.0" ytl="20.0" xbr="90.0" ybr="60.0" outside="1" occluded="0" keyframe="1" z_order="0"></box>
  </track>
  <track id="1" label="face">
    <box frame="20" xtl="1" ytl="2" xbr="30" ybr="40" outside="0" occluded="0" keyframe="1"></box>
  </track>
</annotations>"""

VOC = """<annotation>
  <folder>VOC2007</folder><filename>000001.jpg</filename>
  <source><database>The VOC2007 Database</database><annotation>PASCAL VOC2007</annotation><image>flickr</image></source>
  <owner><flickrid>Fried Camels</flickrid><name>Jinky</name></owner>
  <size><width>353</width><height>500</height><depth>3</depth></size><segmented>0</segmented>
  <object><name>dog</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
    <bndbox><xmin>48</xmin><ymin>240</ymin><xmax>195</xmax><ymax>371</ymax></bndbox></object>
  <object><name>face</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
    <bndbox><xmin>1</xmin><ymin>12</ymin><xmax>352</xmax><ymax>498</ymax></bndbox></object>
</annotation>"""


def test_coco_as_documented(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(COCO, indent=1))
    names = ["val2017/000000397133.jpg", "val2017/000000037777.jpg"]
    with pytest.raises(UsageError, match="no class is called face: there are bottle, person; --faces-class"):
        read_faces(path, names)
    known = read_faces(path, names, ["person"])
    assert sides(known.of(names[0], 0)) == [[217.62, 240.54, 256.61, 298.29], [388.66, 69.92, 498.07, 347.54]]
    assert known.of(names[1], 0) == []
    assert len(read_faces(path, names, ["all"]).of(names[0], 0)) == 3


def test_cvat_as_documented(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text(CVAT_IMAGES)
    found = read_faces(path, ["filename000.jpg"]).of("filename000.jpg", 0)
    assert sides(found) == sorted([
        [757.06, 462.05, 959.78, 581.97], [150, 50, 250, 250], [1079.86, 542.28, 1171.33, 599.12],
        [380, 470, 420, 530], [707, 888, 720, 903], [58.28, 270.01, 362.58, 541.29],
    ])  # fmt: skip
    with pytest.raises(UsageError, match="entry 1: a face is given by <points>"):
        read_faces(path, ["filename000.jpg"], ["all"])


def test_cvat_video_as_documented(tmp_path):
    """A track moves between its shapes, is gone where one is outside, and holds to the end where none is."""
    path = tmp_path / "annotations.xml"
    path.write_text(CVAT_VIDEO)
    known = read_faces(path, ["in/some_video_file.mp4"])
    first = [known.of("in/some_video_file.mp4", index) for index in range(31)]
    assert [n for n, faces in enumerate(first) if any(face.track == 0 for face in faces)] == list(range(3, 9))
    assert [n for n, faces in enumerate(first) if any(face.track == 1 for face in faces)] == list(range(20, 30))
    assert first[5][0].box == Box(30, 20, 70, 60)


def test_voc_as_documented(tmp_path):
    (tmp_path / "000001.xml").write_text(VOC)
    for place in (tmp_path, tmp_path / "000001.xml"):
        known = read_faces(place, ["JPEGImages/000001.jpg"])
        assert sides(known.of("JPEGImages/000001.jpg", 0)) == [[0, 11, 352, 498]]


def test_yolo_of_others(tmp_path):
    """Classes by name or by number; a data set with folders; frames as another program numbers them."""
    save_text(tmp_path / "labels/train/a.txt", "0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.1 0.1 0.75\n")
    save_text(tmp_path / "labels/clip_3.txt", "1 0.5 0.5 0.2 0.2 0.9 7\n")
    names = ["images/train/a.png", "clip.mp4"]
    with pytest.raises(UsageError, match="there are 0, 1"):
        read_faces(tmp_path, names)
    save_text(tmp_path / "classes.txt", "car\nFace\n")
    known = read_faces(tmp_path, names)
    [face] = known.of(names[0], 0, (1000, 500))
    assert face.box.as_list() == [50, 25, 150, 75] and face.score == 0.75
    [face] = known.of("clip.mp4", 2, (100, 100))
    assert face.track == 7 and known.of("clip.mp4", 1, (100, 100)) == []
    with pytest.raises(MediaError, match="size of the picture"):
        known.of(names[0], 0)


def test_boxes_of_detectors(tmp_path):
    """What the detectors of deface ([x1, y1, x2, y2, score]) and EgoBlur ([x1, y1, x2, y2]) return, by file."""
    path = tmp_path / "boxes.json"
    path.write_text('{"a.jpg": [[1, 2, 30.5, 40, 0.9]], "b.jpg": [[1, 2, 3, 4]], "c.jpg": []}')
    known = read_faces(path, ["x/a.jpg", "b.jpg", "c.jpg"])
    assert known.of("x/a.jpg", 0)[0].box == Box(1, 2, 30.5, 40) and known.of("x/a.jpg", 0)[0].score == 0.9
    assert len(known.of("b.jpg", 0)) == 1 and known.of("c.jpg", 0) == []


def save_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


HEAD = '<annotations><image name="a.jpg" width="9" height="9">'
IMAGES = '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [%s]}'
BAD = {
    "a.json": [
        IMAGES % '{"image_id": 1, "category_id": 1, "bbox": [1, 2]}',
        IMAGES % '{"image_id": 2, "category_id": 1, "bbox": [1,2,3,4]}',
        '{"images": [{"id": "x"}], "annotations": []}',
        '{"images": {}, "annotations": []}',
        '{"images": [{"id": 1, "file_name": "a.jpg", "video_id": 3, "frame_id": 0}], "annotations": []}',
        '{"a.jpg": [[1, 2, 3]]}',
        '{"a.jpg": 5}',
        '{"a.jpg": [[4, 3, 2, 1]]}',
    ],
    "a.xml": [
        "<annotations>",
        "<other/>",
        '<!DOCTYPE x [<!ENTITY e "e">]><annotations/>',
        HEAD + '<box label="face" xtl="1" ytl="1" xbr="nan" ybr="3"/></image></annotations>',
        HEAD + '<box label="face" xtl="1" ytl="1" xbr="5"/></image></annotations>',
        HEAD + '<polygon label="face" points="1,2;3"/></image></annotations>',
        HEAD + '<skeleton label="face"/></image></annotations>',
        "<annotation><filename>a.jpg</filename><object><name>face</name></object></annotation>",
        "<annotation><object><name>face</name></object></annotation>",
    ],
    "a/a.txt": [
        "0 0.5 0.5 0.2", "x 0.5 0.5 0.2 0.2", "0 0.5 0.5 0.2 -0.2", "0 nan 0.5 0.2 0.2", "0 1 1 1 1 1 1 1", "\0",
    ],
    "b/c.md": ["no labels"],
}  # fmt: skip


@pytest.mark.parametrize("name, text", [(name, text) for name, texts in BAD.items() for text in texts])
def test_labels_that_make_no_sense_are_refused(tmp_path, name, text):
    """A box that cannot be read is a face that would be left as it is."""
    path = save_text(tmp_path / name, text)
    path = path.parent if "/" in name else path
    with pytest.raises(UsageError) as caught:
        read_faces(path, ["a.jpg"])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_name_that_two_inputs_have(tmp_path):
    path = save_text(tmp_path / "a.json", '{"a.jpg": [[1, 2, 3, 4]]}')
    with pytest.raises(UsageError, match="x/a.jpg or y/a.jpg"):
        read_faces(path, ["x/a.jpg", "y/a.jpg"])
    assert read_faces(path, ["x/b.jpg"]).of("a.jpg", 0), "and one that no input has stays, for the run to refuse"


def test_labels_lie_where_data_sets_have_them(tmp_path):
    assert label_paths("yolo", tmp_path / "a.jpg") == (tmp_path / "a.txt", tmp_path / "a.jpg.labels")


# --- By the command.


@pytest.mark.parametrize("form", FORMATS)
def test_commands(deid, folder, tmp_path, form):
    """What `detect` writes is what `anonymize --faces` takes, and what `--labels` leaves says the same."""
    out = ["--out", tmp_path / "labels"]
    assert deid("detect", "--format", form, *out, folder).status == 0
    done = deid("anonymize", "-m", "solid", "--faces", tmp_path / "labels", "--labels", form, folder, tmp_path / "out")
    assert done.status == 0, done.err
    found = rows(tmp_path / "out")
    assert {name: len(row["faces"]) for name, row in found.items()} == {"none.png": 0, "one.png": 1, "sub/three.jpg": 3}
    suffix = label_paths(form, folder)[0].suffix
    assert {name for name in tree(tmp_path / "out") if name.endswith(suffix)} == {
        f"none{suffix}", f"one{suffix}", f"sub/three{suffix}"
    }  # fmt: skip
    twin = tmp_path / "twin"
    twin.mkdir()
    for name in tree(tmp_path / "out"):
        if name.endswith(suffix):
            (twin / name).parent.mkdir(exist_ok=True)
            (twin / name).write_bytes((tmp_path / "out" / name).read_bytes())
    first, second = (read_faces(place, found) for place in (tmp_path / "labels", twin))
    for name, row in found.items():
        size = tuple(row["size"])
        np.testing.assert_allclose(sides(first.of(name, 0, size)), sides(second.of(name, 0, size)), atol=0.5)


def test_all_in_one_on_standard_output(deid, folder, tmp_path):
    done = deid("detect", "--format", "coco", folder)
    assert done.status == 0 and len(json.loads(done.out)["annotations"]) == 4
    (tmp_path / "coco.json").write_bytes(done.out)
    assert deid("anonymize", "-m", "solid", "--faces", tmp_path / "coco.json", folder, tmp_path / "out").status == 0
    for arguments in (["--format", "yolo"], ["--format", "csv", "--out", "x"]):
        assert deid("detect", *arguments, folder).status == 2


def test_a_picture_without_a_label_is_not_written(deid, folder, tmp_path):
    """A missing text may be one that was lost: the picture fails, as for every list."""
    deid("detect", "--format", "yolo", "--out", tmp_path / "labels", folder)
    (tmp_path / "labels/none.txt").unlink()
    done = deid("anonymize", "-m", "solid", "--faces", tmp_path / "labels", folder, tmp_path / "out")
    assert done.status == 1 and "none.png is not in the list" in done.err
    assert not (tmp_path / "out/none.png").exists() and (tmp_path / "out/one.png").exists()


def test_sidecars_are_carried_along(deid, folder, tmp_path):
    save_text(folder / "one.txt", "0 0.5 0.5 0.2 0.2\n")
    save_text(folder / "notes.weird", "?")
    done = deid("anonymize", "-m", "solid", "--sidecars", "copy", folder, tmp_path / "out")
    assert done.status == 0 and (tmp_path / "out/one.txt").read_bytes() == b"0 0.5 0.5 0.2 0.2\n"
    assert not (tmp_path / "out/notes.weird").exists() and "1 copied" in done.err
    clash = ["--sidecars", "copy", "--labels", "yolo"]
    done = deid("anonymize", "-m", "solid", *clash, folder, tmp_path / "two")
    assert done.status == 2 and "labels of one.png" in done.err and not (tmp_path / "two").exists()


def test_two_pictures_for_one_label(deid, folder, portrait, tmp_path):
    save(portrait, folder / "one.jpg")
    done = deid("anonymize", "-m", "solid", "--labels", "voc", folder, tmp_path / "out")
    assert done.status == 2 and "one.xml" in done.err
