"""k-Same-Net (Meden et al. 2018, Algorithm 1): a generative network mixes identities of a proxy set into surrogates.

The people of the closed set are put in groups of at least k; each group gets a cluster of k proxies (the
correspondence f, `correspondence`), and the network makes the face that all of them share. The proxies are averages of
50 people and more, none of whom is in the pictures. What is kept of each picture is read by classifiers and handed to
the network as its appearance; then the face is bent into the target's pose.

Of the target's shape only the pose (an affine map), four numbers (how far lips and lids are open, how high brows and
corners of the mouth are), a wide open mouth and a third of the outline of the jaw are taken: bent to all landmarks, one
and the same face for everybody is still told apart. The mask hides where the hair begins, for the same reason.

Departures from the paper: its proxies are people (RaFD), ours are nobody. Two groups may get one cluster, because a set
of a thousand people has more groups than there are proxies. Gender and age, which the paper calls possible further
appearance parameters, are kept by the groups: people of one gender (or one of three ages) share a surrogate of that
gender, unless one of them would be named with each that there is. Where fewer than k people have a value, they join the
group that is nearest.

The bound 1 / k holds for the new face itself, as in the paper (Section 4.3) under the assumption that pose, expression
and what is taken of the jaw, which are the target's, do not tell who somebody is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.attributes import SMILE, AttributeReader
from deidcli.faces.pose import mouth_gap
from deidcli.methods.attributed import attributes
from deidcli.methods.base import option
from deidcli.methods.census import Census
from deidcli.methods.closed import ClosedSet, Plan, too_few
from deidcli.methods.correspondence import Correspondence
from deidcli.methods.fitted import Posed, Surrogate, can_pose, crop_landmarks, fitted, opened
from deidcli.methods.groups import grouped_alike
from deidcli.methods.mixes import Proxies, turned
from deidcli.methods.proxies import mouth_mix
from deidcli.methods.trial import Trial
from deidcli.presets import Preset, load_preset
from deidcli.values import Crop, CropSpec

KEPT = ("expression", "gender", "age")


@dataclass(frozen=True)
class Mix:
    """Which proxies a surrogate is made of: x of Equation 1, (p,), sum 1."""

    identities: np.ndarray


class KSameNet(ClosedSet):
    """Raises PresetError where a preset is damaged, UsageError for a --preserve that is none."""

    name = "ksame-net"
    summary = "k people share a face of nobody from a generative network; keeps expression, gender, age"
    crop = CropSpec(size=None, margin=0.25, mask="high", match_color=False)

    @dataclass(frozen=True)
    class Options(ClosedSet.Options):
        preserve: str = option("expression,gender", "what is kept: expression, gender, age, with commas, or none")
        preset: str = option("ksame-net-96", "name or folder of the weights")

    def __init__(self, options=None, secret=None):
        super().__init__(options, secret)
        self.kept = _kept(self.options.preserve)
        self._proxies  # noqa: B018 - a damaged preset ends the run before it begins
        for preset in self._readers:
            preset.verify()

    @property
    def weights(self) -> str:
        return "+".join(preset.checksum for preset in (self._preset, *self._readers))

    def accepts(self, crop: Crop) -> bool:
        """Not a profile: no frontal face shows its side."""
        return can_pose(crop)

    # --- lines 1 to 3 of Algorithm 1: clusters of the set, clusters of the proxies, and which gets which

    def assign(self, census: Census) -> Plan:
        """Groups of people who have in common what is kept. Raises UsageError for fewer than k people."""
        if census.count < self.options.k:
            raise too_few(census.count, self.options.k)
        return self.planned(census, grouped_alike(census.centres(), self._values(census), self.options.k))

    def planned(self, census: Census, group: np.ndarray, kind: np.ndarray | None = None) -> Plan:
        """A group's own proxies are far from all of its people already; another group's might not keep its gender."""
        own = self.options.pairing == "auto"
        return Plan(group, np.arange(int(group.max()) + 1)) if own else super().planned(census, group, kind)

    def learn(self, census: Census) -> None:
        """Give each group a cluster of proxies, tried on by the people who are to get it."""
        trial, numbers = Trial(self, census), range(len(self._members))
        giver = np.where(self.plan.group < 0, -1, self.plan.source[self.plan.group])
        targets = [np.flatnonzero(giver == number) for number in numbers]

        def described(people: np.ndarray, clusters: Sequence[np.ndarray]) -> np.ndarray:
            return trial.described(people, [self._mix(cluster, _alike(len(cluster))) for cluster in clusters])

        found = Correspondence(self._proxies, frozenset(self.kept), self.options.k, self.secret, described)
        self._clusters = found.assigned(self._members, targets, census.centres())

    def _values(self, census: Census) -> list[tuple]:
        """What each person has of the attributes that groups have in common, read off their typical face."""
        asked = [name for name in ("gender", "age") if name in self.kept]
        return attributes(census, asked) if asked else [()] * census.count

    # --- lines 4 to 8: x, y, and the face

    def surrogate(self, faces: np.ndarray, weights: np.ndarray) -> Mix:
        """The cluster of the group that the faces belong to, mixed by `weights`."""
        cluster = self._clusters[int(self.plan.group[self.census.people[faces[0]]])]
        # A group of more than k people has k proxies all the same, alike unless each member has a mixture.
        return self._mix(cluster, weights if self.options.diverse else _alike(len(cluster)))

    def _mix(self, cluster: np.ndarray, weights: np.ndarray) -> Mix:
        identities = np.zeros(len(self._proxies.shapes))
        np.add.at(identities, cluster[np.arange(len(weights)) % len(cluster)], weights)
        return Mix(identities)

    def render(self, surrogates: Sequence[Mix], crops: Sequence[Crop]) -> list[np.ndarray]:
        seen = self._seen(crops)
        wanted = [self._wanted(mix, *shown) for mix, shown in zip(surrogates, seen, strict=True)]
        rows = np.array([row for face in wanted for _, row, _ in face])
        count = len(self._proxies.shapes)
        pictures = iter(self._network.generate(rows[:, :count], rows[:, count:]))
        made = []
        for face, (expression, _), crop in zip(wanted, seen, crops, strict=True):
            faces = [(share, Surrogate(next(pictures), points)) for share, _, points in face]
            word = self._proxies.expressions[expression]
            posed = [Posed(share, one, self._shape(one.landmarks, crop, word)) for share, one in faces]
            made.append(fitted(posed, crop) if word == SMILE or len(posed) == 1 else opened(posed, crop))
        return made

    def _seen(self, crops: Sequence[Crop]) -> list[tuple[int, np.ndarray]]:
        """The number of the expression of each crop, and how much of each mouth it shows; neutral where not kept."""
        if "expression" not in self.kept:
            return [(0, mouth_mix(-1.0, self._proxies.steps))] * len(crops)
        words = [found.expression for found in self._expressions.of_crops(crops)]
        known, steps = self._proxies.expressions, self._proxies.steps
        return [(known.index(word) if word in known else 0, mouth_mix(mouth_gap(crop_landmarks(crop)), steps))
                for word, crop in zip(words, crops, strict=True)]  # fmt: skip

    def _wanted(self, mix: Mix, expression: int, mouths: np.ndarray) -> list[tuple[float, np.ndarray, np.ndarray]]:
        """(share, x and y side by side, landmarks in the network's picture) for each mouth that takes part.

        The closed mouth comes first, with the share 0 where only the rest of its face is wanted.
        """
        known = self._proxies
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
        return turned(points, target, moved="expression" in self.kept, expression=expression)

    # --- what is loaded

    @cached_property
    def _preset(self) -> Preset:
        return load_preset(self.options.preset, self.name)

    @cached_property
    def _readers(self) -> list[Preset]:
        names = ["expression"] * ("expression" in self.kept) + ["attributes"] * bool(self.kept & {"gender", "age"})
        return [load_preset(name, "classifier") for name in names]

    @cached_property
    def _proxies(self) -> Proxies:
        return Proxies.of(self._preset)

    @cached_property
    def _expressions(self) -> AttributeReader:
        return AttributeReader("expression")

    @cached_property
    def _network(self):
        from deidcli.networks.ksame_net import load

        return load(self._preset)


def _alike(count: int) -> np.ndarray:
    return np.full(count, 1 / count)


def _kept(said: str) -> set[str]:
    """What --preserve names. Raises UsageError."""
    words = {word.strip() for word in said.split(",") if word.strip()}
    if not words or words - {*KEPT, "none"} or ("none" in words and len(words) > 1):
        raise UsageError(f"--preserve {said}: not known", f"name some of {', '.join(KEPT)} with commas, or none")
    return words - {"none"}
