"""The contract of closed-set methods: k people at least share one surrogate (k-anonymity, Newton et al. 2005).

A subclass defines what a surrogate is; people, groups and names are handled here:

    class KSameM(ClosedSet):
        name, summary = "ksame-m", "..."
        needs_pixels = True                           # False where descriptors and landmarks are enough

        @dataclass(frozen=True)
        class Options(ClosedSet.Options):             # --k, --pairing and --diverse come with it
            sharpness: float = option(1.0, "...", 0, 2)

        def learn(self, census): ...                  # optional: fit a model on the whole set
        def surrogate(self, faces, weights): ...      # the members' rows of the census > whatever `render` needs
        def render(self, surrogates, crops): ...      # surrogates for targets, in a batch > crops with new pixels

What the engine does. First pass: every input is searched as in the run itself, with `--shard` the inputs of all parts;
the embedding of every face with landmarks that `accepts` lets in is computed and cut out as `crop` says, `stored`
pixels wide, on to disk. Descriptors are group_people into people. `prepare` gets all that as a `Census`. Second pass:
`apply` as for any method; a face that the census does not know (no landmarks, not accepted) raises MethodError and is
covered. What is kept of a target (pose, expression, light) `render` takes from its crop and its landmarks, never from
the pixels in a way that brings the face back: that part is the method's promise, the groups are this class's.

In the manifest each replaced face has `person`, `surrogate` and `group`, random names drawn from the run's secret, and
`guarantee`, one of:

- "k": the surrogate is shown for at least k people, and no person has another one.
- "diverse" (`--diverse`): every member of a group has a surrogate of its own, mixed of all members by weights that are
  drawn blindly: the new faces alone do not tell who of the group is who, but the pictures of one person stay together,
  so that knowing who one of them shows tells it of all.
- "open": the surrogates are made of other people than those of the set. A subclass that offers that (`--gallery`) says
  so in `guarantee` and overrides `assign` to give each person one of its own surrogates; it may then serve fewer than
  k people, and a surrogate may stand for one person only.

Groups of at least k are made by nearness of descriptors (`group_people`). They are deterministic, and do not depend on
the order of the people, who are visited by their own numbers alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from deidcli.errors import MethodError, UsageError
from deidcli.faces.attributes import AttributeReader, Attributes
from deidcli.faces.people import Neighbours
from deidcli.methods.base import Census, Method, Secret, option
from deidcli.values import Crop, CropSpec, Frame

PAIRINGS = ("auto", "nearest", "furthest")
HELD = 256  # surrogates that are kept at hand; making one again costs reading its members' crops


@dataclass(frozen=True)
class Plan:
    """Who gets what. group: (p,) int of each person, -1 for one who is left out and covered. source: (g,) int, the
    group whose members each group's surrogate is made of."""

    group: np.ndarray
    source: np.ndarray


class ClosedSet(Method):
    """Replaces the faces of at least k people by one surrogate. stored: side in pixels of the census's crops.

    Not judged: a surrogate looks like its members. To cover just those of them who are recognised would distinguish
    them from the others, and leave fewer than k people behind the surrogate. A subclass whose surrogates are made of
    other people may set `judged`.
    """

    closed = True
    judged = False
    declares_donors = True
    crop = CropSpec(size=160, margin=0.25, mask="high")
    stored: int = 160

    @dataclass(frozen=True)
    class Options:
        k: int = option(5, "people who share a surrogate, at least", 2)
        pairing: str = option("auto", "whose surrogate a group gets: its own (nearest), or of the group least "
                              "like it (furthest); auto: furthest where there are two", choices=PAIRINGS)  # fmt: skip
        diverse: bool = option(False, "another surrogate for each member of a group: one person's pictures stay linked")

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        super().__init__(options, secret, models)
        self._person: dict[str, int] = {}  # empty before `prepare`

    # --- what a subclass implements

    @abstractmethod
    def surrogate(self, faces: np.ndarray, weights: np.ndarray) -> Any:
        """A surrogate of people by their typical faces. faces: (m,) rows of `self.census`. weights: (m,), sum 1."""

    @abstractmethod
    def render(self, surrogates: Sequence[Any], crops: Sequence[Crop]) -> list[Crop]:
        """The crops with new pixels: each surrogate in its target's place; alike in any batch."""

    def learn(self, census: Census) -> None:
        """Fit what surrogates are made with on the whole set."""

    # --- what the engine calls

    def prepare(self, census: Census) -> None:
        """Take the closed set. Raises UsageError for fewer than k people."""
        self.census, self._rows = census, census.typical()
        self.plan = self.assign(census)
        self._members = [np.flatnonzero(self.plan.group == g) for g in range(len(self.plan.source))]
        self._person = dict(zip(census.keys, census.people.tolist(), strict=True))
        self.learn(census)
        self._held = lru_cache(maxsize=HELD)(self._surrogate)

    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        people = [self._known(crop.key) for crop in crops]
        return self.render([self._held(*self._name(person)) for person in people], crops)

    def marks(self, key: str) -> dict[str, Any]:
        person = self._known(key)
        group, member = self._name(person)
        return {
            "person": self._draw(f"person {person}"),
            "surrogate": self._draw(f"surrogate {group} {member}"),
            "group": self._draw(f"group {group}"),
            "guarantee": self.guarantee,
        }

    @property
    def k(self) -> int:
        return self.options.k

    @property
    def guarantee(self) -> str:
        """The field `guarantee` of the manifest: see the head of this file."""
        return "diverse" if self.options.diverse else "k"

    # --- groups

    def assign(self, census: Census) -> Plan:
        """Groups over all people, and where each surrogate comes from. Raises UsageError for fewer than k people."""
        if census.count < self.options.k:
            raise too_few_people(census.count, self.options.k)
        return self.planned(census, group_people(census.centres(), self.options.k))

    def planned(self, census: Census, group: np.ndarray, kind: np.ndarray | None = None) -> Plan:
        """The plan for groups that are made; unless they are paired nearest, each gets another one's surrogate.

        kind: (g,) int of each group; the other one is of the same. The mean of people who look alike lies so close
        to each of them that hair and background decide, and more than one in k would be recognised.
        """
        count = int(group.max()) + 1
        kind, source = np.zeros(count, int) if kind is None else kind, np.arange(count)
        if self.options.pairing == "nearest":
            return Plan(group, source)
        centres, inside = census.centres(), np.flatnonzero(group >= 0)
        sums = np.zeros((count, centres.shape[1]))
        np.add.at(sums, group[inside], centres[inside])
        means = sums / np.bincount(group[inside])[:, None]
        for value in np.unique(kind):
            same = np.flatnonzero(kind == value)
            if len(same) > 1:
                source[same] = same[pair_furthest(means[same])]
            elif self.options.pairing == "furthest":
                raise UsageError("--pairing furthest needs two groups", f"give pictures of {2 * self.options.k} people")
        return Plan(group, source)

    def _known(self, key: str) -> int:
        """The person of a track who has a surrogate. Raises MethodError."""
        person = self._person.get(key, -1)
        if person < 0:
            raise MethodError("the first pass did not see this face", "was a file changed while the run went on?")
        if self.plan.group[person] < 0:
            raise MethodError("too few people are like this one")
        return person

    def _name(self, person: int) -> tuple[int, int]:
        """The group of a person, and which of its surrogates is theirs: 0 where there is one for all."""
        group = int(self.plan.group[person])
        return group, int(np.searchsorted(self._members[group], person)) if self.options.diverse else 0

    def _surrogate(self, group: int, member: int) -> Any:
        givers = self._members[self.plan.source[group]]
        weights = np.full(len(givers), 1 / len(givers))
        if self.options.diverse:
            # Drawn independently of who the member is, so that the weights do not identify the member.
            weights = self.secret.generator(f"weights {group} {member}").dirichlet(np.ones(len(givers)))
        return self.surrogate(self._rows[givers], weights)

    def _draw(self, name: str) -> str:
        return self.secret.generator(name).bytes(8).hex()

    def at_size(self, size: int) -> None:
        """Work on crops of this side in pixels."""
        self.crop, self.stored = replace(type(self).crop, size=size), size


def too_few_people(people: int, k: int) -> UsageError:
    """The error for a closed set of fewer than k people."""
    return UsageError(f"{people} people are too few for --k {k}", f"give pictures of {k} people, or a smaller --k")


BLOCK = 256  # people whose neighbours are asked for at once; most of them are in a group before their turn
SPARE = 4  # neighbours that are asked for, as a multiple of those that a group needs


def group_people(points: np.ndarray, k: int) -> np.ndarray:
    """The group of each person, (n,) int from 0: of k people each, the last one of k to 2 k - 1 (Newton et al. 2005).

    points: (n, d), the people's mean descriptors. A group is a person and the k - 1 nearest of those that have none;
    the first are those farthest from everybody's mean, so that no outlier is left over for the last group. Raises
    ValueError for fewer than k people.
    """
    if len(points) < k:
        raise ValueError(f"{len(points)} people are no group of {k}")
    groups = np.full(len(points), -1)
    count, left, exact = 0, visiting_order(points), False
    while len(left) >= 2 * k:
        before = count
        for members in _one_pass(points, left, k, exact):
            groups[members] = count
            count += 1
        left = left[groups[left] < 0]
        # An approximate index may find too few neighbours, as among many equal points: then search exactly.
        exact = count == before
    groups[left] = count
    return groups


def group_by_value(points: np.ndarray, values: Sequence[Hashable], k: int) -> np.ndarray:
    """Groups as `group_people` makes them, but of people with one value; (n,) int.

    People of a value that fewer than k have join the group whose mean is nearest to them. Where no value has k people
    the groups are made without values. Raises ValueError for fewer than k people.
    """
    group, count = np.full(len(points), -1), 0
    for value in sorted(set(values), key=repr):
        same = np.flatnonzero([each == value for each in values])
        if len(same) >= k:
            group[same] = count + group_people(points[same], k)
            count = int(group.max()) + 1
    if not count:
        return group_people(points, k)
    means = np.stack([points[group == number].mean(axis=0) for number in range(count)])
    left = np.flatnonzero(group < 0)
    if len(left):
        group[left] = Neighbours(means).nearest(points[left], 1)[1][:, 0]
    return group


def _one_pass(points: np.ndarray, left: np.ndarray, k: int, exact: bool) -> Iterator[np.ndarray]:
    """Groups of exactly k of those who are `left`, while k stay for the last; some wait for another round.

    A person whose nearest neighbours are all taken is left for the next pass, whose index holds only those left.
    """
    index, free = Neighbours(points[left], exact), np.ones(len(left), bool)
    width = min(len(left), SPARE * k)
    for place, near in _nearest_of_free(index, points[left], free, width):
        open_ones = near[free[near] & (near != place)][: k - 1]
        if len(open_ones) == k - 1 and free.sum() >= 2 * k:
            members = np.append(open_ones, place)
            free[members] = False
            yield left[members]


def _nearest_of_free(
    index: Neighbours, points: np.ndarray, free: np.ndarray, width: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(place, its nearest) for every place that is still free when its turn comes."""
    start = 0
    while start < len(points):
        block = start + np.flatnonzero(free[start:])[:BLOCK]
        if not len(block):
            return
        for place, near in zip(block, index.nearest(points[block], width)[1], strict=True):
            if free[place]:
                yield int(place), near[near >= 0]
        start = block[-1] + 1


def visiting_order(points: np.ndarray) -> np.ndarray:
    """The numbers (n,) of points, farthest from their mean first; equal distances by the coordinates themselves."""
    # Sums of numbers in one order are the same to the last bit, whichever order the people came in.
    order = np.lexsort(points.T)
    rows = points[order]
    return order[np.argsort(-np.linalg.norm(rows - rows.mean(axis=0), axis=1), kind="stable")]


def pair_furthest(centres: np.ndarray) -> np.ndarray:
    """For each group another one, as far away as can be had, each given once: (g,) int, g of 2 and more.

    k-Same-furthest (Meng et al. 2014): a group gets the surrogate of a group that it does not look like. Far away is
    measured by the angle at everybody's mean.
    """
    order = visiting_order(centres)
    rows = centres[order] - centres[order].mean(axis=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    given = _match_antipodes(rows)
    result = np.empty(len(order), int)
    result[order] = order[given]
    return result


def _match_antipodes(units: np.ndarray) -> np.ndarray:
    """For each unit vector the number of another one near its antipode, each number once."""
    given, givers, exact = np.full(len(units), -1), np.arange(len(units)), False
    while len(wanting := np.flatnonzero(given < 0)):
        if len(wanting) == 1 and givers[0] == wanting[0]:
            # The last one would get itself, so it swaps with the first.
            given[wanting[0]], given[0] = given[0], wanting[0]
            break
        index, free = Neighbours(units[givers], exact), np.ones(len(givers), bool)
        for start in range(0, len(wanting), BLOCK):
            block = wanting[start : start + BLOCK]
            for taker, near in zip(block, index.nearest(-units[block], min(len(givers), 8 * SPARE))[1], strict=True):
                near = near[near >= 0]
                open_ones = near[free[near] & (givers[near] != taker)]
                if len(open_ones):
                    given[taker], free[open_ones[0]] = givers[open_ones[0]], False
        givers, exact = givers[free], bool(free.all())
    return given


# --- What a classifier reads off the people of a closed set, so that groups can have it in common.

READ = ("gender", "age", "race")  # what can be asked
AGES = (15.0, 45.0)  # years at which one of the ages that groups have in common ends and the next begins
BATCH = 64  # faces that are read at once


def attributes(census: Census, asked: Sequence[str]) -> list[tuple[str, ...]]:
    """What each person has of the attributes `asked`, out of READ, as read off their typical face; age as one of three.

    Raises PresetError where the classifier is missing or damaged.
    """
    rows, reader, values = census.typical(), AttributeReader("attributes"), []
    for start in range(0, len(rows), BATCH):
        crops = census.crops(rows[start : start + BATCH])
        crops_seen = [reader.cut(Frame(crop.pixels), crop.face) for crop in crops]
        values += [tuple(_value_of(found, name) for name in asked) for found in reader.read(crops_seen)]
    return values


def _value_of(found: Attributes, name: str) -> str:
    return str(int(np.searchsorted(AGES, found.age or 0.0))) if name == "age" else str(getattr(found, name))
