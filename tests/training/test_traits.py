"""Where traits lie among identities, and how much of a person the other half of the latent vector tells."""

from dataclasses import dataclass, replace

import numpy as np

from deidcli.methods.cleanir import turn
from deidcli.training.cleanir_figures import probe
from deidcli.training.cleanir_latent import directions
from deidcli.training.data import Pack

SIZE = 24


def drawn(count=600):
    """Identities in which the first three numbers are gender, age and tone, the rest is the person."""
    random = np.random.default_rng(1)
    gender, years, race = random.integers(0, 2, count), random.integers(1, 90, count), random.integers(0, 3, count)
    identities = random.standard_normal((count, SIZE))
    identities[:, 0] += 4 * gender - 2
    identities[:, 1] += 3 * (np.log1p(years) - 3.5)
    identities[:, 2] += 4 * (race == 1)
    identities[:, 3] += 4 * (race == 2)
    labels = {"gender": gender, "age": years, "race": race}
    columns = {name: column.astype(str) for name, column in labels.items()}
    blank = np.zeros((count, 1, 1, 3), np.uint8)
    return identities, Pack(blank, identities.astype(np.float32), np.arange(count).astype(str), None, columns)


def test_traits_are_found_where_they_lie():
    identities, pack = drawn()
    found = directions(pack, identities)
    assert {name: rows.shape for name, rows in found.items()} == {
        "gender": (1, SIZE),
        "age": (1, SIZE),
        "tone": (2, SIZE),
    }
    assert abs(found["gender"][0, 0]) > 0.95 and abs(found["age"][0, 1]) > 0.95
    assert np.linalg.norm(found["tone"][:, [2, 3]], axis=1).min() > 0.95


def test_half_a_turn_leaves_what_is_kept():
    """Whoever was a man stays one, and everything that is not a trait is the opposite."""
    identities, pack = drawn()
    kept = np.concatenate(list(directions(pack, identities).values()))
    half = np.full(len(identities), 180.0)
    turned = turn(identities, np.ones_like(identities), half, kept)
    unit = identities / np.linalg.norm(identities, axis=1, keepdims=True)
    assert (np.sign(turned[:, 0]) == np.sign(unit[:, 0])).mean() > 0.97
    assert np.corrcoef(turned[:, 10], unit[:, 10])[0, 1] < -0.97


def test_labels_that_are_missing_are_left_out():
    identities, pack = drawn()
    for name in ("gender", "race"):
        pack.labels[name][: len(pack) // 3] = ""
    del pack.labels["age"]
    found = directions(pack, identities)
    assert set(found) == {"gender", "tone"} and abs(found["gender"][0, 0]) > 0.9


def test_the_expression_is_its_labels_and_the_mouth():
    identities, pack = drawn()
    random = np.random.default_rng(7)
    smiles = random.random(len(pack)) < 0.5
    identities[:, 5] += 4 * smiles - 2
    words = np.where(smiles, "happiness", "neutral")
    words[:5] = "contempt"  # of five faces nothing can be learnt
    landmarks = np.tile(random.random((68, 2)), (len(pack), 1, 1)).astype(np.float32)
    landmarks[:, 36:48, 0] = np.r_[np.zeros(6), np.ones(6)]
    landmarks[:, 66, 1] = landmarks[:, 62, 1] + 0.1 * identities[:, 6]
    landmarks[:, 54, 0] = landmarks[:, 48, 0] + 3 + 0.1 * identities[:, 7]
    landmarks[:3] = np.nan
    pack = replace(pack, landmarks=landmarks, labels={"expression": words})
    found = directions(pack, identities)["expression"]
    assert found.shape == (3, SIZE)
    assert abs(found[0, 5]) > 0.9 and abs(found[2, 7]) > 0.9
    assert set(directions(replace(pack, labels={}), identities)) == set()


@dataclass
class Leaky:
    """A pair of networks whose attribute half tells `share` of the descriptor, which stands in the crop's name."""

    rows: np.ndarray
    share: float

    def encode(self, crops):
        random = np.random.default_rng(0)
        known = self.rows[crops[:, 0, 0, :2].astype(int) @ [1, 256]]
        return known, self.share * known + random.standard_normal(known.shape)


def test_the_probe_reads_what_is_there():
    random = np.random.default_rng(2)
    rows = random.standard_normal((900, 64)).astype(np.float32)
    crops = np.zeros((900, 1, 1, 3), np.uint8)
    crops[:, 0, 0, 0], crops[:, 0, 0, 1] = np.arange(900) % 256, np.arange(900) // 256
    pack = Pack(crops, rows, np.arange(900).astype(str))
    faces, strangers = pack.where(np.arange(700)), pack.where(np.arange(700, 900))
    told, blind = probe(Leaky(rows, 5.0), faces, strangers), probe(Leaky(rows, 0.0), faces, strangers)
    assert told["probe_rank1"] == 1 and told["probe_cosine"] > 0.9
    assert blind["probe_rank1"] < 0.03 and abs(blind["probe_cosine"]) < 0.1 and blind["probe_chance"] == 0.005
