"""`deid train fatm` in miniature: drawn faces in, presets out that the method loads."""

import csv
from dataclasses import replace

import cv2
import numpy as np
import pytest

from deidcli.faces.recognisers.shipped import WEIGHTS
from deidcli.methods.base import Secret
from deidcli.methods.fatm import CanonicalFatm, Fatm
from deidcli.networks.fatm import FatmConfig, build_decoder, build_encoder
from deidcli.presets import load_preset
from deidcli.training.data import Pack, Textures, load_textures, write_textures
from deidcli.training.fatm import ByTurns, Recipe, build_trainer
from deidcli.training.fatm_preset import made_of_nobody, textures_of
from deidcli.training.fit import FitOptions
from tests.conftest import found, save

SMALL = ("--width", 0.02, "--steps", 2, "--epochs", 1, "--batch", 2, "--together", 1)
CONSENT = ("--consent", "signed 2026-03-02, ref 17")
needs_sface = pytest.mark.skipif(WEIGHTS.find() is None, reason="the weights of sface are missing")


def test_one_update_is_one_donors():
    """An update with the pictures of one donor changes the encoder and that donor's decoder, and no other one."""
    config = FatmConfig(32, 32, 1 / 64)
    encoder, decoders = build_encoder(config), [build_decoder(config, name) for name in "ab"]
    trainer = build_trainer(encoder, decoders)
    trainer.compile(optimizer=ByTurns(0.01), loss={"face": "mean_absolute_error"})
    pictures = np.random.default_rng(2).random((3, 32, 32, 3), np.float32)
    for turn in (1, 0, 1):  # the momentum of an earlier turn moves nothing either
        before = [network.get_weights() for network in (encoder, *decoders)]
        given = {"picture": pictures, "whose": np.full(3, turn, np.int32)}
        trainer.train_on_batch(given, {"face": pictures})
        moved = [
            any(not np.array_equal(a, b) for a, b in zip(old, network.get_weights(), strict=True))
            for old, network in zip(before, (encoder, *decoders), strict=True)
        ]
        assert moved == [True, turn == 0, turn == 1]


@pytest.fixture
def packs(tmp_path, portraits):
    """Crops of two donors with their landmarks: a.npz and b.npz."""
    for name, pixels in zip("ab", portraits, strict=False):
        face, side = found(pixels)[0], len(pixels)
        crop = cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA)
        marks = np.repeat((face.landmarks * 64 / side)[None], 10, axis=0).astype(np.float32)
        crops = np.stack([np.clip(crop * (0.8 + 0.03 * i), 0, 255).astype(np.uint8) for i in range(10)])
        names = np.array([f"{i}.jpg" for i in range(10)])
        licences = {"licence": np.array(["CC0", "MIT"] * 5)}
        Pack(crops, np.full((10, 128), 0.1, np.float32), names, marks, licences).save(tmp_path / f"{name}.npz")
    return tmp_path


@pytest.mark.usefixtures("eagerly")
@needs_sface
def test_the_papers_network_learns_from_crops(deid, packs, portraits):
    out = packs / "crops"
    sources = ("--donor", f"one={packs / 'a.npz'}", "--donor", f"two={packs / 'b.npz'}")
    done = deid("train", "fatm", *sources, *CONSENT, "--out", out, *SMALL)
    assert done.status == 0, done.err
    preset = load_preset(str(out), "fatm")
    preset.verify()
    assert preset.config["donors"] == dict.fromkeys(("one", "two"), CONSENT[1]) and CONSENT[1] in preset.card
    assert "a.npz, b.npz, whose licences are CC0 and MIT" in preset.card
    added = deid("train", "fatm", "--donor", f"three={packs / 'b.npz'}", *CONSENT, "--start", out,
                 "--out", packs / "more", *SMALL)  # fmt: skip
    assert added.status == 0, added.err
    more = load_preset(str(packs / "more"), "fatm")
    same = [name for name, checksum in preset.config["files"].items() if more.config["files"].get(name) == checksum]
    assert {"decoder-one.weights.h5", "decoder-two.weights.h5"} <= set(same)
    assert list(more.config["donors"]) == ["one", "two", "three"]
    method = Fatm.create(Fatm.Options(donor="three", preset=str(more.folder)), Secret.seeded(1))
    assert type(method) is Fatm and method.crop.size == 64 and method.crop.mask == "full"
    paper = Fatm.create(Fatm.Options(donor="three", preset=str(more.folder), paper=True))
    assert paper.crop.mask == "inner" and not paper.crop.transfer_lighting


@pytest.fixture(scope="module")
def frame(portraits, tmp_path_factory):
    """A folder with textures.npz (three people who do not exist, one in nine expressions), pictures/ and donors.csv."""
    folder = tmp_path_factory.mktemp("fatm")
    for number, pixels in enumerate(portraits):
        save(pixels, folder / "pictures" / f"{number}.png")
    pack = textures_of(folder / "pictures")
    moved = replace(pack.where(np.zeros(8, int)), names=np.array([f"moved{i}.png" for i in range(8)]))
    brighter = np.clip(moved.textures[:, 150:200].astype(int) + 20, 0, 255).astype(np.uint8)
    moved.textures[:, 150:200] = brighter
    moved.shapes[:, 13] += (0, -0.02, 0)
    names = np.array([f"{i}.png" for i in range(len(pack))])
    labels = {"person": np.array(["p", *[""] * (len(pack) - 1), *["p"] * 8])}
    labels["expression"] = np.array(["neutral", *[""] * (len(pack) - 1), *["happiness"] * 8])
    joined = {key: np.concatenate([getattr(pack, key), getattr(moved, key)]) for key in
              ("textures", "shapes", "dlib", "sface")}  # fmt: skip
    seen = np.full(joined["textures"].shape[:3], 255, np.uint8)
    whole = Textures(**joined, seen=seen, names=np.concatenate([names, moved.names]), labels=labels)
    write_textures(whole, folder / "textures.npz", "")
    with (folder / "donors.csv").open("w", newline="") as file:
        rows = [("first", "0.png", 0.6), ("first", "1.png", 0.4), ("second", "2.png", 1)]
        csv.writer(file).writerows([("donor", "file", "weight"), *rows])
    return folder


@pytest.fixture(scope="module")
def made(frame):
    recipe = Recipe(FatmConfig(64, 128, 0.02, residual=True), FitOptions(epochs=1, steps=2, batch=2))
    return made_of_nobody(frame / "textures.npz", frame / "donors.csv", recipe, frame / "made", frame / "work")


@needs_sface
def test_donors_who_do_not_exist(made, frame):
    made.verify()
    assert made.config["donors"] == {"first": "does not exist", "second": "does not exist"}
    assert (made.folder / "donors.csv").read_bytes() == (frame / "donors.csv").read_bytes()
    method = Fatm.create(Fatm.Options(preset=str(made.folder)), Secret.seeded(1))
    assert isinstance(method, CanonicalFatm)
    first, second = (donor.identity for donor in method.models.donors)
    assert not np.allclose(first.texture, second.texture) and not np.allclose(first.shape, second.shape)


@pytest.mark.usefixtures("eagerly")
@needs_sface
def test_a_donor_of_ones_own(deid, made, frame):
    """Pictures of a person become a donor beside those of the preset, whose encoder and decoders stay as they are."""
    out = frame / "own"
    alice = ("--donor", f"alice={frame / 'pictures'}")
    done = deid("train", "fatm", *alice, *CONSENT, "--start", made.folder, "--out", out, *SMALL)
    assert done.status == 0, done.err
    preset = load_preset(str(out), "fatm")
    assert preset.config["donors"]["alice"] == CONSENT[1] and len(preset.config["donors"]) == 3
    for name in ("encoder.weights.h5", "decoder-first.weights.h5"):
        assert (out / name).exists() and preset.config["files"][name]
    assert preset.config["files"]["decoder-first.weights.h5"] == made.config["files"]["decoder-first.weights.h5"]
    method = Fatm.create(Fatm.Options(donor="alice", preset=str(out)), Secret.seeded(1))
    assert [donor.name for donor in method.models.donors] == ["first", "second", "alice"]


@pytest.mark.usefixtures("eagerly")
@needs_sface
def test_who_looks_like_somebody_known_is_left_out(deid, made, frame, tmp_path):
    pack = load_textures(frame / "textures.npz")
    known = pack.where(np.array([2]))
    write_textures(replace(known, names=np.array(["known/2.png"])), tmp_path / "known.npz", "")
    data = ("--data", frame / "textures.npz", "--donors", frame / "donors.csv", "--pictures", frame / "pictures")
    done = deid("train", "fatm", *data, "--known", tmp_path / "known.npz", "--out", tmp_path / "made", *SMALL)
    assert done.status == 0 and "second is left out" in done.err, done.err
    assert list(load_preset(str(tmp_path / "made"), "fatm").config["donors"]) == ["first"]
    random = np.random.default_rng(3).standard_normal((len(pack), 128)).astype(np.float32)
    strangers = replace(pack, dlib=random, sface=random, names=np.char.add("known/", pack.names))
    write_textures(strangers, tmp_path / "known.npz", "")
    done = deid("train", "fatm", *data, "--known", tmp_path / "known.npz", "--out", tmp_path / "all", *SMALL)
    assert done.status == 0, done.err
    preset = load_preset(str(tmp_path / "all"), "fatm")
    likeness = preset.config["figures"]["likeness"]
    assert all(rows["known"]["both"] > 1 for rows in likeness.values()) and len(likeness) == 2
    assert "| second |" in preset.card


@pytest.mark.parametrize(
    "options, said",
    [
        ((), "--donor"),
        (("--donor", "alice=here"), "--consent"),
        (("--donor", "alice", *CONSENT), "NAME=SOURCE"),
        (("--donor", "a/b=here", *CONSENT), "NAME=SOURCE"),
        (("--donors", "x.csv"), "--data"),
        (("--donors", "x.csv", "--data", "x.npz", "--known", "y.npz"), "--pictures"),
        (("--donor", "alice=nowhere.mp4", *CONSENT), "nowhere.mp4"),
    ],
)
def test_usage(deid, tmp_path, options, said, monkeypatch):
    monkeypatch.delenv("DEID_DATA", raising=False)  # it would be taken for --data
    done = deid("train", "fatm", *options, "--out", tmp_path / "out", *SMALL)
    assert done.status != 0 and said in done.err and not (tmp_path / "out").exists()
