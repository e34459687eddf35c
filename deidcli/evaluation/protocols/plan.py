"""Plans: what is compared with what, and the run that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from deidcli.engine.jobs import walk
from deidcli.errors import UsageError
from deidcli.evaluation import parts
from deidcli.evaluation.bench import Bench, Subject, person, pictures_of, spread
from deidcli.evaluation.identification import Draw, draws
from deidcli.evaluation.makers import ByFolder, Original
from deidcli.evaluation.observe import Outputs
from deidcli.evaluation.parts import Pair, Part
from deidcli.evaluation.protocols.pairs import limited, load_pairs, paired, people_of
from deidcli.evaluation.results import Run, Worst
from deidcli.methods.labels import load_labels
from deidcli.training.data import split_of

WORST = 20


@dataclass(frozen=True)
class Plan:
    """pairs: the second picture of each is replaced. draws: closed sets, of which the probes are replaced. truth: for
    each label the words that people gave to pictures. also: further pictures that are replaced. reference: outputs of
    the same pictures that others are compared with, once there are any.
    """

    protocol: str
    pairs: tuple[Pair, ...] = ()
    draws: tuple[Draw, ...] = ()
    truth: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    reference: Outputs | None = None

    @property
    def names(self) -> list[str]:
        """Every picture that is looked at, in order."""
        known = (name for draw in self.draws for name in draw.gallery)
        return list(dict.fromkeys([*(n for a, b, _ in self.pairs for n in (a, b)), *known, *self.replaced]))

    @property
    def replaced(self) -> list[str]:
        """Every picture that is replaced, in order."""
        return sorted(
            {*(b for _, b, _ in self.pairs), *(name for draw in self.draws for name in draw.probes), *self.also}
        )


def from_folder(folder: Path, limit: int | None, seed: int, people: int = 50, repetitions: int = 5) -> Plan:
    """Pairs and closed sets of a folder with one sub-folder a person. Raises UsageError."""
    return _drawn("folder", pictures_of(folder), limit, seed, people, repetitions)


def from_pairs(path: Path, limit: int | None, seed: int) -> Plan:
    """A list of pairs, and closed sets of the people in it. Raises UsageError."""
    pairs = limited(load_pairs(path), limit)
    return Plan("pairs", tuple(pairs), tuple(draws(people_of(pairs), 50, 5, seed)))


def from_names(folder: Path, limit: int | None, seed: int) -> Plan:
    """Every picture of a folder; pairs and closed sets, too, where it has a sub-folder for each person.

    A folder without sub-folders, or with one picture in each, has no pairs. Raises UsageError for an empty one.
    """
    names = spread([path.relative_to(folder).as_posix() for path in walk(folder)], limit)
    if not names:
        raise UsageError(f"{folder} holds no pictures", "name a folder of pictures")
    people: dict[str, list[str]] = {}
    for name in names:
        people.setdefault(person(name), []).append(name)
    plan = _drawn("pair", people, len(names), seed, 50, 5)
    alone = not any(same for _, _, same in plan.pairs)
    return Plan("pair", also=tuple(names)) if alone else replace(plan, also=tuple(names))


def from_lfw(data: Path, limit: int | None, seed: int, split: str = "val") -> Plan:
    """LFW as it lies in DATA/lfw: pairs of the split where there is a list of them, else drawn; expressions by people.

    Raises UsageError.
    """
    listed, labels = data / "lfw" / f"pairs_{split}.csv", data / "lfw" / "expressions.csv"
    if listed.is_file():
        plan = from_pairs(listed, limit, seed)
    else:
        chosen = split_of(data / "lfw" / "people.csv", split, "--data")
        pictures = {who: names for who, names in pictures_of(data / "lfw" / "images").items() if who in chosen}
        plan = _drawn("pairs", pictures, limit, seed, 50, 5)
    truth = load_labels(labels) if labels.is_file() else {}
    return Plan("lfw", plan.pairs, plan.draws, truth)


def measured(bench: Bench, subject: Subject, plan: Plan, keep: Path | None = None) -> tuple[Run, Outputs]:
    """A subject under a plan: everything that can be told of it. keep: where the worst outputs are written."""
    outputs = bench.observe(subject, plan.replaced)
    part = parts.itself(bench, outputs)
    if plan.pairs:
        part += parts.verification(bench, outputs, plan.pairs)
    if plan.draws:
        part += parts.identification(bench, outputs, plan.draws)
    part += parts.autoencoders(bench, outputs) + parts.useful(bench, outputs, plan.truth)
    if plan.pairs and len(outputs.names) > 1:
        part += parts.linked(bench, outputs, plan.pairs)
    return signed(bench, subject, plan, outputs, part, keep), outputs


def signed(bench: Bench, subject: Subject, plan: Plan, outputs: Outputs, part: Part, keep: Path | None = None) -> Run:
    """The run of a part, with its provenance, the recogniser's own error and the worst faces."""
    said = {"figures": part.figures, "curves": part.curves, "matrices": part.matrices}
    worst = worst_of(bench, subject, outputs, keep)
    judge = parts.judged(bench, plan.pairs)
    return bench.run(subject, plan.protocol, judge, outputs.seconds, **said, worst=worst)


def worst_of(bench: Bench, subject: Subject, outputs: Outputs, keep: Path | None) -> tuple[Worst, ...]:
    """The outputs that are closest to their own originals, closest first.

    Outputs that no other tool wrote are made again and written under `keep`; without it they have no file.
    """
    if subject.method is None and subject.folder is None:
        return ()
    own = parts.own_distances(bench, outputs)
    order = np.argsort(own, kind="stable")[:WORST]
    names = [outputs.names[i] for i in order]
    files = _kept(bench, subject, names, keep)
    before = [str((bench.study.folder / name).resolve()) for name in names]
    return tuple(Worst(n, float(own[i]), b, files.get(n, "")) for n, i, b in zip(names, order, before, strict=True))


def _kept(bench: Bench, subject: Subject, names: Sequence[str], keep: Path | None) -> dict[str, str]:
    maker = bench.maker(subject, names)
    if isinstance(maker, ByFolder):
        return {name: str(path.resolve()) for name in names if (path := maker.path(name))}
    if keep is None:
        return {}
    from PIL import Image

    keep.mkdir(parents=True, exist_ok=True)
    batch = [Original(name, bench.originals.frame(name), bench.originals.known[name].face) for name in names]
    files = {}
    for place, (name, made) in enumerate(zip(names, maker(batch), strict=True)):
        if made is not None:
            path = keep / f"{place:02d}.png"
            Image.fromarray(made.pixels).save(path)
            files[name] = str(path.resolve())
    return files


def _drawn(protocol: str, pictures: Mapping, limit: int | None, seed: int, people: int, repetitions: int) -> Plan:
    sets = draws(pictures, people, repetitions, seed)
    return Plan(protocol, tuple(paired(pictures, limit, seed)), tuple(sets))
