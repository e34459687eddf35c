"""Known answers: every figure on numbers whose result is known by hand, or by scikit-learn and scikit-image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from sklearn import metrics as sk

from deidcli.evaluation import measures, metrics
from deidcli.evaluation.measures import DEPTH, pose_difference
from deidcli.evaluation.results import CHANCE
from deidcli.faces.align import MEAN_SHAPE
from deidcli.faces.recognisers import Recogniser
from tests.conftest import MIRROR


class Plain(Recogniser):
    name, threshold, length = "plain", 1.0, 1

    def chips(self, pixels, faces):
        return pixels

    def embed(self, chips):
        return chips


JUDGE = Plain()
RANDOM = np.random.default_rng(3)
SAME, STRANGERS = RANDOM.normal(0.4, 0.15, 300), RANDOM.normal(0.8, 0.15, 400)


def column(*values):
    return np.array(values, float)[:, None]


def test_matching_rate_counts_the_threshold_itself():
    assert metrics.matching_rate([0.1, 0.6, 0.7], 0.6) == pytest.approx(2 / 3)
    assert np.isnan(metrics.matching_rate([], 0.6))


def test_interval_of_a_share_is_the_binomial_one():
    figure = metrics.share("x", np.arange(400) < 100)
    wide = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert figure.value == 0.25 and figure.count == 400
    assert figure.low == pytest.approx(0.25 - wide, abs=0.006) and figure.high == pytest.approx(0.25 + wide, abs=0.006)


def test_people_are_drawn_whole():
    """Ten pictures of one person say no more than one, so the interval is as wide as that of the people."""
    people = np.repeat(np.arange(40), 10)
    hits = people < 10
    grouped, alone = metrics.bootstrap(hits, people), metrics.bootstrap(hits)
    assert grouped[1] - grouped[0] > 2.5 * (alone[1] - alone[0])


def test_nothing_in_a_few_is_not_nothing():
    figure = metrics.share("x", np.zeros(20))
    assert (figure.value, figure.low) == (0, 0) and figure.high == pytest.approx(1 - 0.025 ** (1 / 20))
    figure = metrics.share("x", np.ones(30), np.repeat([1, 2, 3], 10))
    assert (figure.value, figure.high) == (1, 1) and figure.low == pytest.approx(0.025 ** (1 / 3))


def test_no_cases_are_no_number():
    figure = metrics.share("x", np.array([]))
    assert np.isnan([figure.value, figure.low, figure.high]).all() and figure.count == 0


def test_roc_and_its_kin_are_those_of_scikit_learn():
    truth, score = np.r_[np.ones(300), np.zeros(400)], -np.r_[SAME, STRANGERS]
    curve = metrics.roc(SAME, STRANGERS)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(sk.roc_auc_score(truth, score))
    false, true, _ = sk.roc_curve(truth, score, drop_intermediate=False)
    for rate in (0.001, 0.01, 0.1):
        assert metrics.accepts_at(SAME, STRANGERS, rate).value == pytest.approx(true[false <= rate].max())
    error = metrics.equal_error_rate(SAME, STRANGERS)
    assert abs(false - (1 - true)).min() == pytest.approx(0, abs=0.01) and error == pytest.approx(
        false[np.argmin(abs(false - (1 - true)))], abs=0.005
    )


def test_equal_error_rate_of_the_extremes():
    assert metrics.equal_error_rate([0.1, 0.2], [0.8, 0.9]) == 0
    assert metrics.equal_error_rate([0.8, 0.9], [0.1, 0.2]) == 1
    assert metrics.equal_error_rate([0.5, 0.5], [0.5, 0.5]) == pytest.approx(0.5)


@given(st.lists(st.floats(0, 2), min_size=1, max_size=50), st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
def test_a_false_accept_rate_is_never_passed(strangers, rate):
    limit = metrics.threshold_at(strangers, rate)
    assert np.mean(np.array(strangers) <= limit) <= rate


def test_rate_curve_rises_to_one():
    curve = metrics.rate_curve("x", [0.2, 0.4, 0.6], [0.1, 0.3, 0.5, 0.7])
    assert curve.y == pytest.approx((0, 1 / 3, 2 / 3, 1))


def test_ranks_by_hand():
    distances = np.array([[0.1, 0.5, 0.3], [0.4, 0.2, 0.1], [0.9, 0.8, 0.95]])
    people = ["a", "b", "c"]
    assert metrics.hits_at(distances, people, people, 1).tolist() == [1, 0, 0]
    assert metrics.hits_at(distances, people, people, 2).tolist() == [1, 1, 0]
    assert metrics.cmc(distances, people, people).y == pytest.approx((1 / 3, 2 / 3, 1))


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_pairs_in_blocks_are_pairs_at_once(monkeypatch, count):
    monkeypatch.setattr(metrics, "BLOCK", 3)
    first, second = column(0, 1, 5), column(2, 9)
    rows = np.array([(i % 3, i % 2) for i in range(count)], int).reshape(-1, 2)
    expected = [abs(float(first[i, 0] - second[j, 0])) for i, j in rows]
    assert metrics.distances_of(JUDGE, first, second, rows).tolist() == pytest.approx(expected)


def test_the_nearest_picture_of_a_person_counts():
    hits = metrics.hits_at(np.array([[0.5, 0.4, 0.1]]), ["a"], ["a", "b", "a"], 1)
    assert hits.tolist() == [1]


def test_people_who_cannot_be_told_apart_are_chance():
    distances, people = np.zeros((4, 4)), list("abcd")
    assert metrics.hits_at(distances, people, people, 1).tolist() == [0.25] * 4
    assert metrics.hits_at(distances, people, people, 3).tolist() == [0.75] * 4


def test_who_is_not_in_the_gallery_is_not_found():
    assert metrics.hits_at(np.array([[0.1]]), ["x"], ["a"], 1).tolist() == [0]


def test_average_precision_is_that_of_scikit_learn():
    generator = np.random.default_rng(4)
    apart, right = generator.random((9, 30)), generator.random((9, 30)) < 0.2
    right[0] = False
    apart[1:, 0] = np.inf  # is not searched
    found = metrics.average_precision(apart, right)
    assert np.isnan(found[0])
    expected = [sk.average_precision_score(right[i, 1:], -apart[i, 1:]) for i in range(1, 9)]
    assert found[1:] == pytest.approx(expected)


def test_chance_is_what_shuffled_people_give():
    apart, people = np.random.default_rng(2).random((20, 20)), [str(i) for i in range(20)]
    floor = metrics.by_chance(
        CHANCE, lambda g: float(metrics.hits_at(apart, people, g.permutation(people).tolist(), 1).mean()), 20, 1
    )
    assert floor.value == pytest.approx(1 / 20, abs=0.02) and 0 <= floor.low < floor.value < floor.high <= 0.2
    # Distances that do not tell anybody apart leave exactly the guess.
    even = metrics.by_chance(CHANCE, lambda g: float(metrics.hits_at(apart * 0, people, people, 1).mean()), 20, 1)
    assert (even.value, even.low, even.high) == pytest.approx((0.05, 0.05, 0.05))


def test_draws_are_repeatable_and_never_show_a_picture_twice():
    pictures = {f"p{i}": [f"p{i}/{k}" for k in range(1 + i % 4)] for i in range(40)}
    first, again = (list(metrics.draws(pictures, 10, 5, seed=1)) for _ in range(2))
    assert first == again and len(first) == 5 and first[0] != first[1]
    for draw in first:
        assert len(set(draw.people)) == 10
        assert not set(draw.probes) & set(draw.gallery)
        assert all(p.startswith(q + "/") for p, q in zip(draw.probes, draw.people, strict=True))


def test_measures_of_the_autoencoders():
    assert measures.faceness(np.array([1, 1, 0, 1])).value == 0.75
    assert measures.deidentified([0.5, 0.6, 0.61, 0.9], 0.6).value == 0.5
    new = column(0, 0.5, 5, 9)
    assert measures.diversity(JUDGE, new, 1.0).value == pytest.approx(5 / 6)
    assert measures.anonymity(JUDGE, new, 1.0).value == 1 and measures.anonymity(JUDGE, new[:2], 1.0).value == 2


def test_diversity_of_many_is_sampled():
    new = column(*np.repeat([0, 10], 200))
    figure = measures.diversity(JUDGE, new, 1.0, pairs=2000)
    assert figure.count == 2000 and figure.value == pytest.approx(200 * 200 / (400 * 399 / 2), abs=0.04)


@pytest.mark.parametrize("count", [3, 40, 20_000])
def test_sampled_pairs_are_pairs(count):
    first, second = measures._pairs(count, 700, seed=1)
    assert len(first) == min(700, count * (count - 1) // 2) == len(set(zip(first, second, strict=True)))
    assert (first < second).all() and first.min() >= 0 and second.max() < count


def test_attributes_are_the_micro_precision_of_scikit_learn():
    before, after = RANDOM.random((50, 4)) < 0.4, RANDOM.random((50, 4)) < 0.4
    ours = measures.attributes_kept(before, after)
    assert ours == pytest.approx(sk.precision_score(before, after, average="micro"))
    assert np.isnan(measures.attributes_kept(before, np.zeros((50, 4), bool)))


def test_measures_of_epd_net():
    assert measures.self_deidentified([0.2, 0.7, 0.8], 0.6).value == pytest.approx(2 / 3)
    distances = np.array([[0.1, 0.9], [0.3, 0.9]])
    assert measures.switched(distances, ["a", "b"], ["a", "b"], 0.6).value == 0.5, "b's face became a's; a's own is out"
    assert measures.linkability([0.1, 0.9], 0.6).value == 0.5


def test_ssim_is_that_of_scikit_image():
    before = RANDOM.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    after = np.clip(before.astype(int) + 20, 0, 255).astype(np.uint8)
    expected = structural_similarity(
        before, after, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert measures.ssim(before, after) == pytest.approx(expected) and measures.ssim(before, before) == pytest.approx(1)
    assert np.isnan(measures.ssim(before[:8], after[:8]))


def test_labels_are_those_of_scikit_learn():
    truth, said = RANDOM.choice(["x", "y", "z"], 60), RANDOM.choice(["x", "y", "z"], 60)
    assert np.array_equal(measures.confusion("c", truth, said).cells, sk.confusion_matrix(truth, said))
    assert measures.accuracy("a", truth, said).value == pytest.approx(sk.accuracy_score(truth, said))
    assert measures.f_measure("f", truth, said).value == pytest.approx(sk.f1_score(truth, said, average="macro"))
    assert measures.confusion("c", truth, said, ["x", "y", "z", "w"]).rows == ("x", "y", "z", "w")


def test_emotion_error_and_ages():
    before, after = np.array([[1.0, 0], [0, 1]]), np.array([[1.0, 0], [1, 0]])
    assert measures.emotion_error(before, after).value == pytest.approx(sk.mean_squared_error(before, after))
    assert measures.difference("age", [20, 30], [25, 29]).value == 3
    assert measures.difference("age", [20, np.nan], [25, 29]).count == 1


def test_landmark_error_is_a_share_of_the_eyes_distance():
    moved = MEAN_SHAPE[None] + (0.03, 0.04)
    eyes = np.linalg.norm(MEAN_SHAPE[36:42].mean(0) - MEAN_SHAPE[42:48].mean(0))
    assert measures.landmark_error(MEAN_SHAPE[None], moved) == pytest.approx(0.05 / eyes)


def turned(yaw, pitch=0.0, roll=0.0):
    """The mean face's landmarks, turned by degrees, seen from far away, in pixels."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    model = np.column_stack([MEAN_SHAPE - 0.5, DEPTH - 0.1])
    return (model @ (about_z @ about_x @ about_y).T)[:, :2] * 100 + (300, 40)


@pytest.mark.parametrize("turn", [(20, 0, 0), (-15, 0, 0), (0, 12, 0), (0, 0, 30)])
def test_pose_is_the_turn(turn):
    found = pose_difference(turned(0)[None], turned(*turn)[None])[0]
    assert found == pytest.approx(max(map(abs, turn)), abs=2)


def test_pose_of_the_same_and_of_none():
    same = turned(10)[None]
    assert pose_difference(same, same * 3 + 7)[0] == pytest.approx(0, abs=0.1), "place and size are no pose"
    assert np.isnan(pose_difference(same, np.full_like(same, np.nan)))[0]
    assert np.allclose(DEPTH, DEPTH[MIRROR])


def test_steadiness_by_hand():
    assert measures.descriptor_steps(JUDGE, column(0, 1, 1)) == pytest.approx([1, 0])
    track = np.stack([MEAN_SHAPE + step for step in (0, 0.1, 0.3)])
    assert measures.landmark_shake(track, track + 5) == pytest.approx([0, 0], abs=1e-9)
    shaken = track + np.array([0, 0.05, 0])[:, None, None]
    assert (measures.landmark_shake(track, shaken) > 0.1).all()


def test_flicker_counts_only_what_stands_still():
    before = np.zeros((3, 8, 8, 3), np.uint8)
    before[1:, :4] = 200  # the upper half moves at the first step
    after = before.copy()
    after[1, 4:] += 10
    assert measures.flicker(before, before) == pytest.approx([0, 0])
    assert measures.flicker(before, after) == pytest.approx([10, 5])
    assert np.isnan(measures.flicker(before, after, np.zeros((8, 8), bool))).all()
