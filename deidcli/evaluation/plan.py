"""Lists of pairs: the official pairs.txt of LFW, our CSV, and pairs drawn from any folder of people."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from deidcli.engine.survey import walk
from deidcli.errors import UsageError
from deidcli.evaluation import parts
from deidcli.evaluation.bench import Bench, Subject, evenly, person, pictures_of
from deidcli.evaluation.metrics import Draw, draws
from deidcli.evaluation.observe import ByFolder, Original, Outputs
from deidcli.evaluation.parts import Pair, Part
from deidcli.evaluation.results import Run, Worst
from deidcli.faces.attributes import load_labels
from deidcli.training.data import split_of

HINT = "give LFW's pairs.txt, or a CSV with the columns a, b and same"


def load_pairs(path: Path) -> list[Pair]:
    """Pairs (a, b, whether they show one person), files relative to the folder of pictures.

    Reads a CSV with the columns a, b and same (1 or 0), or LFW's pairs.txt: after a line of counts `NAME i j` for two
    pictures of one person and `NAME i OTHER j` for two people, where a picture is NAME/NAME_0001.jpg.

    Raises UsageError.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"--pairs {path} cannot be read: {error}", HINT) from error
    if lines and "," in lines[0]:
        return list(_from_csv(path, lines))
    return list(_from_lfw(path, lines))


def limited(pairs: Sequence[Pair], limit: int | None) -> list[Pair]:
    """At most `limit` pairs of each kind, the first ones."""
    return [pair for kind in (True, False) for pair in [p for p in pairs if p[2] is kind][:limit]]


def paired(pictures: Mapping[str, Sequence[str]], limit: int | None, seed: int) -> list[Pair]:
    """Pairs of a folder of people: two pictures of each person in turn until there are `limit`, and as many strangers.

    None for every pair of pictures of one person.
    """
    generator = np.random.default_rng([seed, 7])
    own = {who: [(a, b) for a, b in combinations(sorted(names), 2)] for who, names in sorted(pictures.items())}
    same = _in_turn([[pairs[i] for i in generator.permutation(len(pairs))] for pairs in own.values()], limit)
    people, drawn = sorted(pictures), set[tuple[str, str]]()
    wanted = min(len(same), len(people) * (len(people) - 1) // 2)
    while len(drawn) < wanted:
        first, second = sorted(generator.choice(people, 2, replace=False).tolist())
        drawn.add((str(generator.choice(sorted(pictures[first]))), str(generator.choice(sorted(pictures[second])))))
    return [(a, b, True) for a, b in same] + [(a, b, False) for a, b in sorted(drawn)]


def matched(pictures: Mapping[str, Sequence[str]], count: int, seed: int) -> list[Pair]:
    """`count` pairs of one person each and as many of strangers, the people drawn at random (FATM, Section 4)."""
    people = np.random.default_rng([seed, 8]).permutation(sorted(w for w, names in pictures.items() if len(names) > 1))
    return paired({who: pictures[who] for who in people.tolist()}, count, seed)


def people_of(pairs: Sequence[Pair]) -> dict[str, list[str]]:
    """The pictures of each person that a list of pairs names."""
    people: dict[str, list[str]] = {}
    for name in sorted({name for a, b, _ in pairs for name in (a, b)}):
        people.setdefault(person(name), []).append(name)
    return people


def _from_csv(path: Path, lines: Sequence[str]) -> Iterator[Pair]:
    for number, row in enumerate(csv.DictReader(lines), 2):
        if not all(row.get(key) for key in ("a", "b")) or row.get("same") not in ("0", "1"):
            raise UsageError(f"--pairs {path}, line {number}: not a pair", HINT)
        yield row["a"], row["b"], row["same"] == "1"


def _from_lfw(path: Path, lines: Sequence[str]) -> Iterator[Pair]:
    for number, line in enumerate(lines[1:], 2):
        cells = line.split()
        try:
            if len(cells) == 3:
                yield _lfw(cells[0], cells[1]), _lfw(cells[0], cells[2]), True
            elif len(cells) == 4:
                yield _lfw(cells[0], cells[1]), _lfw(cells[2], cells[3]), False
            elif cells:
                raise ValueError(f"{len(cells)} words")
        except ValueError as error:
            raise UsageError(f"--pairs {path}, line {number}: {error}", HINT) from error


def _lfw(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}.jpg"


def _in_turn(lists: Sequence[Sequence[tuple[str, str]]], limit: int | None) -> list[tuple[str, str]]:
    """One of each list, then the second of each, … so that no person outweighs the others."""
    longest = max(map(len, lists), default=0)
    ordered = [pairs[place] for place in range(longest) for pairs in lists if place < len(pairs)]
    return ordered[:limit] if limit is not None else ordered


# --- Plans: what is compared with what, and the run that comes of it.

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
    names = evenly([path.relative_to(folder).as_posix() for path in walk(folder)], limit)
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


def evaluate_subject(bench: Bench, subject: Subject, plan: Plan, keep: Path | None = None) -> tuple[Run, Outputs]:
    """A subject under a plan: all its figures. keep: where the worst outputs are written."""
    outputs = bench.observe(subject, plan.replaced)
    part = parts.self_matching(bench, outputs)
    if plan.pairs:
        part += parts.verification(bench, outputs, plan.pairs)
    if plan.draws:
        part += parts.identification(bench, outputs, plan.draws)
    part += parts.autoencoders(bench, outputs) + parts.utility(bench, outputs, plan.truth)
    if plan.pairs and len(outputs.names) > 1:
        part += parts.linkability(bench, outputs, plan.pairs)
    return make_run(bench, subject, plan, outputs, part, keep), outputs


def make_run(bench: Bench, subject: Subject, plan: Plan, outputs: Outputs, part: Part, keep: Path | None = None) -> Run:
    """The run of a part, with its provenance, the recogniser's own error and the worst faces."""
    said = {"figures": part.figures, "curves": part.curves, "matrices": part.matrices}
    worst = worst_of(bench, subject, outputs, keep)
    judge = parts.recogniser_error(bench, plan.pairs)
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
