"""EPD-Net's losses are the paper's equations, and `deid train epdnet` in miniature makes presets the method loads."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from deidcli.faces.canonical import mean_mesh
from deidcli.faces.face_model import FaceModel
from deidcli.methods import find
from deidcli.methods.base import Secret
from deidcli.networks.epd_net import EpdConfig, build_critic, build_generator, load, load_verifier, packed
from deidcli.presets import load_preset
from deidcli.training.classifiers import held_out
from deidcli.training.data import Pack, Textures, load_pack, write_textures
from deidcli.training.epd_graph import (
    Losses,
    adversarial,
    build_trainer,
    contrastive,
    crossentropy,
    identities,
    loss_functions,
    mistaken,
    structural,
    unlike,
)
from deidcli.training.epd_net import EMOTIONS, HELD_OUT, gallery, word
from deidcli.training.epd_start import beyond, learn_targets
from deidcli.training.fit import FitOptions, compile_trainer
from deidcli.values import Box, Crop, Face


def numbers(*values):
    return np.array(values, np.float32)


def test_equation_1():
    """Half a chance costs log 2 on either side; a sure right verdict nothing."""
    verdict = np.zeros((2, 3, 3, 1), np.float32)
    both = numbers([1], [0])
    assert np.allclose(adversarial(both, verdict), np.log(2), atol=1e-6)
    assert np.allclose(adversarial(both, verdict + numbers(9, -9)[:, None, None, None]), 0, atol=1e-3)


def test_equations_2_to_6_are_scikit_images():
    metrics = pytest.importorskip("skimage.metrics")
    random = np.random.default_rng(1)
    face = random.random((2, 32, 32, 3), np.float32)
    made = np.clip(face + random.normal(0, 0.2, face.shape), 0, 1).astype(np.float32)
    how = {"win_size": 7, "data_range": 1.0, "channel_axis": 2, "use_sample_covariance": False}
    known = [metrics.structural_similarity(a, b, **how) for a, b in zip(face, made, strict=True)]
    assert np.allclose(structural(face, made), (1 - numbers(*known)) / 2, atol=1e-4)
    assert np.allclose(structural(face, face), 0, atol=1e-6)


def test_equation_9():
    """Of one who is known for sure alpha squared is left, of another nothing, and of a stranger nothing ever."""
    person = numbers([1, 0, 0], [1, 0, 0], [0, 0, 0])
    answer = numbers([1, 0, 0], [0, 1, 0], [1, 0, 0])
    assert np.allclose(contrastive(person, answer, 1.2), [1.44, 0, 0], atol=1e-4)
    half = contrastive(numbers([1, 0]), numbers([0.5, 0.5]), 1.0)
    assert np.allclose(half, (1 - np.sqrt(0.5)) ** 2, atol=1e-5)


def test_nobody_else_is_meant_from_half_an_answer_on():
    """Whoever is named for sure costs the square of OTHERS, the person themselves nothing."""
    person = numbers([1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0])
    answer = numbers([1, 0, 0], [0, 1, 0], [0, 0, 1], [0.4, 0.3, 0.3])
    assert np.allclose(mistaken(person, answer), [0, 0.64, 0.64, 0], atol=2e-3)


def test_equation_10():
    emotion, answer = numbers([1, 0]), numbers([0.8, 0.3])
    assert np.allclose(crossentropy(emotion, answer), -np.log(0.8) - np.log(0.7), atol=1e-5)
    assert np.isfinite(crossentropy(emotion, numbers([0, 1]))).all()


def test_the_recogniser_is_content_from_the_margin_on():
    known = np.zeros((4, 128), np.float32)
    answer = np.zeros((2, 128), np.float32)
    answer[:, 0] = 0.3, 0.9
    assert np.allclose(unlike(known, answer, 0.8), [0.25, 0], atol=1e-4)


def test_section_4():
    """Two of three are no longer themselves, one of whom is taken for somebody else."""
    people = np.eye(3, dtype=np.float32)
    said = numbers([0.9, 0.1, 0], [0.1, 0.2, 0.7], [0.34, 0.33, 0.33])
    found = identities(said, people)
    assert found["self"] == pytest.approx(2 / 3) and found["switching"] == 1
    assert found["missed_1"] == pytest.approx(2 / 3) and found["missed_2"] == 0
    said[1] = 0.05, 0.05, 0.9
    assert identities(said, people)["switching"] == pytest.approx(2 / 3)


def test_a_gallery_names_nobody():
    names = ["Ada_L/1.jpg", "Ada_L/2.jpg", "Ben/1.jpg", "Cy/1.jpg", "Cy/2.jpg"]
    people = gallery(names, 2)
    assert people == sorted({word("Ada_L/7.jpg"), word("Cy/1.jpg")})
    assert not any(who in text for who in ("Ada", "Cy") for text in people)


def test_the_adversary_and_the_generator_take_turns():
    """Each step changes the weights of both, and each of both optimizers knows its own weights alone."""
    config = EpdConfig(32, (8, 8, 12))
    generator, critic = build_generator(config), build_critic(config, (8, 8))
    trainer = build_trainer(generator, critic, {}, None)
    losses = {name: loss_functions(Losses())[name] for name in trainer.output}
    compile_trainer(trainer, losses, FitOptions(rate=0.01, ema=0))
    trainer.compile_adversary(0.01)
    assert len(trainer.trainable_variables) == len(generator.trainable_variables)
    before = [[np.array(v) for v in network.weights] for network in (generator, critic)]
    random = np.random.default_rng(4)
    faces = random.random((4, 32, 32, 3), np.float32)
    given = {"given": packed(faces, random.random((4, config.noise), np.float32))}
    target = {"picture": np.concatenate([faces, faces], axis=-1), "verdict": np.ones((4, 1), np.float32)}
    for _ in range(2):
        said = trainer.train_on_batch(given, target, return_dict=True)
    assert {"adversary", "loss", "verdict_loss", "picture_loss"} <= said.keys()
    for old, network in zip(before, (generator, critic), strict=True):
        assert any(not np.array_equal(a, b) for a, b in zip(old, map(np.array, network.weights), strict=True))
    assert len(trainer.adversary.optimizer.variables) < len(trainer.optimizer.variables)


def test_fine_detail_begins_as_the_picture(tmp_path):
    """A generator with `fine` changes nothing before it has learnt; then it can take single pixels away."""
    config = EpdConfig(32, (8, 8, 12), fine=8)
    generator = build_generator(config)
    random = np.random.default_rng(6)
    faces = random.integers(0, 256, (4, 32, 32, 3), np.uint8)
    noise = random.random((4, config.noise), np.float32)
    given = packed(faces.astype(np.float32) / 255, noise)
    assert np.allclose(generator(given), faces / 255, atol=1e-6)
    pack = Pack(faces, np.zeros((4, 128), np.float32), np.array([f"{i}.png" for i in range(4)]))
    grey, looks = np.full_like(faces, 128), []
    options = FitOptions(steps=60, batch=4, minutes=0.001, ema=0.9)
    learn_targets(generator, config, pack, grey, options, tmp_path, lambda epoch: looks.append(epoch) or {})
    learnt = np.array(generator(given))
    assert looks == [0] and np.abs(learnt - 128 / 255).mean() < 0.6 * np.abs(faces / 255 - 128 / 255).mean()
    farther = beyond(generator, faces, grey, 0.5)
    assert np.abs(farther - np.clip(192 - 0.5 * faces, 0, 255)).max() <= 0.5
    inside = (generator(given) > 0) & (generator(given) < 1) & (learnt > 0) & (learnt < 1)
    assert np.allclose(generator(given)[inside], (1.5 * learnt - 0.5 * faces / 255)[inside], atol=1e-5)


SHORT = ("--steps", 2, "--batch", 4, "--epochs", 1, "--verifier-steps", 1, "--verifier-minutes", 0.01)


@pytest.fixture
def packs(tmp_path, portraits):
    """Faces of nobody, dimmed and shifted, four pictures of each of three people; train.npz and val.npz."""
    random = np.random.default_rng(0)
    for name, people, left in (("train", "abc", 44), ("val", "d", 48)):
        names = [f"{who}/{i}.jpg" for who in people for i in range(4)]
        crops = np.stack([portraits[i % 3][50 + i : 178 + i : 2, left : left + 128 : 2] for i in range(len(names))])
        words = np.array([EMOTIONS[i % 7] if i % 3 else "" for i in range(len(names))])
        descriptors = random.standard_normal((len(names), 128)).astype(np.float32) * 0.1
        Pack(crops, descriptors, np.array(names), labels={"expression": words}).save(tmp_path / f"{name}.npz")
    return tmp_path


def train(deid, folder, *options):
    data = ("--data", folder / "train.npz", "--val", folder / "val.npz", "--out", folder / "made")
    done = deid("train", "epdnet", *data, *SHORT, *options)
    assert done.status == 0 and done.out == b"", done.err
    preset = load_preset(str(folder / "made"), "epdnet")
    preset.verify()
    with (folder / "made.training" / "log.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0"]
    assert all(np.isfinite(list(preset.config["figures"].values())))
    return preset


@pytest.mark.usefixtures("eagerly")
def test_a_preset_for_crops(deid, packs):
    preset = train(deid, packs, "--least", 2, "--channels", "8,8,12")
    assert "aligned crops" in preset.card and {"ssim", "emotion_error", "unmatched"} <= preset.config["figures"].keys()
    assert preset.config["use"] == "research" and "for research only" in preset.card
    assert load(preset).config == EpdConfig(64, (8, 8, 12))
    people = gallery([f"{who}/{i}" for who in "abc" for i in "12"], 2)
    assert load_verifier(preset, "identity").config.heads[0].classes == tuple(people)
    method = find("epdnet").create(find("epdnet").Options(preset=str(preset.folder)), Secret.seeded(1))
    crop = Crop(np.full((64, 64, 3), 90, np.uint8), np.eye(2, 3), Face(Box(0, 0, 64, 64)), "a#0")
    assert method.apply([crop])[0].pixels.shape == (64, 64, 3)


@pytest.mark.usefixtures("eagerly")
def test_targets_are_learnt_first(deid, packs):
    """Of faces that have one; the run then goes on against the adversary."""
    faces = load_pack(packs / "train.npz")
    having = faces.where(np.arange(len(faces)) != 3)
    replace(having, crops=255 - having.crops).save(packs / "targets.npz")
    options = ("--targets", packs / "targets.npz", "--target-minutes", 0.001, "--fine", 4, "--beyond", 0.2)
    preset = train(deid, packs, *options, "--least", 2, "--channels", "8,8,12", "--change", 1, "--switching", 1)
    said = preset.config["training"]
    assert said["targets"] == ["targets.npz"] and "targets.npz" in preset.card
    assert said["faces"] == np.sum(~held_out(having.names, HELD_OUT))
    assert load(preset).config == EpdConfig(64, (8, 8, 12), fine=4)
    with (packs / "made.training" / "targets" / "log.csv").open(newline="") as file:
        assert {"loss", "unmatched"} <= next(csv.DictReader(file)).keys()


@pytest.mark.usefixtures("eagerly")
def test_targets_of_other_files_are_refused(deid, packs):
    data = ("--data", packs / "train.npz", "--val", packs / "val.npz", "--out", packs / "made")
    done = deid("train", "epdnet", *data, *SHORT, "--least", 2, "--targets", packs / "val.npz")
    assert done.status == 2 and "no face of --data" in done.err


@pytest.mark.usefixtures("eagerly")
def test_a_preset_for_textures(deid, tmp_path):
    """Faces that the face model itself draws; those of another licence and of the other split are left out."""
    model = FaceModel(load_preset("face-256", "face-model").file("face_model.npz"))
    drawn = [np.clip(model.picture(c) * 255, 0, 255).astype(np.uint8)[::2, ::2] for c in model.bank_texture[:6]]
    labels = {
        "licence": ["CC0", "CC0", "MIT", "CC0", "other", "CC0"],
        "split": ["train", "train", "train", "val", "train", "val"],
    }
    both = Textures(
        textures=np.stack(drawn),
        seen=np.full((6, 128, 128), 255, np.uint8),
        shapes=np.stack([mean_mesh()] * 6).astype(np.float32),
        dlib=model.bank_dlib[:6],
        sface=model.bank_sface[:6],
        names=np.array([f"{i}.webp" for i in range(6)]),
        labels={name: np.array(words) for name, words in labels.items()} | {"expression": np.array(["neutral"] * 6)},
    )
    for name in ("train", "val"):
        write_textures(both, tmp_path / f"{name}.npz", "")
    frame = ("--model", "face-256", "--starts", 1, "--descriptor", 2)
    preset = train(deid, tmp_path, *frame, "--channels", "8,8,12", "--identity", 0, "--emotion", 0)
    assert preset.config["training"]["faces"] == 3 and preset.config["model"] == "face-256"
    assert load(preset).config.started
    assert set(preset.config["files"]) == {"generator.weights.h5"} and "Verifiers: none" in preset.card
