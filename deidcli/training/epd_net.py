"""How EPD-Net is trained: a pack to a preset. First the two verifiers, then the generator against all of them.

The paper's network translates aligned crops. Where faces have targets, the generator learns these first
(`training/epd_start.py`). Where a face model is named, the data are textures in the canonical frame
(`training/data.py`), and the generator starts from the texture that the model draws of another identity.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

import cv2
import keras
import numpy as np
from PIL import Image

from deidcli.errors import UsageError
from deidcli.faces.align import INNER
from deidcli.faces.canonical import IBUG, SIZE, canonical
from deidcli.faces.face_model import FaceModel
from deidcli.methods.epdnet import MIXED, drawn_faces, within
from deidcli.networks.classifiers import Head
from deidcli.networks.epd_net import (
    METHOD,
    VERIFIERS,
    EpdConfig,
    Translator,
    build_critic,
    build_generator,
    load,
    packed,
    save,
)
from deidcli.networks.store import Network
from deidcli.presets import Preset, load_preset, save_preset
from deidcli.training import classifiers
from deidcli.training.data import MARGIN, Pack, Textures, check_apart, chip_samplers, load_pack, load_textures
from deidcli.training.epd_graph import Losses, answers, build_trainer, loss_functions, measure, translated
from deidcli.training.epd_start import beyond, learn_targets, targets_of
from deidcli.training.face_model import SEEN, completed
from deidcli.training.fit import FitOptions, compile_trainer, fit
from deidcli.training.sampling import Augment, batches

EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
VERIFIED = 64  # side in pixels of what the verifiers see
HELD_OUT = 0.2  # share of the pictures that nothing learns from, by a hash of their names
FACES, QUICK = 12, 96  # columns of a sheet, and faces that are measured after an epoch


@dataclass(frozen=True)
class Recipe:
    """All that decides what is trained.

    channels, size, fine: of EpdConfig. target_minutes, target_batch: how long targets are learnt, where faces have
    some, and in batches of how many; beyond: how far beyond them the generator goes then. model: a face model's preset,
    "" for aligned crops. licences: of the textures that are learnt from, where the pack says them. starts: of how many
    identities the model draws each face. least: pictures of a person from which on the identity verifier knows them; 0
    for no such verifier. labels: the column with the emotions of the faces; "" for no emotion verifier. vgg, xception:
    channels of the verifiers; verifier_minutes: the time of each. adversary_rate: the learning rate of the adversary.
    """

    channels: tuple[int, ...] = (32, 64, 96, 128)
    size: int = 64
    fine: int = 0
    beyond: float = 0.0
    target_minutes: float = 20.0
    target_batch: int = 16
    model: str = ""
    licences: str = "CC0,MIT"
    starts: int = 4
    least: int = 12
    labels: str = "expression"
    vgg: tuple[int, ...] = (16, 32, 64, 128, 128)
    xception: tuple[int, ...] = (8, 16, 32, 64, 128)
    verifier_minutes: float = 8.0
    verifier_steps: int = 100
    adversary_rate: float = 4e-4
    losses: Losses = field(default_factory=Losses)
    fit: FitOptions = field(default_factory=FitOptions)

    def network(self) -> EpdConfig:
        return EpdConfig(self.size, self.channels, bool(self.model), self.fine)


@dataclass(frozen=True)
class Faces:
    """What the generator learns from; all rows belong together.

    pack: the faces, at the generator's side. starts: (n, starts, side, side, 3) uint8 of the face model, or None.
    people: (n, M) one-hot, nothing for whom the verifier does not know. emotions: (n, 7) in [0, 1]. targets: (n, side,
    side, 3) uint8, how another method draws them, or None.
    """

    pack: Pack
    starts: np.ndarray | None
    people: np.ndarray
    emotions: np.ndarray
    targets: np.ndarray | None = None

    @property
    def given(self) -> np.ndarray:
        """The faces, each with the first of its starts behind it, (n, side, side, 3 or 6) uint8."""
        return self.pack.crops if self.starts is None else np.concatenate([self.pack.crops, self.starts[:, 0]], axis=-1)

    def where(self, rows: np.ndarray) -> Faces:
        """The rows that a mask (n,) bool or an array of indices picks."""
        starts, targets = (None if each is None else each[rows] for each in (self.starts, self.targets))
        return Faces(self.pack.where(rows), starts, self.people[rows], self.emotions[rows], targets)

    def answered(self, verifiers: dict[str, keras.Model], people: Sequence[str]) -> Faces:
        """With I_x, the people of the gallery, and E_x, emotions as the verifier sees them: Table I compares these, and
        with labels it would be more certain of new faces than of the old ones.
        """
        identity, emotions = self.people, self.emotions
        if "identity" in verifiers:
            words = np.array([word(name) for name in self.pack.names])
            identity = (words[:, None] == np.array(people)[None]).astype(np.float32)
        if "emotion" in verifiers:
            emotions = answers(verifiers["emotion"], self.pack.crops)
        return replace(self, people=identity, emotions=emotions)


def train(
    data: Sequence[Path], val: Path, recipe: Recipe, out: Path, work: Path, targets: Sequence[Path] = ()
) -> Preset:
    """Train on the packs `data` and write the preset `out`; checkpoints, log and sheets go to `work`.

    targets: packs of the same pictures after another method; where there are some, the generator learns from the faces
    that have one.
    Raises UsageError for packs that cannot be used together, or a person who is in both.
    """
    faces, strangers = (_read(paths, recipe, split) for paths, split in ((data, "train"), ([val], "val")))
    check_apart(faces.pack, strangers.pack)
    people = gallery(faces.pack.names, recipe.least) if recipe.least and recipe.losses.identity else []
    kept = classifiers.held_out(faces.pack.names, HELD_OUT if people and recipe.least > 1 else 0.0)
    faces, known = faces.where(~kept), faces.where(kept)
    having, drawn = targets_of(faces.pack.names, targets, recipe.size) if targets else (None, None)
    verifiers = _verifiers(faces.pack, people, recipe, work)
    faces, known, strangers = (each.answered(verifiers, people) for each in (faces, known, strangers))
    known = known.where(known.people.sum(axis=1) > 0)
    if having is not None:
        faces = replace(faces.where(having), targets=drawn)
    config, samplers = recipe.network(), _samplers(recipe)
    generator, seen_by = build_generator(config), samplers if recipe.losses.descriptor else None
    seen, unseen = (
        each.where(np.random.default_rng(3).permutation(len(each.pack))[:QUICK]) for each in (known, strangers)
    )

    def look(epoch: int) -> dict[str, float]:
        save_sheet(Translator(config, Network.of(generator)), unseen, work / "sheet.png")
        return measure(Translator(config, Network.of(generator)), seen, unseen, verifiers, samplers)

    if faces.targets is not None:
        options = replace(recipe.fit, minutes=recipe.target_minutes, batch=recipe.target_batch)
        learn_targets(generator, config, faces.pack, faces.targets, options, work / "targets", look)
        faces = replace(faces, targets=beyond(generator, faces.pack.crops, faces.targets, recipe.beyond))
    trainer = build_trainer(generator, build_critic(config), verifiers, seen_by)
    losses = {name: each for name, each in loss_functions(recipe.losses).items() if name in trainer.output}
    compile_trainer(trainer, losses, recipe.fit)
    trainer.compile_adversary(recipe.adversary_rate)
    fit(trainer, _feed(faces, recipe, losses), recipe.fit, work, look)
    names = save(out, generator, **verifiers)
    packs = {"data": [path.name for path in data], "targets": [path.name for path in targets]}
    said = _config(recipe, people, {"faces": len(faces.pack), **packs})
    # Measured as it is loaded: with weights in half precision.
    made = load(save_preset(out, said, names, ""))
    said["figures"] = measure(made, known, strangers, verifiers, samplers)
    return save_preset(out, said, names, _card(out.name, said))


def _read(paths: Sequence[Path], recipe: Recipe, split: str) -> Faces:
    """The faces of packs at the recipe's side, with the model's starts; what verifiers say of them is not known yet."""
    if not recipe.model:
        pack, starts = classifiers.resized(load_pack(*paths), recipe.size), None
    else:
        known = _usable(paths, recipe, split)
        model = FaceModel(load_preset(recipe.model, "face-model").file("face_model.npz"))
        crops = _shrunk(known.textures, recipe.size) * within(recipe.size)
        pack = Pack(np.round(crops).astype(np.uint8), known.dlib, known.names, None, known.labels)
        starts = _starts(model, known, recipe)
    nothing = np.zeros((len(pack), 0), np.float32)
    return Faces(pack, starts, nothing, nothing)


def _usable(paths: Sequence[Path], recipe: Recipe, split: str) -> Textures:
    """The textures of a pack at the frame's side that are seen from in front, whose licence and split, where the pack
    says them, are asked for; filled up from their other side. Raises UsageError where none is left.
    """
    if len(paths) != 1:
        raise UsageError("--data holds more than one pack of textures", "pack all pictures at once")
    pack = load_textures(paths[0])
    asked = {"licence": [word.strip() for word in recipe.licences.split(",")], "split": [split]}
    good = np.mean(pack.seen > 127, axis=(1, 2)) >= SEEN * np.mean(canonical().inside)
    for column, words in asked.items():
        good &= np.isin(pack.labels[column], words) if column in pack.labels else True
    if not good.any():
        raise UsageError(f"{paths[0]} has no face of split {split} and of --licences {recipe.licences}", "look at it")
    pack = pack.where(good)
    grown = [
        (cv2.resize(t, (SIZE, SIZE)), cv2.resize(s, (SIZE, SIZE)))
        for t, s in zip(pack.textures, pack.seen, strict=True)
    ]
    whole = [completed(texture, seen.astype(np.float32) / 255) for texture, seen in grown]
    textures = np.stack([np.round(texture * 255).astype(np.uint8) for texture, _ in whole])
    return replace(pack, textures=textures, seen=np.stack([seen for _, seen in whole]))


def _shrunk(textures: np.ndarray, side: int) -> np.ndarray:
    return np.stack([cv2.resize(texture, (side, side), interpolation=cv2.INTER_AREA) for texture in textures])


def _starts(model: FaceModel, faces: Textures, recipe: Recipe) -> np.ndarray:
    """(n, starts, side, side, 3) uint8: what the model draws of each face with identities of like gender, age, tone."""
    random, rows = np.random.default_rng([recipe.fit.seed, 7]), []
    columns = (faces.textures, faces.seen, faces.shapes, faces.dlib, faces.sface)
    for texture, seen, shape, *descriptors in zip(*columns, strict=True):
        reading = model.read(texture, seen, shape, descriptors[0])
        base = reading.kept @ model.texture_of_kept
        drawn = islice(drawn_faces(model, reading, descriptors, random), recipe.starts)
        rows += [base + MIXED @ model.bank_texture[each] for each in drawn]
    # The model is linear, so that its components can be shrunk before they are put together.
    parts = [model.picture(row, mean=False) for row in np.eye(len(model.components), dtype=np.float32)]
    mean, *parts = _shrunk(np.stack([model.picture(np.zeros(1)), *parts]), recipe.size).reshape(len(parts) + 1, -1)
    made = np.stack(rows).astype(np.float32) @ np.stack(parts) + mean
    made = made.reshape(len(faces), recipe.starts, recipe.size, recipe.size, 3) * within(recipe.size)
    return np.clip(made * 255 + 0.5, 0, 255).astype(np.uint8)


def _verifiers(pack: Pack, people: Sequence[str], recipe: Recipe, work: Path) -> dict[str, keras.Model]:
    """The verifiers of the recipe, trained, by their names; checkpoints and logs go to folders of `work`."""
    small, made = classifiers.resized(pack, min(VERIFIED, pack.side)), {}
    for name, each in _asked(people, recipe).items():
        column = np.array([word(n) for n in small.names]) if name == "identity" else small.label(recipe.labels)
        labelled = replace(small, labels={name: column})
        known, targets = classifiers.with_targets(labelled, each.heads)
        made[name] = classifiers.learnt(known, targets, each, work / name)
    return made


def _asked(people: Sequence[str], recipe: Recipe) -> dict[str, classifiers.Recipe]:
    """How each verifier that the recipe asks for is trained."""
    heads = {"identity": (tuple(people), "vgg", recipe.vgg)} if people else {}
    if recipe.labels and recipe.losses.emotion:
        heads["emotion"] = (EMOTIONS, "xception", recipe.xception)
    options = replace(recipe.fit, minutes=recipe.verifier_minutes, epochs=40, steps=recipe.verifier_steps)
    options = replace(options, batch=32, rate=1e-3, ema=0.99)
    size = min(VERIFIED, recipe.size)
    return {
        name: classifiers.Recipe((Head(name, words),), size, channels, style=style, fit=options)
        for name, (words, style, channels) in heads.items()
    }


def word(name: str) -> str:
    """The class of the person that a file shows, by the part of its name before the first "/": digits of a checksum, so
    that no preset holds a name.
    """
    return f"person {hashlib.sha256(name.partition('/')[0].encode()).hexdigest()[:8]}"


def gallery(names: Sequence[str] | np.ndarray, least: int) -> list[str]:
    """The classes of the people with at least so many pictures. Raises UsageError for fewer than two."""
    people = sorted(who for who, count in Counter(map(word, names)).items() if count >= least)
    if len(people) < 2:
        raise UsageError(f"{len(people)} people have {least} pictures or more", "give a smaller --least, or 0 for none")
    return people


def _samplers(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """How dlib's chip is cut from what the generator makes."""
    points = canonical().points[IBUG][INNER] * (recipe.size / SIZE) if recipe.model else None
    return chip_samplers(recipe.size, points)


def _feed(faces: Faces, recipe: Recipe, outputs: Iterable[str]) -> Callable[[int], Iterator]:
    config = recipe.network()

    def feed(epoch: int) -> Iterator:
        options = recipe.fit
        drawn = batches(faces.pack, options.batch, options.seed, epoch, options.steps)
        for step, (_, rows) in enumerate(drawn):
            random = np.random.default_rng([options.seed, 5, epoch, step])
            both = _given(faces, rows, random).astype(np.float32) / 255  # the last picture is what it is pulled to
            targets = {
                "picture": np.concatenate([both[..., :3], both[..., -3:]], axis=-1),
                "verdict": np.ones((len(rows), 1), np.float32),
                "identity": faces.people[rows],
                "emotion": faces.emotions[rows],
                "descriptor": faces.pack.descriptors[rows].astype(np.float32),
            }
            noise = random.random((len(rows), config.noise), np.float32)
            yield {"given": packed(both[..., : config.inputs], noise)}, {name: targets[name] for name in outputs}

    return feed


def _given(faces: Faces, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The faces of rows, each with one of its starts or with its target behind it where it has some, half of them
    mirrored; uint8.
    """
    both = faces.pack.crops[rows]
    if faces.targets is not None:
        both = np.concatenate([both, faces.targets[rows]], axis=-1)
    if faces.starts is not None:
        both = np.concatenate([both, faces.starts[rows, random.integers(0, faces.starts.shape[1], len(rows))]], axis=-1)
    return Augment()(both, random)


def _config(recipe: Recipe, people: Sequence[str], data: dict) -> dict:
    """What config.json says but for the figures."""
    asked = _asked(people, recipe)
    return {
        "method": METHOD,
        "crop": {"size": recipe.size, "margin": 0.0 if recipe.model else MARGIN},
        "network": recipe.network().stored(),
        **({"model": Path(recipe.model).name} if recipe.model else {"use": "research"}),
        **{name: each.network().stored() for name, each in asked.items()},
        "training": {**asdict(recipe), "model": Path(recipe.model).name, **data},
    }


def save_sheet(translator: Translator, faces: Faces, path: Path) -> None:
    """Write a PNG: a row of faces, where there are some a row of their starts, and a row of their translations."""
    given = faces.given[:FACES]
    rows = [*np.split(given, given.shape[-1] // 3, axis=-1), translated(translator, given)]
    Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows])).save(path)


def _card(name: str, config: dict) -> str:
    training, figures = config["training"], config["figures"]
    kind = f"textures in the canonical frame (model {config['model']})" if "model" in config else "aligned crops"
    limit = ": photographs of people, for research only" if config.get("use") == "research" else ""
    first = f"\n- It learnt first to draw targets ({', '.join(training['targets'])})." if training["targets"] else ""
    return f"""# {name}

EPD-Net (Aggarwal et al. 2020) at {config["crop"]["size"]} pixels, on {kind}. Generator channels
{config["network"]["channels"]}.

- Trained on {training["faces"]} faces ({", ".join(training["data"])}){limit}.{first}
- Verifiers: {", ".join(v for v in VERIFIERS if v in config) or "none"}; people of the gallery have {training["least"]}
  pictures or more.
- Losses: {training["losses"]}
- Schedule: {training["fit"]}
- On faces that took no part (`training/epd_graph.py` says what each is):
  {", ".join(f"{name} {value}" for name, value in figures.items())}.
"""
