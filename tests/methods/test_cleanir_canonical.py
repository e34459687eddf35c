"""CLEANIR in the canonical frame: with the shipped face model, on drawn faces."""

from dataclasses import replace
from unittest.mock import patch

import cv2
import numpy as np
import pytest

from deidcli.errors import MethodError, PresetError, UsageError
from deidcli.faces.align import align, apply_affine
from deidcli.faces.blend import BlendOptions, blend
from deidcli.faces.canonical import OUTER_LIPS, canonical, unwrap
from deidcli.faces.face_model import FaceModel, deviations
from deidcli.faces.glasses import rims, sunglasses
from deidcli.faces.landmarks import locate
from deidcli.faces.recognisers import recogniser
from deidcli.faces.regions import hidden, rim_distance, tone_and_light
from deidcli.methods.base import Secret
from deidcli.methods.cleanir import MIXED, PAIRS, CanonicalCleanir, Cleanir
from deidcli.methods.new_face import _grain, _seam, draw, is_dark, mesh_of, read
from deidcli.methods.tone import WIDE, lit
from deidcli.presets import load_preset
from deidcli.values import Frame


@pytest.fixture(scope="module")
def method():
    made = Cleanir.create(Cleanir.Options(preset="cleanir-256"), Secret.seeded(1))
    assert isinstance(made, CanonicalCleanir) and made.name == "cleanir"
    return made


@pytest.fixture(scope="module")
def model(method) -> FaceModel:
    return method.models.model


@pytest.fixture(scope="module")
def crop(method, frame, face):
    return align(frame, face, method.crop, "one#0")


@pytest.fixture(scope="module")
def made(method, crop):
    return method.apply([crop])[0]


def placed(made, frame, method):
    return blend(frame, made, method.crop, BlendOptions())


def test_a_window_is_the_frames_own_pixels(crop, frame):
    left, top = (-int(shift) for shift in crop.transform[:, 2])
    height, width = crop.pixels.shape[:2]
    assert np.array_equal(crop.pixels, frame.pixels[top : top + height, left : left + width])


def test_another_person_stands_there_for_both_recognisers(method, made, frame, face):
    new = placed(made, frame, method).frame.pixels
    for judge in map(recogniser, ("dlib", "sface")):
        old, other = (judge.embed(judge.chips(pixels, [face])) for pixels in (frame.pixels, new))
        assert judge.distance(old, other)[0] > judge.threshold


def test_only_the_head_changes(method, made, frame, face):
    done = placed(made, frame, method)
    assert np.array_equal(done.frame.pixels[~done.changed], frame.pixels[~done.changed])
    where = np.argwhere(done.changed)
    (top, left), (bottom, right) = where.min(axis=0), where.max(axis=0)
    around = face.box.scaled(2.0)
    assert left >= around.left and top >= around.top and right <= around.right and bottom <= around.bottom
    assert done.changed[int(face.box.center[1]), int(face.box.center[0])]


def test_pose_and_place_stay(method, made, frame, face):
    new = placed(made, frame, method).frame.pixels
    again = locate(new, [replace(face, landmarks=None)])[0].landmarks
    apart = np.linalg.norm(again - face.landmarks, axis=1)
    assert apart.mean() < 0.06 * face.box.height


def test_tone_stays(made, model, crop):
    mesh = mesh_of(crop)
    old, new = (tone_and_light(unwrap(c.pixels, mesh)[0].astype(np.float32) / 255)[:3] for c in (crop, made))
    assert np.abs(old - new).max() < 0.08


def test_one_seed_one_face_in_any_company(method, crop, made, portraits):
    others = [
        align(Frame(p), f, method.crop, f"{n}#0")
        for n, p in enumerate(portraits[1:])
        for f in locate(p, [replace(crop.face, landmarks=None)])
        if f.landmarks is not None
    ]
    alone = Cleanir.create(method.options, Secret.seeded(1)).apply([crop])[0]
    company = Cleanir.create(method.options, Secret.seeded(1)).apply([*others, crop])[-1]
    assert np.array_equal(alone.pixels, made.pixels) and np.array_equal(company.pixels, made.pixels)


def test_another_secret_tries_other_faces(method, crop):
    """The first that is far enough may be the same one, where few are."""
    old, seen = method.models.described(crop.pixels, crop), method.models.read(crop)
    one, other = (
        Cleanir.create(method.options, Secret.seeded(seed)).candidates(seen.reading, old, crop.key) for seed in (1, 2)
    )
    assert not np.array_equal(one.shape[:8], other.shape[:8])


def test_one_key_keeps_its_identity(method, crop):
    """A later frame of a track, darker, gets the same person: texture and shape are those that were chosen first."""
    ours = Cleanir.create(method.options, Secret.seeded(1))
    ours.apply([crop])
    darker = crop.with_pixels((crop.pixels * 0.7).astype(np.uint8))
    before = ours._identities[crop.key]
    made = ours.apply([darker])[0]
    assert ours._identities[crop.key] is before
    assert made.pixels[made.layer.alpha > 0.9].mean() < 0.8 * crop.pixels[made.layer.alpha > 0.9].mean()


def test_zero_degrees_is_the_nearest_of_the_bank_and_no_search(method, crop):
    kept = Cleanir.create(replace(method.options, angle=0.0), Secret.seeded(1)).apply([crop])[0]
    again = Cleanir.create(replace(method.options, angle=0.0), Secret.seeded(9)).apply([crop])[0]
    assert np.array_equal(kept.pixels, again.pixels)  # no secret is left at 0 degrees


@pytest.mark.parametrize("gender", [-0.4, 0.4])
def test_gender_is_kept_even_where_it_is_hardly_read(method, model, crop, gender):
    old = method.models.described(crop.pixels, crop)
    reading = read(model, crop, old[0]).reading
    reading.kept[0] = gender
    ours = method.models.model
    with patch.object(ours, "bank_shape", (ours.bank_kept[:, :1] * gender > 0).astype(float)):
        mixed = method.candidates(reading, old, "one#0").shape
    assert len(mixed) > 100 and np.allclose(mixed, MIXED.sum())


def test_candidates_are_mixtures_of_two_that_are_as_distinct_as_one(method, model, crop):
    old, seen = method.models.described(crop.pixels, crop), method.models.read(crop)
    made = method.candidates(seen.reading, old, "one#0")
    assert len(made.texture) == len(made.shape) == len({row.tobytes() for row in made.texture}) == PAIRS
    lengths, bank = (np.linalg.norm(rows, axis=1).mean() for rows in (made.texture, model.bank_texture))
    assert 0.85 * bank < lengths < 1.3 * bank
    more = np.linspace(-1, 1, made.texture.shape[1] + made.shape.shape[1])
    moved = made.made(0, more).shape - made.made(0, 0 * more).shape
    assert np.allclose(moved, model.drawn(*np.split(more, [made.texture.shape[1]]), np.zeros(2)).shape)


def test_a_face_of_another_gender_is_farther_than_any_of_the_same(model):
    apart = deviations(model.bank_kept, np.full(9, 0.2, np.float32))
    assert apart[model.bank_kept[:, 0] < 0, 0].min() > apart[model.bank_kept[:, 0] > 0].sum(axis=1).max()
    assert np.array_equal(apart[:, 1:], (model.bank_kept[:, 1:] - np.float32(0.2)) ** 2)


def test_a_beard_is_darker_skin_about_the_mouth_and_counts_for_men_alone(model, method, crop):
    lips = canonical().points[OUTER_LIPS].mean(axis=0)
    y, x = np.indices((256, 256))
    about = np.exp(-(((x - lips[0]) / 34) ** 2 + ((y - lips[1]) / 26) ** 2))[..., None]
    rows = [np.broadcast_to(picture, (256, 256, 3))[canonical().inside].reshape(-1) @ model.components.T
            for picture in (-0.5 * about, 0.5 * x[..., None] / 256, 0.5 * (y[..., None] / 256) ** 2)]  # fmt: skip
    beard, side, above = (float(model.beard(row) - model.beard(0 * row)) for row in rows)
    assert beard > 0.8 and max(abs(side), abs(above)) < 0.25 * beard
    reading = read(model, crop, method.models.described(crop.pixels, crop)[0]).reading
    for gender, counts in ((-1.0, True), (1.0, False)):
        reading.kept[0] = gender
        assert model.apart(reading).shape == (model.faces, 6) and model.apart(reading)[:, 5].any() == counts


def test_what_has_no_features_of_a_face_gets_no_new_one(method, model, crop):
    """A sleeve where the mesh says that there is a face: covered, and not painted over with one."""
    reading = read(model, crop, method.models.described(crop.pixels, crop)[0]).reading
    assert model.resemblance(reading) > 0.3
    sleeve = replace(crop, pixels=np.ascontiguousarray(crop.pixels[::-1, ::-1]), key="sleeve#0")
    with pytest.raises(MethodError, match="features"):
        method.apply([sleeve])
    dim = replace(crop, pixels=crop.pixels // 6)
    lights = [read(model, each, method.models.described(each.pixels, each)[0], soft) for each in (crop, dim)
              for soft in (False, True)]  # fmt: skip
    assert [is_dark(seen) for seen in lights] == [False, False, True, True]


def test_identities_bring_no_hair_line(model):
    """Nothing of an identity's texture is drawn at the rim of the forehead, and all of it below and within."""
    identity = model.decoded(*model.mixtures(np.arange(2), np.array([0.8, 0.6])), np.zeros(2))
    whole = model.picture(np.array([0.8, 0.6]) @ model.bank_texture[:2], mean=False)
    rows, rim = np.arange(256)[:, None], rim_distance()
    assert not identity.texture[(rim > 0) & (rim < 6) & (rows < 110)].any()
    assert np.array_equal(identity.texture[(rim > 31) | (rows > 151)], whole[(rim > 31) | (rows > 151)])


def test_what_a_gender_hardly_has_goes(model):
    women, men = (model.bank_texture[model.bank_kept[:, 0] * sign > 0] for sign in (1, -1))
    inverse = np.linalg.inv(np.cov(women.T) + 1e-3 * np.eye(women.shape[1]))
    before, after = men[:50], np.stack([model.typical(row, 1.0) for row in men[:50]])
    rare = [np.einsum("ij,jk,ik->i", rows, inverse, rows) for rows in (before, after)]
    assert np.mean(rare[1] < rare[0]) > 0.9 and np.mean(rare[1]) < 0.7 * np.mean(rare[0])
    assert np.allclose(*(np.linalg.norm(rows, axis=1) for rows in (before, after)), rtol=1e-3)


def test_it_escalates_to_larger_angles_and_other_faces(method, crop):
    level, said = method, []
    for attempt in range(1, 9):
        level = level.escalate(attempt)
        if level is None:
            break
        said.append((level.options.angle, level.options.keep))
        assert level.secret is method.secret and level.models is method.models
    kept = method.options.keep
    assert said == [(150.0, kept), (180.0, kept), (180.0, "gender"), (180.0, "none")]
    assert level is None


def test_a_face_that_seems_hidden_is_not_done(model, method, crop):
    dlib = method.models.described(crop.pixels, crop)[0]
    seen = read(model, crop, dlib)
    identity = model.drawn(*model.mixtures(np.array([0, 1]), MIXED), seen.reading.kept[:2])
    over = replace(seen, reading=replace(seen.reading, hidden=np.ones((256, 256), np.float32)))
    with pytest.raises(MethodError, match="hidden"):
        draw(model, over, identity, 1.0)


def test_a_hand_over_the_chin_stays(method, frame, face):
    """What comes in over the rim and is no face lies over the new face, too."""
    covered = frame.pixels.copy()
    chin = face.landmarks[8]
    size = face.box.height
    low = int(chin[1] - 0.16 * size), int(chin[0] - 0.2 * size)
    high = int(chin[1] + 0.2 * size), int(chin[0] + 0.2 * size)
    covered[low[0] : high[0], low[1] : high[1]] = (20, 60, 200)
    crop = align(Frame(covered), face, method.crop, "hand#0")
    done = placed(
        Cleanir.create(method.options, Secret.seeded(1)).apply([crop])[0], Frame(covered), method
    ).frame.pixels
    middle = int(chin[1] - 0.05 * size), int(chin[0])
    assert np.abs(done[middle].astype(int) - (20, 60, 200)).max() < 25


def test_hidden_is_what_reaches_the_rim():
    unlike = np.zeros((64, 64), np.float32)
    unlike[50:64, 26:40] = 0.5
    assert hidden(unlike)[235, 128] > 0.9 and hidden(unlike)[100, 128] == 0
    spot = np.zeros((64, 64), np.float32)
    spot[36:41, 18:23] = 0.5
    assert hidden(spot).max() == 0


def test_sunglasses_cover_both_eyes(model):
    face = model.base(np.zeros_like(model.kept_mean))
    assert sunglasses(face).max() == 0 and sunglasses(face * 0.3).max() == 0
    glasses = face.copy()
    glasses[72:125, 40:216] = 0.05
    assert sunglasses(glasses)[100, 80] > 0.9 and sunglasses(glasses)[200, 128] == 0
    one_eye = face.copy()
    one_eye[72:125, 40:110] = 0.05
    assert sunglasses(one_eye).max() == 0


def test_rims_are_lines_about_both_eyes(model):
    face = model.base(np.zeros_like(model.kept_mean))
    assert rims(face) is None
    for x in (84, 171):
        cv2.ellipse(face, (x, 92), (34, 26), 0, 0, 360, (0.05, 0.05, 0.05), 3)
    found = rims(face)
    assert found[118, 84] > 0.9 and found[92, 118] > 0.9 and found[160:].max() == 0
    one_eye = model.base(np.zeros_like(model.kept_mean))
    cv2.ellipse(one_eye, (84, 92), (34, 26), 0, 0, 360, (0.05, 0.05, 0.05), 3)
    assert rims(one_eye) is None


def test_thin_glasses_stay_unless_they_are_to_go(method, frame, face):
    worn = frame.pixels.copy()
    for eye in (face.landmarks[36:42], face.landmarks[42:48]):
        (x, y), width = eye.mean(axis=0), np.ptp(eye[:, 0])
        cv2.ellipse(worn, (int(x), int(y)), (int(0.9 * width), int(0.7 * width)), 0, 0, 360, (10, 10, 10), 3)
    crop = align(Frame(worn), face, method.crop, "glasses#0")
    kept, removed = (
        Cleanir.create(replace(method.options, glasses=how), Secret.seeded(1)).apply([crop])[0].pixels
        for how in ("keep", "remove")
    )
    below = crop.transform @ [*(face.landmarks[36:42].mean(axis=0) + (0, 0.7 * width)), 1]
    x, y = (int(v) for v in below)
    here = np.s_[y - 6 : y + 7, x - 2 : x + 3]
    assert kept[here].min() < 60 < removed[here].min()


def test_a_dark_rim_does_not_make_a_face_bright():
    """The rim of a profile may be hair, or lie before a wall; a small difference there is spread as it is."""
    y, x = np.mgrid[-40:40, -40:40] / 40
    away = np.hypot(x, y)
    cover = np.clip((0.8 - away) * 10, 0, 1).astype(np.float32)
    old = np.full((80, 80, 3), 0.4, np.float32)

    def changed(rim):
        face = np.where((away > 0.6)[..., None], np.float32(rim), old)
        return _seam(old, face, cover)[30:50, 30:50].mean()

    assert changed(0.38) == pytest.approx(0.7 * 0.02, rel=0.1)
    assert 0.02 < changed(0.0) < 0.15 * 0.4 * 1.1 and changed(0.8) < -0.02


def test_grain_is_made_up_for_by_noise(crop):
    random = np.random.default_rng(2)
    flat = np.full((120, 120, 3), 0.5, np.float32)
    grainy = flat + random.normal(0, 0.03, (120, 120, 1)).astype(np.float32)
    everywhere = np.ones((120, 120), bool)
    made = flat + _grain(grainy, flat, everywhere)
    assert np.std(made) == pytest.approx(np.std(grainy), rel=0.25)
    assert abs(np.corrcoef(made[..., 0].ravel(), grainy[..., 0].ravel())[0, 1]) < 0.1  # another noise, not the old face
    assert np.abs(_grain(flat, grainy, everywhere)).max() < 1e-3 and not _grain(grainy, flat, ~everywhere).any()


def test_contrast_tone_and_light_are_the_photographs(model, method, crop):
    seen = read(model, crop, method.models.described(crop.pixels, crop)[0])
    soft = replace(seen.reading, texture=cv2.GaussianBlur(seen.reading.texture, (0, 0), 4))
    texture = model.base(seen.reading.kept)
    sharp, blurred = lit(texture, seen.reading), lit(texture, soft)

    def grain(picture):
        return np.abs(picture - cv2.GaussianBlur(picture, (0, 0), 1)).mean()

    assert grain(blurred) < 0.6 * grain(sharp)
    shifted = replace(seen.reading, texture=seen.reading.texture * 0.5)
    assert tone_and_light(lit(texture, shifted))[:3] == pytest.approx(tone_and_light(shifted.texture)[:3], abs=0.03)


def test_a_new_face_in_the_dark_has_little_contrast(model, method, crop):
    """At first; the stronger settings have more of it, by which recognisers tell it apart."""
    night = crop.with_pixels(cv2.GaussianBlur(crop.pixels, (0, 0), 5) // 16)
    dlib = method.models.described(crop.pixels, crop)[0]
    hard, soft = (read(model, night, dlib, soft=each) for each in (False, True))
    assert hard.exposure == 1 < soft.exposure < 5 and method.soft and not method.escalate(1).soft
    assert read(model, crop, dlib, soft=True).exposure == 1
    identity = model.drawn(*model.mixtures(np.array([0, 1]), MIXED), soft.reading.kept[:2])
    rough, smooth = (draw(model, seen, identity, 1.0).pixels.astype(float) for seen in (hard, soft))
    face = np.s_[tuple(slice(int(a), int(b)) for a, b in zip(*_inner(soft.mesh), strict=True))]
    assert smooth[face].mean() == pytest.approx(night.pixels[face].mean(), rel=0.15)
    assert smooth[face].std() < 0.8 * rough[face].std()


def _inner(mesh):
    """First and last row and column of the middle of a face."""
    low, high = mesh[:, 1::-1].min(axis=0), mesh[:, 1::-1].max(axis=0)
    return low + (high - low) / 4, high - (high - low) / 4


def test_the_smaller_a_face_the_less_of_it_is_taken_for_light(model, method, crop):
    """Features of a face of 14 pixels are as wide as light is of a large one."""
    seen = read(model, crop, method.models.described(crop.pixels, crop)[0])
    across = 0.1 * np.sin(np.arange(256) * (2 * np.pi / 64), dtype=np.float32)[None, :, None]
    striped = replace(seen.reading, texture=np.full((256, 256, 3), 0.5, np.float32) + across)
    flat = np.full((256, 256, 3), 0.5, np.float32)
    large, small = (np.ptp(lit(flat, striped, width)[128, 80:176, 0]) for width in (WIDE, 6.0))
    assert small < 0.4 * large
    tiny = crop.with_pixels(cv2.resize(crop.pixels, None, fx=0.12, fy=0.12, interpolation=cv2.INTER_AREA))
    widths = []
    for one in (seen, replace(seen, crop=tiny, mesh=seen.mesh * 0.12)):
        with patch("deidcli.methods.new_face.lit", lambda texture, reading, width: widths.append(width) or texture):
            draw(model, one, model.drawn(*model.mixtures(np.array([0, 1]), MIXED), seen.reading.kept[:2]), 1.0)
    assert widths[0] == WIDE < 2 * WIDE < widths[1]


def test_expression_and_gaze_come_from_the_photograph(made, crop):
    """Between the lids and the lips lie the photograph's own pixels, moved."""
    marks = apply_affine(crop.transform, crop.face.landmarks)
    for part in (slice(36, 42), slice(42, 48)):
        x, y = marks[part].mean(axis=0)
        size = max(3, int(0.1 * np.ptp(marks[:, 0])))
        here = np.s_[int(y) - size : int(y) + size, int(x) - 2 * size : int(x) + 2 * size]
        old, new = (cv2.cvtColor(c.pixels, cv2.COLOR_RGB2GRAY)[here].astype(np.float32) for c in (crop, made))
        core = old[size // 2 : -size // 2, size:-size]
        assert cv2.matchTemplate(new, core, cv2.TM_CCOEFF_NORMED).max() > 0.6


@pytest.mark.parametrize("keep", ["nose", "gender,", "gender,age,hair"])
def test_keep_names_traits(method, keep):
    with pytest.raises(UsageError):
        Cleanir.create(replace(method.options, keep=keep))


def test_a_damaged_model_is_refused(tmp_path):
    (tmp_path / "face_model.npz").write_bytes(b"PK no archive")
    with pytest.raises(PresetError):
        FaceModel(tmp_path / "face_model.npz")


def test_the_shipped_model_is_of_free_faces():
    preset = load_preset("face-256", "face-model")
    preset.verify()
    assert preset.config["licences"] == ["CC0", "MIT"] and "Companies may use it" in preset.card
