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
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from deidcli.errors import MethodError, UsageError
from deidcli.methods.base import Census, Method, Secret, option
from deidcli.methods.ksame.grouping import group_people, pair_furthest
from deidcli.values import Crop, CropSpec

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

    Not judged: a surrogate looks like its members. To cover just those of them who are recognised would tell them from
    the others, and leave fewer than k people behind the surrogate. A subclass whose surrogates are made of other people
    may set `judged`.
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
