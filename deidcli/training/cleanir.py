"""How CLEANIR is trained: packs to a preset, with the losses of `cleanir_losses` and the loop of `fit`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from deidcli.errors import UsageError
from deidcli.methods.cleanir import turn
from deidcli.networks.cleanir import TRAIT, Pair, VaeConfig, load, save, together
from deidcli.networks.store import Network
from deidcli.presets import Preset, load_preset, save_preset
from deidcli.training.cleanir_figures import measure, probe, quick
from deidcli.training.cleanir_graph import Losses, build_trainer, lift, lift_matrix, loss_functions
from deidcli.training.cleanir_latent import directions, erase
from deidcli.training.data import MARGIN, check_apart, load_pack
from deidcli.training.fit import FitOptions, compile_trainer, fit
from deidcli.training.sampling import Augment, batches

ANGLES = (0, 30, 60, 90, 120, 150, 180)  # of the sheet, degrees: those of the paper's Table 2


@dataclass(frozen=True)
class Recipe:
    """All that decides what is trained.

    seen, erase: of VaeConfig. start: a preset whose weights are the first ones, of every layer that both have.
    decoder_only: a later stage, in which the encoder of `start` stays as it is; always so with `erase`, which sets the
    erasure first where `start` has none. augment, balance: how batches are varied and drawn (`sampling.batches`).
    """

    encoder_width: float = 1.0
    decoder_width: float = 0.5
    pool: str = "flatten"
    rank: int | None = 128
    seen: int | None = None
    erase: bool = False
    decoder_only: bool = False
    start: str | None = None
    augment: Augment = field(default_factory=Augment)
    balance: str = ""
    losses: Losses = field(default_factory=Losses)
    fit: FitOptions = field(default_factory=FitOptions)

    def network(self, side: int) -> VaeConfig:
        """Table 1 at this recipe's width, for crops of `side` pixels: a larger picture has further decoder blocks."""
        paper = VaeConfig(size=side, pool=self.pool, rank=self.rank, erase=self.erase, seen=self.seen)
        encoder, decoder = paper.scaled(self.encoder_width).encoder, paper.scaled(self.decoder_width).decoder
        further = (side // VaeConfig().size).bit_length() - 1
        return replace(paper, encoder=encoder, decoder=decoder + decoder[-1:] * further)


@dataclass(frozen=True)
class IdentitySpace:
    """center (128,), matrix (128, 512): a descriptor's target is (descriptor - center) @ matrix.

    spread (128, 512): 128 standard normal numbers times it are an identity as frequent as in the training data.
    """

    center: np.ndarray
    matrix: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, descriptors: np.ndarray, identity: int) -> IdentitySpace:
        """Made from the descriptors (n, 128) of the training faces."""
        center, matrix = descriptors.mean(axis=0), lift_matrix(descriptors.shape[1], identity)
        covariance = np.cov(descriptors, rowvar=False) + 1e-9 * np.eye(descriptors.shape[1])
        return cls(center, matrix, (np.linalg.cholesky(covariance).T @ matrix).astype(np.float32))

    def target(self, descriptors: np.ndarray) -> np.ndarray:
        return lift(descriptors, self.center, self.matrix)


def train(data: Sequence[Path], val: Path, recipe: Recipe, out: Path, work: Path) -> Preset:
    """Train on the packs `data` and write the preset `out`; checkpoints, log and sheets go to `work`.

    Raises UsageError for packs that cannot be used together, or a person who is in both.
    """
    faces, strangers = load_pack(*data), load_pack(val)
    check_apart(faces, strangers)
    config, space = recipe.network(faces.side), IdentitySpace.of(faces.descriptors, VaeConfig().identity)
    targets = space.target(faces.descriptors)
    traits = directions(faces, targets)
    trainer = build_trainer(config, recipe.losses, space.spread, together(traits, config.identity))
    first = load(load_preset(recipe.start, "cleanir")) if recipe.start else None
    if first:
        _take(trainer.get_layer("encoder"), first.encoder.model)
        _take(trainer.get_layer("decoder"), first.decoder.model)
    if config.rank is not None:
        trainer.get_layer("encoder").get_layer("lift").set_weights([space.matrix])
    if config.erase and not (first and first.config.erase):
        erase(trainer.get_layer("encoder"), faces)
    # An encoder that is trained after the erasure encodes the identity in a nonlinear way; only the decoder learns on.
    trainer.get_layer("encoder").trainable = not (recipe.decoder_only or config.erase)
    compile_trainer(trainer, loss_functions(recipe.losses), recipe.fit)
    encoder, decoder = (Network.of(trainer.get_layer(name)) for name in ("encoder", "decoder"))
    pair = Pair(config, encoder, decoder, space.spread, traits, exact=False)

    def feed(epoch: int) -> Iterator:
        options = recipe.fit
        drawn = (faces, options.batch, options.seed, epoch, options.steps, recipe.augment, recipe.balance)
        for crops, picked in batches(*drawn):
            inputs = {"crops": crops, "descriptors": faces.descriptors[picked]}
            yield inputs, {"picture": crops.astype(np.float32) / 255, "identity": targets[picked]}

    def look(epoch: int) -> dict[str, float]:
        save_sheet(pair, strangers.crops, work / "sheet.png", ANGLES)
        figures = quick(pair, space, strangers)
        # The score has no term for the critic's loss, so it would choose the weights from before the critic.
        return {k: v for k, v in figures.items() if not (recipe.losses.adversarial and k == "score")}

    fit(trainer, feed, recipe.fit, work, look)
    figures = measure(pair, space, strangers) | probe(pair, faces, strangers)
    return _write(pair, space, recipe, figures, out, (len(faces), [p.name for p in data]))


def _take(network: keras.Model, first: keras.Model) -> None:
    """Copy the weights of every layer that the first network has. Raises UsageError where the sizes differ."""
    known = {layer.name: layer for layer in first.layers}
    try:
        for layer in network.layers:
            if layer.weights and layer.name in known:
                layer.set_weights(known[layer.name].get_weights())
    except ValueError as error:
        raise UsageError(f"--start: {error}", "give a preset of the same sizes") from error


def _write(pair: Pair, space: IdentitySpace, recipe: Recipe, figures: dict, out: Path, data: tuple) -> Preset:
    known = {TRAIT + name: rows.astype(np.float32) for name, rows in pair.traits.items()}
    names = save(out, pair.encoder.model, pair.decoder.model, **asdict(space), **known)
    config = {
        "method": "cleanir",
        "crop": {"size": pair.config.size, "margin": MARGIN},
        "network": asdict(pair.config),
        "traits": list(pair.traits),
        "training": {
            **asdict(recipe),
            "start": recipe.start and Path(recipe.start).name,
            "faces": data[0],
            "data": data[1],
        },
        "figures": figures,
    }
    return save_preset(out, config, names, _card(out.name, config))


def _card(name: str, config: dict) -> str:
    training, figures = config["training"], config["figures"]
    return f"""# {name}

CLEANIR (Cho et al. 2020) at {config["crop"]["size"]} pixels. Encoder channels {config["network"]["encoder"]}, decoder
channels {config["network"]["decoder"]}, {config["network"]["pool"]} before the encoder's fully connected layer.

- Trained on {training["faces"]} aligned faces ({", ".join(training["data"])}).
- Losses: {training["losses"]}
- Schedule: {training["fit"]}
- Kept on request: {", ".join(config["traits"]) or "nothing"}.
- On the faces of --val, whose people are not in the training data (`training/cleanir_figures.py` says what each is):
  {", ".join(f"{name} {value}" for name, value in figures.items())}.
"""


# --- A sheet of samples: what the networks make of faces they were not trained on, to be looked at while they train.

FACES = 24  # columns of a sheet


def save_sheet(pair: Pair, crops: np.ndarray, path: Path, angles: Sequence[float]) -> None:
    """Write a PNG: a row of faces out of `crops` (n, side, side, 3) uint8, then a row for each angle in degrees.

    Traits are kept, as the method keeps them where nothing else is asked.
    """
    picked = crops[np.random.default_rng(3).choice(len(crops), min(FACES, len(crops)), replace=False)]
    identity, attributes = pair.encode(picked)
    axis = np.random.default_rng(5).standard_normal((len(picked), len(pair.spread))) @ pair.spread
    kept = together(pair.traits, identity.shape[1])
    turned = [turn(identity, axis, np.full(len(picked), angle), kept) for angle in angles]
    rows = [picked, *(pair.decode(each, attributes) for each in turned)]
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    Image.fromarray(sheet).save(path)
