"""What every method promises, whichever it is: those that are installed, and every preset that is shipped."""

import dataclasses

import numpy as np
import pytest

from deidcli.errors import MethodError, UsageError
from deidcli.faces.align import align, apply_affine
from deidcli.methods import available, find
from deidcli.methods.base import Census, Method, Secret
from deidcli.presets import presets
from deidcli.values import Frame
from tests.conftest import found

COUNT = 10  # pictures that closed sets are shown: two groups of five, of which each has one of two labels
FEW = 6  # crops of a batch: each of three faces twice
NAMES = sorted(available())


def by_default(name):
    """The preset that a method takes when nobody names one."""
    return getattr(find(name).Options(), "preset", None)


# Those that a method does not take by default: each method is tried with its own one anyway.
SHIPPED = {
    f"{preset.method}:{preset.name}": preset
    for preset in presets()
    if preset.method in NAMES and preset.name != by_default(preset.method)
}

LOADED = {}  # a method by its options, which holds what it has loaded
PREPARED = {}  # a closed set with its first pass behind it, by its options and its secret's key


@pytest.fixture(scope="session")
def labels(tmp_path_factory):
    """A table of labels for the census's pictures."""
    rows = [f"picture{i},{'ab'[i % 2]}" for i in range(COUNT)]
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    path.write_text("\n".join(["image,kind", *rows]))
    return path


@pytest.fixture(params=[*NAMES, *SHIPPED])
def make(request, census_of):
    """A maker of one method: make(secret=..., **options). Closed-set methods have their first pass behind them; the
    same one is handed out for the same secret, unless a `fresh` one is asked for.
    """
    name = request.param.split(":")[0]
    kind = find(name)
    given = {}
    if request.param in SHIPPED:
        given = {"preset": str(SHIPPED[request.param].folder)}
    own = {item.name for item in dataclasses.fields(kind.Options)}
    if "labels" in own:
        given |= {"labels": str(request.getfixturevalue("labels")), "select": "kind"}
    if kind.closed and "size" in own:
        given |= {"size": 32}  # what is promised does not depend on it

    def made(secret=None, fresh=False, **options):
        first = kind.create(kind.Options(**given, **options))
        # Networks are loaded once a session: `again` shares what a method has loaded, and nothing else.
        shared = LOADED.setdefault(repr(first.options), first)
        method = shared.again(secret or Secret.seeded(5))
        if not method.closed:
            return method
        key = repr(first.options), method.secret.key
        if fresh or key not in PREPARED:
            method.prepare(census_of(method))
            PREPARED[key] = method
        return PREPARED[key]

    return made


@pytest.fixture(scope="session")
def faces(portraits):
    """The faces of the portraits."""
    return [found(pixels)[0] for pixels in portraits]


@pytest.fixture
def census_of(portraits, faces):
    """The census of COUNT people, each with one of three faces."""

    def taken(method: Method) -> Census:
        spec = dataclasses.replace(method.crop, size=method.stored)
        cut = [align(Frame(pixels), face, spec) for pixels, face in zip(portraits, faces, strict=True)]
        points = [apply_affine(crop.transform, crop.face.landmarks) for crop in cut]
        return Census(
            keys=[f"picture{i}#0" for i in range(COUNT)],
            pixels=np.stack([cut[i % 3].pixels for i in range(COUNT)]),
            landmarks=np.stack([points[i % 3] for i in range(COUNT)]).astype(np.float32),
            descriptors=np.random.default_rng(3).standard_normal((COUNT, 128)).astype(np.float32),
            people=np.arange(COUNT),
        )

    return taken


@pytest.fixture
def crops(portraits, faces):
    """Three different faces as `method` asks for them, over and over, each with its own key."""

    def cut(method: Method, count: int):
        picked = [(portraits[i % len(faces)], faces[i % len(faces)]) for i in range(count)]
        return [align(Frame(p), face, method.crop, f"picture{i}#0") for i, (p, face) in enumerate(picked)]

    return cut


@pytest.mark.parametrize("count", [1, FEW + 1])
def test_same_crops_with_new_pixels(make, crops, count):
    method = make()
    given = crops(method, count)
    before = [crop.pixels.copy() for crop in given]
    made = method.apply(given)
    assert len(made) == count
    for old, new, kept in zip(given, made, before, strict=True):
        assert new.pixels.shape == kept.shape and new.pixels.dtype == np.uint8
        assert (new.key, new.face) == (old.key, old.face) and new.transform is old.transform
        assert np.array_equal(old.pixels, kept), "the input was changed"
        assert not np.array_equal(new.pixels, kept), "the face is still there"


def test_company_and_order_change_nothing(make, crops):
    """One face alone, in a batch, or in another order: bit for bit the same, or a resumed run would differ."""
    method = make()
    given = [crop.with_pixels(np.roll(crop.pixels, i, axis=1)) for i, crop in enumerate(crops(method, FEW))]
    whole = method.apply(given)
    backwards = method.apply(given[::-1])[::-1]
    parts = [new for crop in given[:2] for new in method.apply([crop])]
    parts += [*method.apply(given[2:4]), *method.apply(given[4:])]
    for a, b, c in zip(whole, backwards, parts, strict=True):
        assert np.array_equal(a.pixels, b.pixels)
        assert np.array_equal(a.pixels, c.pixels)


def test_same_seed_same_face(make, crops):
    """Two methods of one secret, each with a first pass of its own."""
    given = crops(make(), 3)
    first, second = (method.apply(given) for method in (make(), make(fresh=True)))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, second, strict=True))


def test_levels_end_and_repeat_nothing(make):
    level, seen = make(), []
    while level is not None:
        assert level.options not in seen and level.crop.align in ("landmarks", "box", "window")
        seen.append(level.options)
        assert len(seen) < 50, "a face could climb for ever"
        level = level.escalate(len(seen))


@pytest.mark.parametrize("name", NAMES)
def test_is_said(name):
    kind = find(name)
    assert kind.name == name and kind.summary and "\n" not in kind.summary
    for item in dataclasses.fields(kind.Options):
        assert item.metadata["help"]


@pytest.mark.parametrize("name", NAMES)
def test_options_are_frozen(name):
    options = find(name).Options()
    for item in dataclasses.fields(options):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options, item.name, getattr(options, item.name))


def outside(kind):
    """(field, value) for values just past each end of each range, and for no number at all."""
    for item in dataclasses.fields(kind.Options):
        low, high = item.metadata["low"], item.metadata["high"]
        if low is not None or high is not None:
            bad = [low - 1 if low is not None else None, high + 1 if high is not None else None, float("nan")]
            yield from ((item, value) for value in bad if value is not None)


@pytest.mark.parametrize("name", NAMES)
def test_out_of_range_names_the_flag(name):
    kind = find(name)
    for item, value in outside(kind):
        with pytest.raises(UsageError) as caught:
            kind(dataclasses.replace(kind.Options(), **{item.name: value}))
        assert f"--{item.name.replace('_', '-')}" in str(caught.value) and str(value) in str(caught.value)


def test_unknown_method_names_those_there_are():
    with pytest.raises(UsageError) as caught:
        find("mosaic")
    assert all(name in str(caught.value) for name in NAMES)


def test_secrets():
    """The same number gives the same draws, another number, another name and no number give others."""
    drawn = lambda secret, name="a": secret.generator(name).integers(0, 1 << 62)  # noqa: E731
    assert drawn(Secret.seeded(1)) == drawn(Secret.seeded(1))
    others = [Secret.seeded(2), Secret.drawn(), Secret.drawn()]
    numbers = [drawn(Secret.seeded(1)), drawn(Secret.seeded(1), "b"), *map(drawn, others)]
    assert len(set(numbers)) == len(numbers)
    assert drawn(Secret.seeded(1), "\udcff") != drawn(Secret.seeded(1), "\udcfe"), "a name that is no UTF-8"


# --- capabilities


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_can(name):
    """Each capability is a plain word of the class, and what is reversible has a way back of its own."""
    kind = find(name)
    for word in ("closed", "judged", "removes_face", "reversible", "declares_donors"):
        assert isinstance(getattr(kind, word), bool)
    assert kind.reversible == (kind.reverse is not Method.reverse)
    assert not kind.declares_donors or kind.marks is not Method.marks


def test_what_cannot_be_reversed_says_so():
    with pytest.raises(MethodError, match="blur"):
        find("blur")().reverse([])


def test_with_a_number_of_people_it_is_a_closed_set():
    """One word on the command line, two methods: --k asks for the closed set of Gross et al."""
    kind = find("ksame-m")
    plain, shared = kind.create(), kind.create(kind.Options(k=2))
    assert not plain.closed and plain.judged and plain.k == 0 and not plain.declares_donors
    assert shared.closed and not shared.judged and shared.k == 2 and shared.declares_donors
    assert shared.name == plain.name and type(shared) is not type(plain)


# --- secrets


def reachable(value, seen=None):
    """Every object of this package, and every plain value, that can be reached from `value`."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return
    seen[id(value)] = value
    yield value
    inner = list(vars(value).values()) if type(value).__module__.startswith("deidcli") else []
    inner += value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else []
    for each in inner:
        yield from reachable(each, seen)


def test_no_secret_travels_with_what_is_loaded(make, crops):
    """`again` and `escalate` hand on what was loaded, in which neither the secret nor a closed set can be found."""
    method = make()
    method.apply(crops(method, 1))
    hidden = list(reachable(method))
    assert any(isinstance(each, Secret) for each in hidden) and method.secret.key in [
        each for each in hidden if isinstance(each, bytes)
    ]
    inside = list(reachable(method.models))
    assert not [each for each in inside if isinstance(each, (Secret, Census, Method))]
    assert not [each for each in inside if isinstance(each, bytes) and method.secret.key in each]
    other = method.again(Secret.seeded(8))
    assert other.models is method.models and other.secret is not method.secret
    own = [each for key, value in vars(other).items() if key not in ("models", "secret") for each in reachable(value)]
    assert not [
        each
        for each in own
        if isinstance(each, (Secret, Census)) or (isinstance(each, bytes) and each == method.secret.key)
    ]
    stronger = method.escalate(1)
    assert stronger is None or stronger.secret is method.secret
