"""k-Same-Net (Meden et al. 2018, Algorithm 1): a generative network mixes identities of a proxy set into surrogates.

The people of the closed set are put in groups of at least k; each group gets a cluster of k proxies (the
correspondence f, `correspondence`), and the network makes the face that all of them share. The proxies are averages of
50 people and more, none of whom is in the pictures. What is kept of each picture is read by classifiers and handed to
the network as its appearance; then the face is bent into the target's pose.

Of the target's shape only the pose (an affine map), four numbers (how far lips and lids are open, how high brows and
corners of the mouth are), a wide open mouth and a third of the outline of the jaw are taken: bent to all landmarks, one
and the same face is still recognised as different people. The mask covers the hairline for the same reason.

Departures from the paper: its proxies are real people (RaFD), ours are averages. Two groups may get one cluster,
because a set of a thousand people has more groups than there are proxies. Gender and age, which the paper calls
possible further appearance parameters, are kept by the groups: people of one gender (or one of three ages) share a
surrogate of that gender, unless one of them would be named with each that there is. Where fewer than k people have a
value, they join the group that is nearest.

The bound 1 / k holds for the new face itself, as in the paper (Section 4.3) under the assumption that pose, expression
and what is taken of the jaw, which are the target's, do not tell who somebody is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.attributes import SMILE, AttributeReader
from deidcli.faces.blend import BlendOptions, blend
from deidcli.faces.embed import recogniser
from deidcli.faces.neighbours import Neighbours
from deidcli.faces.pose import mouth_gap
from deidcli.methods.base import Census, Models, Secret, option
from deidcli.methods.closed import ClosedSet, Plan, too_few_people
from deidcli.methods.ksame.grouping import attributes, group_by_value
from deidcli.methods.ksame.proxies import ADULT_AGE, RECOGNISER, Proxies, alike, log_age, mouth_weights
from deidcli.methods.ksame.render import (
    Posed,
    Surrogate,
    can_pose,
    crop_landmarks,
    fit_open_mouth,
    fit_surrogate,
    pose_transfer,
)
from deidcli.presets import Preset, load_preset
from deidcli.values import Crop, CropSpec, Frame

if TYPE_CHECKING:
    from deidcli.networks.ksame_net import Generator


KEPT = ("expression", "gender", "age")


@dataclass(frozen=True)
class Mix:
    """Which proxies a surrogate is made of: x of Equation 1, (p,), sum 1."""

    identities: np.ndarray


class KSameNetModels(Models):
    """The preset, the classifiers of what is kept, the proxies and the network."""

    @cached_property
    def preset(self) -> Preset:
        return load_preset(self.options.preset, "ksame-net")

    @cached_property
    def classifiers(self) -> list[Preset]:
        kept = _kept(self.options.preserve)
        names = ["expression"] * ("expression" in kept) + ["attributes"] * bool(kept & {"gender", "age"})
        return [load_preset(name, "classifier") for name in names]

    @cached_property
    def proxies(self) -> Proxies:
        return Proxies.of(self.preset)

    @cached_property
    def expressions(self) -> AttributeReader:
        return AttributeReader("expression")

    @cached_property
    def network(self) -> Generator:
        from deidcli.networks.ksame_net import load

        return load(self.preset)


class KSameNet(ClosedSet):
    """Raises PresetError where a preset is damaged, UsageError for a --preserve that is none."""

    name = "ksame-net"
    summary = "k people share a face from a generative network that shows no real person; keeps expression, gender, age"
    crop = CropSpec(size=None, margin=0.25, mask="high", transfer_lighting=False)
    Models = KSameNetModels

    @dataclass(frozen=True)
    class Options(ClosedSet.Options):
        preserve: str = option("expression,gender", "what is kept: expression, gender, age, with commas, or none")
        preset: str = option("ksame-net-96", "name or folder of the weights")

    def __init__(self, options: Any = None, secret: Secret | None = None, models: KSameNetModels | None = None):
        super().__init__(options, secret, models)
        self.kept = _kept(self.options.preserve)
        self.models.proxies  # noqa: B018 - a damaged preset ends the run before it begins
        for preset in self.models.classifiers:
            preset.verify()

    @property
    def weights(self) -> str:
        return "+".join(preset.checksum for preset in (self.models.preset, *self.models.classifiers))

    @property
    def preset(self) -> str:
        return self.options.preset

    def accepts(self, crop: Crop) -> bool:
        """Not a profile: no frontal face shows its side."""
        return can_pose(crop)

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
        """Give each group a cluster of proxies, chosen by how a recogniser sees its people with each candidate."""
        describer, numbers = SurrogateDescriber(self, census), range(len(self._members))
        giver = np.where(self.plan.group < 0, -1, self.plan.source[self.plan.group])
        targets = [np.flatnonzero(giver == number) for number in numbers]

        def described(people: np.ndarray, clusters: Sequence[np.ndarray]) -> np.ndarray:
            return describer.describe(people, [self._mix(cluster, _alike(len(cluster))) for cluster in clusters])

        found = Correspondence(self.models.proxies, frozenset(self.kept), self.options.k, self.secret, described)
        self._clusters = found.assigned(self._members, targets, census.centres())

    def _values(self, census: Census) -> list[tuple]:
        """What each person has of the attributes that groups have in common, read off their typical face."""
        asked = [name for name in ("gender", "age") if name in self.kept]
        return attributes(census, asked) if asked else [()] * census.count

    # --- lines 4 to 8: x, y, and the face

    def surrogate(self, faces: np.ndarray, weights: np.ndarray) -> Mix:
        """The cluster of the group that the faces belong to, mixed by `weights`."""
        cluster = self._clusters[int(self.plan.group[self.census.people[faces[0]]])]
        # A group of more than k people still has k proxies, with equal weights unless each member has a mixture.
        return self._mix(cluster, weights if self.options.diverse else _alike(len(cluster)))

    def _mix(self, cluster: np.ndarray, weights: np.ndarray) -> Mix:
        identities = np.zeros(len(self.models.proxies.shapes))
        np.add.at(identities, cluster[np.arange(len(weights)) % len(cluster)], weights)
        return Mix(identities)

    def render(self, surrogates: Sequence[Mix], crops: Sequence[Crop]) -> list[np.ndarray]:
        seen = self._seen(crops)
        wanted = [self._wanted(mix, *shown) for mix, shown in zip(surrogates, seen, strict=True)]
        rows = np.array([row for face in wanted for _, row, _ in face])
        count = len(self.models.proxies.shapes)
        pictures = iter(self.models.network.generate(rows[:, :count], rows[:, count:]))
        made = []
        for face, (expression, _), crop in zip(wanted, seen, crops, strict=True):
            faces = [(share, Surrogate(next(pictures), points)) for share, _, points in face]
            word = self.models.proxies.expressions[expression]
            posed = [Posed(share, one, self._shape(one.landmarks, crop, word)) for share, one in faces]
            made.append(fit_surrogate(posed, crop) if word == SMILE or len(posed) == 1 else fit_open_mouth(posed, crop))
        return made

    def _seen(self, crops: Sequence[Crop]) -> list[tuple[int, np.ndarray]]:
        """The number of the expression of each crop, and how much of each mouth it shows; neutral where not kept."""
        if "expression" not in self.kept:
            return [(0, mouth_weights(-1.0, self.models.proxies.steps))] * len(crops)
        words = [found.expression for found in self.models.expressions.of_crops(crops)]
        known, steps = self.models.proxies.expressions, self.models.proxies.steps
        return [(known.index(word) if word in known else 0, mouth_weights(mouth_gap(crop_landmarks(crop)), steps))
                for word, crop in zip(words, crops, strict=True)]  # fmt: skip

    def _wanted(self, mix: Mix, expression: int, mouths: np.ndarray) -> list[tuple[float, np.ndarray, np.ndarray]]:
        """(share, x and y side by side, landmarks in the network's picture) for each mouth that takes part.

        The closed mouth comes first, with the share 0 where only the rest of its face is wanted.
        """
        known = self.models.proxies
        rows = []
        smiles = known.expressions[expression] == SMILE
        for mouth in np.flatnonzero((mouths > 0) | (np.arange(len(mouths)) == 0) & (not smiles)):
            appearance = np.concatenate([np.eye(len(known.moves))[expression], np.eye(len(mouths))[mouth]])
            points = np.tensordot(mix.identities, known.shapes[:, mouth], 1) + known.moves[expression]
            rows.append((float(mouths[mouth]), np.concatenate([mix.identities, appearance]), known.pixels(points)))
        return rows

    def _shape(self, points: np.ndarray, crop: Crop, expression: str) -> np.ndarray:
        """Where the new face's landmarks come to lie in the crop: in the target's pose."""
        target = crop_landmarks(crop)
        return pose_transfer(points, target, moved="expression" in self.kept, expression=expression)


def _alike(count: int) -> np.ndarray:
    return np.full(count, 1 / count)


def _kept(text: str) -> set[str]:
    """What --preserve names. Raises UsageError."""
    words = {word.strip() for word in text.split(",") if word.strip()}
    if not words or words - {*KEPT, "none"} or ("none" in words and len(words) > 1):
        raise UsageError(f"--preserve {text}: not known", f"name some of {', '.join(KEPT)} with commas, or none")
    return words - {"none"}


# --- Which cluster of proxies stands for which group: the correspondence f of Algorithm 1 (lines 2 and 3).
#
# The paper leaves f free. In a photograph hair, jaw and light stay, and where the gender stays as well, a cluster that
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

    described: (people (n,), the cluster of each) to the descriptors (n, 128) of their new faces.
    """

    proxies: Proxies
    kept: frozenset[str]
    size: int
    secret: Secret
    described: Described

    def assigned(self, groups: Sequence[np.ndarray], targets: Sequence[np.ndarray], centres: np.ndarray) -> list:
        """The proxies (size,) of each group. groups: people (m,) whose gender and age its proxies have.

        targets: people (m,) who are to get them. centres: (p, 128), descriptors of all people.
        """
        found: list[np.ndarray] = [np.zeros(0, int)] * len(groups)
        kinds: dict[bytes, list[int]] = {}
        fits = [self.fitting(centres[members]) for members in groups]
        for number, fit in enumerate(fits):
            kinds.setdefault(fit.tobytes(), []).append(number)
        known = Neighbours(centres)
        for numbers in kinds.values():
            count = int(np.clip(SPARE * len(numbers), POOL, MOST))
            own = self._drawn(fits[numbers[0]], count, f"clusters {numbers[0]}")
            other = self._drawn(self._grown(fits[numbers[0]]), count, f"others {numbers[0]}") if self.kept else []
            chosen = self._chosen(own, other, [targets[number] for number in numbers], centres, known)
            for number, cluster in zip(numbers, chosen, strict=True):
                found[number] = cluster
        return found

    def fitting(self, members: np.ndarray) -> np.ndarray:
        """The proxies (f,) of the gender and age of members (m, 128), where those are kept; all where too few are.

        Children get children's faces whatever is kept. Nothing else has to be alike: proxies of the same race, for
        example, would leave a recogniser fewer people to confuse a person with.
        """
        known, predicted = self.proxies, self.proxies.probe(members).mean(axis=0)
        gender, age, _ = alike(known.traits, predicted)
        fits = (gender | ("gender" not in self.kept)) & (age | ("age" not in self.kept))
        fits &= (known.traits[:, 1] >= log_age(ADULT_AGE)) == (predicted[1] >= log_age(ADULT_AGE))
        return np.flatnonzero(fits if fits.sum() >= self.size else np.ones(len(fits), bool))

    def _grown(self, fits: np.ndarray) -> np.ndarray:
        """All proxies that are children or adults as those that fit are."""
        adult = self.proxies.traits[:, 1] >= log_age(ADULT_AGE)
        return np.flatnonzero(adult == adult[fits[0]])

    def _drawn(self, fits: np.ndarray, count: int, name: str) -> list[np.ndarray]:
        """Clusters (size,) of proxies that fit: one that is drawn, and others like it.

        The mean of proxies that have nothing in common would be the mean of all proxies.
        """
        draws, described = self.secret.generator(name), self.proxies.descriptors
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
    """By how much a person is nearer to descriptors (n, 128) than anybody else is: (n,), below 0 for no nearer."""
    apart, numbers = known.nearest(rows, 2)
    others = np.where(numbers[:, 0] == who, apart[:, -1], apart[:, 0])
    return others - np.linalg.norm(rows - centres[who], axis=1)


# --- Embeddings of people with the surrogates that they may get

BATCH = 64  # faces that are made at once


class SurrogateDescriber:
    """Holds a census and the method whose surrogates are tried on."""

    def __init__(self, method: ClosedSet, census: Census):
        self._method, self._census, self._rows = method, census, census.typical()
        self._recogniser = recogniser(RECOGNISER)

    def describe(self, people: np.ndarray, surrogates: Sequence[Any]) -> np.ndarray:
        """dlib's descriptors (n, 128) of the typical faces of `people` (n,), each with its surrogate put on."""
        starts = range(0, len(people), BATCH)
        return np.concatenate([self._batch(people[i : i + BATCH], surrogates[i : i + BATCH]) for i in starts])

    def _batch(self, people: np.ndarray, surrogates: Sequence[Any]) -> np.ndarray:
        crops = self._census.crops(self._rows[people])
        made = self._method.render(surrogates, crops)
        return self._recogniser.embed(
            np.stack([self._chip(crop, pixels) for crop, pixels in zip(crops, made, strict=True)])
        )

    def _chip(self, crop: Crop, pixels: np.ndarray) -> np.ndarray:
        done = blend(Frame(crop.pixels), crop.with_pixels(pixels), self._method.crop, BlendOptions()).frame
        return self._recogniser.chips(done.pixels, [crop.face])[0]
