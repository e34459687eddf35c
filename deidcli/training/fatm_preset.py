"""FATM's presets: who is in them, whom they were compared with, what they were trained on; written, and added to."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deidcli.engine.survey import walk
from deidcli.errors import MediaError, UsageError
from deidcli.faces.align import align
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.face_model import FaceModel
from deidcli.faces.landmarks import locate
from deidcli.faces.regions import skin
from deidcli.media.open import open_reader
from deidcli.methods.fatm import DONORS
from deidcli.networks.fatm import decoder_file, load, save
from deidcli.presets import Preset, load_preset, save_preset
from deidcli.training.data import MARGIN, WINDOW, Pack, Textures, load_pack, load_textures, unwrapped
from deidcli.training.fatm import FaceSet, Recipe, Trained, train
from deidcli.training.fatm_donors import (
    KnownFace,
    Moves,
    arrays_of,
    blended,
    crop_set,
    known_face,
    likenesses,
    moved_set,
    nobody,
    own_set,
)
from deidcli.values import Box, Crop, Face, Frame

TABLE = "donors.csv"  # of a preset: which faces its donors are made of
PACE = 0.2  # seconds between two frames of a donor's video that are learnt from
MOST = 400  # pictures of a donor that are learnt from
ASKED = 16  # crops of a donor by which gender, age and tone are told
METHOD, FACE_MODEL = "fatm", "face-256"
NOBODY = "does not exist"  # in place of a consent
Said = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """A share of a donor: a face of a pack, and its weight."""

    donor: str
    file: str
    weight: float


def read_table(path: Path) -> list[Part]:
    """The donors of a CSV with the columns donor, file and weight. Raises UsageError."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [Part(row["donor"], row["file"], float(row["weight"])) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--donors {path}: {error!r}", "give a CSV with the columns donor, file and weight") from error


def made_of_nobody(
    data: Path,
    table: Path,
    recipe: Recipe,
    out: Path,
    work: Path,
    pictures: Path | None = None,
    known: Sequence[Path] = (),
    like: Sequence[Path] = (),
    said: Said = lambda text: None,
) -> Preset:
    """Train a preset in the canonical frame, whose donors are blended of faces of a pack of textures.

    data: its faces show nobody; those with the labels `person` and `expression` teach expressions. known: packs; a
    donor whom both recognisers take for a face of them is left out. like: packs of faces of nobody, with which donors
    are only compared. pictures: the folder that `data` was packed from.
    """
    model, pack, parts = face_model(), load_textures(data), read_table(table)
    donors = _blends(model, pack, parts)
    moves = Moves.of(model, pack, recipe.network.drawn)
    said(f"{len(donors)} donors, {len(moves.people)} expressions of {len(set(moves.people))} people")
    sets = [moved_set(model, name, face, moves, recipe.network) for name, face in donors.items()]
    trained = train(sets, recipe, work)
    learnt_from = {"data": data.name, "licences": sorted(set(pack.labels.get("licence", ())))}
    preset = _of_nobody(trained, donors, recipe, out, table, learnt_from)
    if not known or pictures is None:
        return preset
    files = {name: [part.file for part in parts if part.donor == name] for name in donors}
    found = likenesses(preset, pack, pictures, [*known, *like], files)
    real = [path.stem for path in known]
    unknown = {name: face for name, face in donors.items() if all(found[name][each].both > 1 for each in real)}
    if not unknown:
        raise UsageError("every donor is taken for a face of --known by both recognisers", "blend other faces")
    for name in set(donors) - set(unknown):
        said(f"{name} is left out: both recognisers take this donor for a face that is known")
        (out / decoder_file(name)).unlink()
    rows = {name: {each: asdict(nearest) for each, nearest in found[name].items()} for name in unknown}
    left = Trained(trained.encoder, {name: trained.decoders[name] for name in unknown}, trained.figures)
    return _of_nobody(left, unknown, recipe, out, table, learnt_from, rows)


def _of_nobody(
    trained: Trained,
    donors: Mapping[str, KnownFace],
    recipe: Recipe,
    out: Path,
    table: Path,
    training: dict[str, Any],
    likeness: dict[str, Any] | None = None,
) -> Preset:
    """Write a preset of donors who do not exist."""  # fmt: skip
    names = _save(out, trained, donors, True)
    if table.resolve() != (out / TABLE).resolve():
        shutil.copyfile(table, out / TABLE)
    config = _config(recipe, trained, {"frame": "canonical", "donors": dict.fromkeys(donors, NOBODY)})
    config["training"] |= training
    if likeness:
        config["figures"]["likeness"] = likeness
    return save_preset(out, config, [*names, DONORS, TABLE], card(out.name, config))


def of_crops(
    packs: Mapping[str, Path], consent: str, recipe: Recipe, out: Path, work: Path, start: Preset | None = None
) -> Preset:
    """Train the paper's network on one pack of crops for each donor. start: a preset whose encoder stays as it is, and
    whose donors stay, too.
    """
    model = face_model()
    loaded = {name: load_pack(path) for name, path in packs.items()}
    donors = {name: _traits(model, pack) for name, pack in loaded.items()}
    sets = [crop_set(name, pack) for name, pack in loaded.items()]
    crop = {"crop": {"size": recipe.network.drawn, "margin": MARGIN}}
    return _trained(sets, donors, consent, recipe, out, work, start, crop, _licensed(packs, loaded))


def _licensed(packs: Mapping[str, Path], loaded: Mapping[str, Pack]) -> dict[str, Any]:
    """The packs and the licences of their faces; nothing where a face has none."""
    known = {str(word) for pack in loaded.values() for word in pack.labels.get("licence", [""])}
    named = ", ".join(path.name for path in packs.values())
    return {} if "" in known else {"data": named, "licences": sorted(known)}


def of_pictures(
    sources: Mapping[str, Path], consent: str, recipe: Recipe, out: Path, work: Path, start: Preset
) -> Preset:
    """Add donors in the canonical frame, each from a folder of pictures or a video, to the preset `start`.

    Only their decoders are trained. Raises UsageError for a source that shows too little of a face.
    """
    model, sets, donors = face_model(), [], {}
    for name, path in sources.items():
        pack = textures_of(path)
        faces = [face for row in range(len(pack)) if (face := known_face(model, pack, row))]
        if not faces:
            raise UsageError(f"--donor {name}={path}: no face in it is seen whole", "give pictures from in front")
        # The finest detail is that of the most typical picture.
        middle = np.median(np.stack([face.texture for face in faces]), axis=0)
        faces.sort(key=lambda face: float(np.abs(face.texture - middle)[skin()].mean()))
        donors[name] = blended(faces, [1.0] * len(faces))
        sets.append(own_set(model, name, faces, donors[name], recipe.network))
    return _trained(sets, donors, consent, recipe, out, work, start, {"frame": "canonical"})


def _trained(
    sets: Sequence[FaceSet],
    donors: Mapping[str, KnownFace],
    consent: str,
    recipe: Recipe,
    out: Path,
    work: Path,
    start: Preset | None,
    said: dict[str, Any],
    training: Mapping[str, Any] | None = None,
) -> Preset:
    """Train the sets' decoders, and write them beside those of `start`. training: what is said of the data."""
    trained = train(sets, recipe, work, load(start).encoder.model if start else None)
    names = _save(out, trained, donors, "frame" in said)
    agreed = {name: consent for name in donors}
    if start:
        names += _taken(start, out, donors)
        agreed = {name: said for name, said in start.config["donors"].items() if name not in donors} | agreed
    config = _config(recipe, trained, {**said, "donors": agreed})
    config["training"] |= training or {}
    return save_preset(out, config, [*names, DONORS], card(out.name, config))


def _taken(start: Preset, out: Path, donors: Mapping[str, KnownFace]) -> list[str]:
    """Copy the decoders and donors of a preset that are not replaced; the names of the files."""
    kept = [name for name in start.config["files"] if name.startswith("decoder-") and not (out / name).exists()]
    for name in kept:
        shutil.copyfile(start.file(name), out / name)
    with np.load(start.file(DONORS), allow_pickle=False) as stored, np.load(out / DONORS, allow_pickle=False) as new:
        rows = [i for i, name in enumerate(start.config["donors"]) if name not in donors]
        arrays: dict[str, Any] = {key: np.concatenate([stored[key][rows], new[key]]) for key in new.files}
    np.savez_compressed(out / DONORS, **arrays)
    return kept


def _save(out: Path, trained: Trained, donors: Mapping[str, KnownFace], textures: bool) -> list[str]:
    names = save(out, trained.encoder, trained.decoders)
    arrays: dict[str, Any] = arrays_of(donors, textures)
    np.savez_compressed(out / DONORS, **arrays)
    return names


def _config(recipe: Recipe, trained: Trained, said: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": METHOD,
        "face_model": FACE_MODEL,
        "network": asdict(recipe.network),
        **said,
        "training": {"together": recipe.together, "fit": asdict(recipe.fit)},
        "figures": {"remaining": trained.figures},
    }


def face_model() -> FaceModel:
    """The face model of the presets that are made here."""
    return FaceModel(load_preset(FACE_MODEL, "face-model").file("face_model.npz"))


def _blends(model: FaceModel, pack: Textures, parts: Sequence[Part]) -> dict[str, KnownFace]:
    row = {name: number for number, name in enumerate(pack.names.tolist())}
    donors: dict[str, KnownFace] = {}
    for name in dict.fromkeys(part.donor for part in parts):
        own = [part for part in parts if part.donor == name]
        lost = [part.file for part in own if part.file not in row]
        if lost:
            raise UsageError(f"donor {name}: the pack has no face {lost[0]}", "pack the folder that it lies in")
        faces = [known_face(model, pack, row[part.file]) for part in own]
        seen = [(face, part.weight) for face, part in zip(faces, own, strict=True) if face]
        donors[name] = nobody(model, [face for face, _ in seen], [weight for _, weight in seen])
    return donors


def _traits(model: FaceModel, pack: Pack) -> KnownFace:
    """What the face model keeps of the faces in a pack of crops, on average."""
    if pack.landmarks is None:
        raise UsageError("a donor's pack has no landmarks", "make it with `deid align --pack`")
    kept = []
    for row in np.linspace(0, len(pack) - 1, min(ASKED, len(pack))).astype(int):
        face = Face(Box(0, 0, pack.side, pack.side), landmarks=pack.landmarks[row])
        one = unwrapped([Crop(pack.crops[row], np.eye(2, 3), face, "one#0")], 256, {})
        assert one is not None
        seen = one.seen[0].astype(np.float32) / 255
        kept.append(model.read(one.textures[0], seen, one.shapes[0].astype(np.float64), pack.descriptors[row]).kept)
    return KnownFace(np.zeros(0), np.zeros(0), np.mean(kept, axis=0).astype(np.float32))


def textures_of(path: Path) -> Textures:
    """The largest face of every picture of a folder, or of a video's frames. Raises UsageError where there is none."""
    search = detector(DetectOptions())
    pack = unwrapped((crop for frame in _frames(path) if (crop := _largest(search, frame, path))), 256, {})
    if pack is None:
        raise UsageError(f"{path} shows no face", "give a folder of pictures, or a video, of the donor alone")
    return pack


def _largest(search: Any, frame: Frame, path: Path) -> Crop | None:
    faces = [f for f in locate(frame.pixels, search.detect([frame.pixels])[0]) if f.landmarks is not None]
    return align(frame, max(faces, key=lambda f: f.box.area), WINDOW, f"{path.name}#0") if faces else None


def _frames(path: Path) -> Iterator[Frame]:
    """Frames of a folder's pictures or of a video, at most MOST; what cannot be read is left out."""
    count = 0
    for file in walk(path) if path.is_dir() else [path]:
        try:
            with open_reader(file) as reader:
                after = None
                for frame in reader.frames():
                    if frame.time is not None and after is not None and frame.time < after:
                        continue
                    after = None if frame.time is None else frame.time + PACE
                    yield frame
                    count += 1
                    if count == MOST:
                        return
        except MediaError:
            continue
    if not count:
        raise UsageError(f"{path} holds no picture and no video that can be read", "give a folder or a video")


WHAT = {True: ", added to what the face model says of the donor in this expression and light", False: ""}


def card(name: str, config: dict[str, Any]) -> str:
    """The card of a preset."""
    network, figures = config["network"], config["figures"]
    where = "in the canonical frame" if config.get("frame") else f"on crops of {network['size']} pixels"
    fit, together = config["training"]["fit"], config["training"]["together"]
    drawn = f"{network['drawn']} pixels{WHAT[bool(network['residual'])]}"
    agreed = "".join(f"- {donor}: {said}\n" for donor, said in config["donors"].items())
    return f"""# {name}

FATM (Li and Lyu 2019) {where}: one encoder, and a decoder for each of {len(config["donors"])} donors, at
{network["width"]:g} times the paper's width. A decoder draws {drawn}.

{_data(config["training"])}**Donors**, and how they agreed:

{agreed}
**Recipe**: batches of {fit["batch"]}, Adam with a rate of {fit["rate"]:g}, the mean absolute error, one donor after the
other, {fit["steps"]} steps an epoch; {together} epochs with one decoder for all donors, and then at most
{fit["epochs"]} epochs and {fit["minutes"] or "any number of"} minutes.

**Figures**: the squared error on samples that were not learnt from, as a share of that of the mean picture:
{", ".join(f"{donor} {value}" for donor, value in figures["remaining"].items())}.
{_likeness_table(figures.get("likeness", {}))}"""


def _data(training: Mapping[str, Any]) -> str:
    if not training.get("licences"):
        return ""
    return f"**Data**: faces of {training['data']}, whose licences are {' and '.join(training['licences'])}.\n\n"


def _likeness_table(rows: Mapping[str, Any]) -> str:
    if not rows:
        return ""
    packs = list(next(iter(rows.values())))
    head = "| donor | " + " | ".join(f"{pack}: dlib | SFace | both" for pack in packs) + " |\n"
    lines = "".join(
        f"| {donor} | "
        + " | ".join(f"{like['dlib'][1]} | {like['sface'][1]} | {like['both']}" for like in found.values())
        + " |\n"
        for donor, found in rows.items()
    )
    return f"""
**Whom the donors are like**: each donor, drawn into four synthetic portraits, against the nearest face of a pack: the
mean distance as a share of the recogniser's threshold. `both` is the least of the larger of the two: above 1 no face is
taken for the donor by both recognisers. config.json names the faces.

{head}|---|{"---|---|---|" * len(packs)}
{lines}"""
