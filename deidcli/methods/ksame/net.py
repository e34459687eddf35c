"""k-Same-Net (Meden et al. 2018, Algorithm 1): a generative model mixes identities of a proxy set into surrogates.

The people of the closed set are put in groups of at least k; each group gets a cluster of k proxies (the
correspondence f, `Correspondence`), and the generative model makes the face that all of them share: x of Equation 1
says which proxies, each with 1 / k, and y what the face shows. The proxies are the faces of the face model's bank,
nobody's; none of them is in the pictures.

Departures from the paper: the generator is the face model, which is linear and is not trained on one-hot vectors, where
the paper trains a convolutional network; y is what the model keeps of each picture (expression, tone, light) beside the
pose. The mix is scaled to the length of a single face (`proxies`). Two groups may get one cluster. Gender and age,
which the paper calls possible further appearance parameters, are kept by the groups: people of one gender (or one of
three ages) share a surrogate of that gender, unless one of them would be named with each that there is. Where fewer
than k people have a value, they join the group that is nearest.

The bound 1 / k holds for the new face itself, as in the paper (Section 4.3) under the assumption that pose and
expression, which are the target's, do not tell who somebody is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.people import Neighbours
from deidcli.methods.base import Census, Secret, option
from deidcli.methods.closed import ClosedSet, Plan, attributes, group_by_value, too_few_people
from deidcli.methods.identities import JUDGED
from deidcli.methods.ksame.m import CanonicalClosedSet, MeanFace, Proxies
from deidcli.methods.new_face import Seen, composited, shrunk
from deidcli.presets import Preset, load_preset

KEPT = ("gender", "age")


class KSameNet(CanonicalClosedSet):
    """Raises PresetError where a preset is damaged, UsageError for a --preserve that is none."""

    name = "ksame-net"
    summary = "k people share a mix of k faces of nobody; keeps expression, and gender and age as asked"

    @dataclass(frozen=True)
    class Options(ClosedSet.Options):
        preserve: str = option("gender", "what is kept beside pose and expression: gender, age, with commas, or none")
        gallery: str = option("face-256", "name or folder of a face model, whose bank the proxies are")

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        super().__init__(options, secret, models)
        self.models.judges  # noqa: B018 - loaded here, so that what is missing is said before the first file is read
        self.kept = _kept(self.options.preserve)
        self._classifier: Preset | None = load_preset("attributes", "classifier") if self.kept else None
        if self._classifier is not None:
            self._classifier.verify()

    @property
    def weights(self) -> str:
        """Of the face model, and of the classifier that tells groups apart."""
        return super().weights + (f"+{self._classifier.checksum}" if self._classifier is not None else "")

    # --- lines 1 to 3 of Algorithm 1: clusters of the set, clusters of the proxies, and which gets which

    def assign(self, census: Census) -> Plan:
        """Groups of people who have in common what is kept. Raises UsageError for fewer than k people."""
        if census.count < self.options.k:
            raise too_few_people(census.count, self.options.k)
        return self.planned(census, group_by_value(census.centres(), self._values(census), self.options.k))

    def planned(self, census: Census, group: np.ndarray, kind: np.ndarray | None = None) -> Plan:
        """A group's own proxies are far from all of its people already; another group's might not keep its gender."""
        own = self.options.pairing == "auto"
        return Plan(group, np.arange(int(group.max()) + 1)) if own else super().planned(census, group, kind)

    def learn(self, census: Census) -> None:
        """Give each group a cluster of proxies, chosen by how recognisers see its people with each candidate."""
        describer, numbers = SurrogateDescriber(self, census), range(len(self._members))
        giver = np.where(self.plan.group < 0, -1, self.plan.source[self.plan.group])
        targets = [np.flatnonzero(giver == number) for number in numbers]
        traits = self.models.model.traits(census.centres())
        known = describer.known()
        self._traits = [traits[members].mean(axis=0) for members in self._members]

        def described(people: np.ndarray, clusters: Sequence[np.ndarray]) -> np.ndarray:
            mixes = [self._mix(cluster, _alike(len(cluster)), int(giver[who]))
                     for who, cluster in zip(people, clusters, strict=True)]  # fmt: skip
            return describer.describe(people, mixes)

        found = Correspondence(self.models.proxies, frozenset(self.kept), self.options.k, self.secret, described)
        self._clusters = found.assigned(self._traits, targets, known)

    def _values(self, census: Census) -> list[tuple]:
        """What each person has of the attributes that groups have in common, read off their typical face."""
        asked = [name for name in KEPT if name in self.kept]
        return attributes(census, asked) if asked else [()] * census.count

    # --- lines 4 to 8: x, y, and the face

    def surrogate(self, faces: np.ndarray, weights: np.ndarray) -> MeanFace:
        """The cluster of the group that the faces belong to, mixed by `weights`."""
        group = int(self.plan.group[self.census.people[faces[0]]])
        cluster = self._clusters[group]
        # A group of more than k people still has k proxies, with equal weights unless each member has a mixture.
        return self._mix(cluster, weights if self.options.diverse else _alike(len(cluster)), group)

    def _mix(self, cluster: np.ndarray, weights: np.ndarray, group: int) -> MeanFace:
        """The mix of a cluster of proxies, of the age of a group, and of its gender where the cluster has that.

        A face of another age than the head's around it is seen at once, and the mean age of k people names none.
        """
        given = np.zeros(len(cluster))
        np.add.at(given, np.arange(len(weights)) % len(cluster), weights)
        mixed = self.models.proxies.mean(cluster, given)
        return MeanFace(mixed.texture, mixed.shape, np.array([mixed.traits[0], self._traits[group][1]], np.float32))


def _alike(count: int) -> np.ndarray:
    return np.full(count, 1 / count)


def _kept(text: str) -> set[str]:
    """What --preserve names. Raises UsageError."""
    words = {word.strip() for word in text.split(",") if word.strip()}
    if not words or words - {*KEPT, "none"} or ("none" in words and len(words) > 1):
        raise UsageError(f"--preserve {text}: not known", "name gender, age or both, with a comma, or none")
    return words - {"none"}


# --- Which cluster of proxies stands for which group: the correspondence f of Algorithm 1 (lines 2 and 3).
#
# The paper leaves f free. In a photograph hair, head and light stay, and where the gender stays as well, a cluster that
# is chosen at random lets a recogniser name more people than chance would. So clusters are tried and compared.
# Embeddings are about 90 % additive: the embedding of a new face is close to what is left of the person plus what the
# cluster contributes. So each person is rendered with one cluster and SAMPLES people with all of them, and the
# embedding of every other pair is predicted as that sum. A group gets the cluster with which the recogniser is least
# likely to name its own people first. All people of a group have the same cluster in the end, so k-anonymity is not
# changed.

LIKE = 1.5  # the other proxies of a cluster are drawn among the LIKE * size that are nearest to its first one
POOL, SPARE, MOST = 16, 2, 200  # candidate clusters of a kind: at least POOL, SPARE for each group, at most MOST
SAMPLES = 3  # people who are rendered with all clusters of a kind

Described = Callable[[np.ndarray, Sequence[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Correspondence:
    """proxies: of the preset. kept: of "gender" and "age" what a cluster has in common with its group. size: proxies of
    a cluster. secret: of the run.

    described: (people (n,), the cluster of each) to the joined descriptors (n, 256) of their new faces.
    """

    proxies: Proxies
    kept: frozenset[str]
    size: int
    secret: Secret
    described: Described

    def assigned(self, traits: Sequence[np.ndarray], targets: Sequence[np.ndarray], centres: np.ndarray) -> list:
        """The proxies (size,) of each group. traits: gender and age (2,) of each, which its proxies have.

        targets: people (m,) who are to get them. centres: (p, 256), joined descriptors of all people.
        """
        found: list[np.ndarray] = [np.zeros(0, int)] * len(traits)
        kinds: dict[bytes, list[int]] = {}
        fits = [self.fitting(*own) for own in traits]
        for number, fit in enumerate(fits):
            kinds.setdefault(fit.tobytes(), []).append(number)
        known, everybody = Neighbours(centres), np.arange(len(self.proxies.kept))
        for numbers in kinds.values():
            count = int(np.clip(SPARE * len(numbers), POOL, MOST))
            own = self._drawn(fits[numbers[0]], count, f"clusters {numbers[0]}")
            other = self._drawn(everybody, count, f"others {numbers[0]}") if self.kept else []
            chosen = self._chosen(own, other, [targets[number] for number in numbers], centres, known)
            for number, cluster in zip(numbers, chosen, strict=True):
                found[number] = cluster
        return found

    def fitting(self, gender: float, age: float) -> np.ndarray:
        """The proxies (f,) of a gender and of an age, where those are kept; all where too few are.

        Age counts as young or old, so that groups have kinds of proxies in common. Nothing else has to be alike:
        proxies of the same tone, for example, would leave a recogniser fewer people to confuse a person with.
        """
        known = self.proxies.kept
        fits = np.ones(len(known), bool)
        for column, (name, own) in enumerate(zip(KEPT, (gender, age), strict=True)):
            if name in self.kept:
                fits &= (known[:, column] > 0) == (own > 0)
        return np.flatnonzero(fits if fits.sum() >= self.size else np.ones(len(fits), bool))

    def _drawn(self, fits: np.ndarray, count: int, name: str) -> list[np.ndarray]:
        """Clusters (size,) of proxies that fit: one that is drawn, and others like it.

        The mean of proxies that have nothing in common would be the mean of all proxies.
        """
        draws, described = self.secret.generator(name), self.proxies.described
        size, clusters = min(self.size, len(fits)), []
        for _ in range(count):
            first = draws.choice(fits)
            order = fits[np.argsort(np.linalg.norm(described[fits] - described[first], axis=1), kind="stable")]
            like = order[1 : max(size, int(LIKE * size) + 1)]
            clusters.append(np.append(first, draws.choice(like, size - 1, replace=False)))
        return clusters

    def _chosen(
        self,
        own: list[np.ndarray],
        other: list[np.ndarray],
        targets: list[np.ndarray],
        centres: np.ndarray,
        known: Neighbours,
    ) -> list[np.ndarray]:
        """The cluster of each group of targets: of its own kind, unless each of those leaves one of its people
        recognised.

        Several groups may get the same cluster; then more than k people share a face.
        """
        clusters, people = own + other, np.concatenate(targets)
        samples = people[np.linspace(0, len(people) - 1, min(SAMPLES, len(people))).astype(int)]
        tried = self.described(np.tile(samples, len(clusters)), [c for c in clusters for _ in samples])
        brought = tried.reshape(len(clusters), len(samples), -1).mean(axis=1)
        left = dict(zip(people.tolist(), self.described(people, [own[0]] * len(people)) - brought[0], strict=True))
        chosen = []
        for group in targets:
            exposed = np.max([_exposed(left[who] + brought, who, centres, known) for who in group.tolist()], axis=0)
            within = exposed[: len(own)] if exposed[: len(own)].min() < 0 else exposed
            chosen.append(clusters[int(np.argmin(within))])
        return chosen


def _exposed(rows: np.ndarray, who: int, centres: np.ndarray, known: Neighbours) -> np.ndarray:
    """By how much a person is nearer to descriptors (n, 256) than any other: (n,), below 0 for no nearer."""
    apart, numbers = known.nearest(rows, 2)
    others = np.where(numbers[:, 0] == who, apart[:, -1], apart[:, 0])
    return others - np.linalg.norm(rows - centres[who], axis=1)


# --- Embeddings of people with the surrogates that they may get

HELD = 8  # people whose faces are held ready for further surrogates


class SurrogateDescriber:
    """Holds a census and the method whose surrogates are tried on."""

    def __init__(self, method: KSameNet, census: Census):
        self._method, self._census, self._rows = method, census, census.typical()
        self._seen = lru_cache(maxsize=HELD)(self._read)

    def known(self) -> np.ndarray:
        """The joined descriptors (people, 256) of everybody's own typical face."""
        return np.stack([self._joined(seen.crop.pixels, seen) for seen in map(self._read, range(len(self._rows)))])

    def describe(self, people: np.ndarray, surrogates: Sequence[MeanFace]) -> np.ndarray:
        """Joined descriptors (n, 256) of the typical faces of `people` (n,), each with its surrogate put on."""
        return np.stack([self._one(who, one) for who, one in zip(people.tolist(), surrogates, strict=True)])

    def _read(self, who: int) -> Seen:
        """A face as it is tried on: small, and with nothing that lies over it, so that a surrogate always fits."""
        seen = shrunk(self._method.models.read(self._census.crops(self._rows[[who]])[0]), JUDGED)
        return replace(seen, reading=replace(seen.reading, hidden=np.zeros_like(seen.reading.hidden)))

    def _one(self, who: int, face: MeanFace) -> np.ndarray:
        seen = self._seen(who)
        return self._joined(composited(seen.crop, self._method.worn(face, seen)), seen)

    def _joined(self, pixels: np.ndarray, seen: Seen) -> np.ndarray:
        models = self._method.models
        return models.joined(models.described(pixels, seen.crop))
