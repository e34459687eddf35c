"""Lists of pairs: the official pairs.txt of LFW, our CSV, and pairs drawn from any folder of people."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from deidcli.errors import UsageError
from deidcli.evaluation.bench import person
from deidcli.evaluation.parts import Pair

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
