"""How the method autoencoder is trained: an autoencoder, deblurrer and smoother first, then an encoder for each shift.

The first step is Equation 5; deblurrer and smoother learn for themselves, from blurred faces and from faces (Section
4.3). The second is Equation 6 on the targets of `autoencoder_targets`, with the decoder as it is: only the encoder's
layers behind the shared ones learn, so that it takes minutes, and a preset holds many shifts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from keras import layers, ops
from PIL import Image

from deidcli.errors import UsageError
from deidcli.methods.autoencoder import METHOD
from deidcli.networks.autoencoder import (
    LUMA,
    PLAIN,
    AutoencoderConfig,
    Parts,
    load_parts,
    lower,
    upper,
)
from deidcli.networks.store import run
from deidcli.presets import Preset, load_preset, save_preset
from deidcli.training.autoencoder_targets import Samples, Shift, bank_faces, pack_faces, spread, targets
from deidcli.training.data import MARGIN, Pack, check_apart, load_pack
from deidcli.training.fit import FitOptions, compile_trainer, fit
from deidcli.training.sampling import Augment, batches

BLUR = (0.5, 2.5)  # pixels of 64: standard deviations of the blur that the deblurrer learns to take away
PARTS, LEAST = (
    20,
    4,
)  # deblurrer and smoother are trained for so many times fewer epochs than the autoencoder, but for LEAST
KEPT = ("expression", "mouth")  # what the face model takes from the photograph, whatever the shift
FACES = 16  # columns of a sheet


@dataclass(frozen=True)
class Recipe:
    """All that decides what is trained.

    kind, channels, widths, shared: of AutoencoderConfig. model: the face model whose bank is learnt from, "" for packs.
    behind: a preset whose deblurrer and smoother are taken, "" to train new ones.
    """

    kind: str = "dense"
    channels: int = 1
    widths: tuple[int, ...] = (1024, 768, 512)
    shared: int = 1
    model: str = ""
    behind: str = ""
    augment: Augment = field(default_factory=Augment)
    fit: FitOptions = field(default_factory=FitOptions)

    def network(self, size: int) -> AutoencoderConfig:
        return AutoencoderConfig(self.kind, size, self.channels, self.widths, self.shared)


def train(data: Sequence[Path], val: Path, recipe: Recipe, out: Path, work: Path) -> Preset:
    """Train on the packs `data` and write the preset `out`, which has no shift yet; checkpoints and sheets go to
    `work`.

    Raises UsageError for packs that cannot be used together, or a person who is in both.
    """
    faces, strangers = load_pack(*data), load_pack(val)
    check_apart(faces, strangers)
    config = recipe.network(faces.side)
    parts = Parts.built(config)
    if recipe.behind:
        parts = _behind(parts, recipe.behind)

    def feed(blurred: bool) -> Callable[[int], Iterator]:
        def epoch(number: int) -> Iterator:
            options = recipe.fit
            for crops, picked in batches(faces, options.batch, options.seed, number, options.steps, recipe.augment):
                pictures = as_given(crops, config)
                random = np.random.default_rng([options.seed, 3, number, int(picked[0])])
                yield {"given": _blurred(pictures, random) if blurred else pictures}, {"made": pictures}

        return epoch

    def look(epoch: int) -> dict[str, float]:
        save_sheet(parts, strangers.crops, work / "sheet.png")
        return {"picture_error": _error(parts, strangers)}

    _fit([parts.encoder, parts.decoder], config, feed(False), recipe.fit, work, look)
    # So few steps that an average would still remember how the weights began.
    short = replace(recipe.fit, epochs=max(LEAST, recipe.fit.epochs // PARTS), rate=1e-3, ema=0)
    short = replace(short, minutes=short.minutes and short.minutes / 4)
    for part, blurred in () if recipe.behind else ((parts.deblurrer, True), (parts.smoother, False)):
        assert part is not None
        _fit([part], config, feed(blurred), short, work / part.name, look)
    figures = {"faces": len(strangers), "picture_error": _error(parts, strangers)}
    return _write(parts, recipe, figures, out, (len(faces), [path.name for path in data]))


def _behind(parts: Parts, name: str) -> Parts:
    """With the deblurrer and the smoother of another preset. Raises UsageError where it sees other pictures."""
    others = load_parts(load_preset(name, METHOD))
    if others.config.vector or others.config.inputs != parts.config.inputs:
        raise UsageError(f"--behind {name}: its networks see other pictures", "give a preset of this size and colour")
    return replace(parts, deblurrer=others.deblurrer, smoother=others.smoother)


def train_on_bank(recipe: Recipe, out: Path, work: Path) -> Preset:
    """Train on the identities of the face model `recipe.model` and write the preset `out`, which has no shift yet."""
    faces = bank_faces(recipe.model)
    config = recipe.network(faces.given.shape[1])
    parts = Parts.built(config)

    def feed(epoch: int) -> Iterator:
        for picked in _picked(len(faces.given), recipe.fit, epoch):
            yield {"given": faces.given[picked]}, {"made": faces.given[picked]}

    def look(epoch: int) -> dict[str, float]:
        made = run(parts.decoder, run(parts.encoder, faces.given)[0])[0]
        return {"left": round(float(((made - faces.given) ** 2).sum() / (faces.given**2).sum()), 4)}

    _fit([parts.encoder, parts.decoder], config, feed, recipe.fit, work, look)
    return _write(parts, recipe, look(0), out, (faces.count, [recipe.model]))


def add_shift(start: str, data: Sequence[Path], shift: Shift, options: FitOptions, out: Path, work: Path) -> Preset:
    """Fine-tune the encoder of the preset `start` for `shift`, and write that preset with it as `out`.

    data: packs of the faces that codes are moved among; none for a preset over the bank of a face model. Raises
    UsageError, and PresetError for a preset of another method.
    """
    preset = load_preset(start, METHOD)
    parts = load_parts(preset)
    config = parts.config
    if config.vector:
        faces = bank_faces(preset.config["model"])
    else:
        faces = pack_faces(load_pack(*data), config, labelled=shift.kind == "attribute")
    below = lower(parts.encoder, config) if config.shared else None
    hidden = faces.given if below is None else run(below, faces.given)[0].astype(np.float16)
    codes = run(parts.encoder, faces.given)[0].reshape(len(faces.given), -1)
    wanted = targets(Samples(codes, faces.people, faces.labels), shift, config.code, options.seed)
    own = upper(parts.encoder, config) if config.shared else parts.encoder
    wanted = wanted.reshape(-1, *config.code)

    def feed(epoch: int) -> Iterator:
        for picked in _picked(len(hidden), options, epoch):
            yield {"given": hidden[picked].astype(np.float32)}, {"made": wanted[picked]}

    def left() -> np.ndarray:
        return run(own, hidden.astype(np.float32))[0].reshape(codes.shape)

    plain = parts.encoder.get_weights()
    _fit([own], config, feed, options, work / shift.name, lambda _: {})
    new, apart = left(), np.sum((codes - wanted.reshape(codes.shape)) ** 2)
    figures = {"left": round(float(np.sum((new - wanted.reshape(codes.shape)) ** 2) / apart), 4)}
    uppers = {**parts.uppers, shift.name: own.get_weights()}
    parts.encoder.set_weights(plain)
    spreads = dict(parts.spreads)
    if config.vector:
        spreads[shift.name] = spread(codes, new)
    shifts = {**preset.config["shifts"], shift.name: {**asdict(shift), "file": f"{shift.name}.npz", "figures": figures}}
    parts = replace(parts, uppers=uppers, spreads=spreads)
    if not config.vector:
        save_sheet(parts, faces.crops, work / "sheet.png", [PLAIN, *uppers])
    names = parts.save(out, {name: entry["file"] for name, entry in shifts.items()})
    known = {key: value for key, value in preset.config.items() if key not in ("files", "shifts")}
    known = {**known, "shifts": shifts}
    return save_preset(out, known, names, card(out.name, known))


def _fit(
    parts: Sequence[keras.Model],
    config: AutoencoderConfig,
    feed: Callable,
    options: FitOptions,
    work: Path,
    look: Callable,
) -> None:
    """Train networks one behind the other on the squared difference (Equations 4 and 6)."""
    start = layers.Input(parts[0].input_shape[1:], name="given")
    made = start
    for part in parts:
        made = part(made)
    trainer = keras.Model({"given": start}, {"made": layers.Identity(dtype="float32", name="made")(made)})
    compile_trainer(trainer, {"made": _squared}, options)
    fit(trainer, feed, options, work, look)


def _squared(target, made):
    return ops.sum(ops.square(target - made), axis=tuple(range(1, len(target.shape))))


def _picked(count: int, options: FitOptions, epoch: int) -> Iterator[np.ndarray]:
    """The rows of each batch of an epoch."""
    for step in range(options.steps):
        yield np.random.default_rng([options.seed, epoch, step]).integers(0, count, options.batch)


def as_given(crops: np.ndarray, config: AutoencoderConfig) -> np.ndarray:
    """Crops (n, size, size, 3) uint8 as an encoder takes them, float32 in [0, 1]."""
    pictures = crops.astype(np.float32) / 255
    return (pictures @ np.array(LUMA, np.float32))[..., None] if config.channels == 1 else pictures


def _blurred(pictures: np.ndarray, random: np.random.Generator) -> np.ndarray:
    unit = pictures.shape[1] / 64
    soft = [cv2.GaussianBlur(p, (0, 0), random.uniform(*BLUR) * unit) for p in pictures]
    return np.stack(soft).reshape(pictures.shape)


def _error(parts: Parts, val: Pack) -> float:
    """The mean absolute error of strangers' faces without a shift, behind deblurrer and smoother, of the range."""
    crops = val.crops[:: max(1, len(val) // 256)]
    made = as_given(_pictures(parts, crops, PLAIN), parts.config)
    return round(float(np.abs(made - as_given(crops, parts.config)).mean()), 4)


def _pictures(parts: Parts, crops: np.ndarray, shift: str) -> np.ndarray:
    made = run(parts.chain(shift), crops.astype(np.float32))[0]
    return np.clip(made * 255 + 0.5, 0, 255).astype(np.uint8)


def save_sheet(parts: Parts, crops: np.ndarray, path: Path, shifts: Sequence[str] = (PLAIN,)) -> None:
    """Write a PNG: a row of faces out of `crops` (n, side, side, 3) uint8, then a row for each shift by name."""
    shown = crops[np.random.default_rng(3).choice(len(crops), min(FACES, len(crops)), replace=False)]
    rows = [shown, *(_pictures(parts, shown, shift) for shift in shifts)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)).save(path)


def _write(parts: Parts, recipe: Recipe, figures: dict, out: Path, data: tuple) -> Preset:
    names = parts.save(out, {})
    if recipe.model:
        licences = load_preset(recipe.model).config.get("licences", [])
        given: dict[str, Any] = {"model": recipe.model, "licences": licences, "keeps": list(KEPT)}
    else:
        given = {"crop": {"size": parts.config.size, "margin": MARGIN}, "use": "research"}
    config = {
        "method": METHOD,
        **given,
        "network": parts.config.stored(),
        "training": {**asdict(recipe), "faces": data[0], "data": data[1]},
        "figures": figures,
        "shifts": {},
    }
    return save_preset(out, config, names, card(out.name, config))


def _beyond(shift: dict) -> str:
    return f", {shift['beyond']:g} of the way beyond" if shift.get("beyond") else ""


def card(name: str, config: dict) -> str:
    """The card of a preset."""
    training, network = config["training"], config["network"]
    if config.get("model"):
        licences = " and ".join(config["licences"])
        learnt = (
            f"the {training['faces']} synthetic faces in the bank of `{config['model']}` ({licences}), and mixtures"
        )
    else:
        learnt = f"{training['faces']} photographs of people ({', '.join(training['data'])}): for research only"
    shifts = "\n".join(
        f"- `{shift}`: alpha {entry['alpha']:g}, beta {entry['beta']:g}{_beyond(entry)}; {entry['figures']['left']:.2f}"
        " of the squared distance to the targets is left"
        for shift, entry in config["shifts"].items()
    )
    of = "numbers" if config.get("model") else f"pixels a side, {'grey' if network['channels'] == 1 else 'in colour'}"
    return f"""# {name}

"Deep Autoencoders for Attribute Preserving Face De-identification" (Nousi et al. 2020): {network["kind"]} layers of
{" - ".join(map(str, network["widths"]))} behind {network["size"]} {of}.

**Data**: {learnt}.

**Figures**: {", ".join(f"{key} {value}" for key, value in config["figures"].items())}.

**Shifts**:

{shifts or "none yet"}

`docs/autoencoder.md` says how it was trained and what it reaches.
"""
