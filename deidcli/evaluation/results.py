"""Results: what was measured, as frozen values that are written to report.json and read back alike; and the measures.

A value that could not be measured is NaN here and null in the file, which has to be strict JSON. Rates are shares in
[0, 1]; every interval is of 95 %. Tables, plots and the README are made from these values and from nothing else.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Collection
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from deidcli.errors import UsageError

SCHEMA = 2
REPORT = "report.json"
NAN = float("nan")
BETTER = ("lower", "higher", "none")
PRIVACY, UTILITY, COST, OTHER = "privacy", "what is kept", "cost", "other"  # kinds of figures
KINDS = (PRIVACY, UTILITY, COST, OTHER)
SHARE, INDEX = "share", "index"  # units: a share of cases, and a number in [0, 1] that is none


@dataclass(frozen=True)
class Measure:
    """What a figure is about, declared once in MEASURES.

    kind: one of PRIVACY, UTILITY, COST, OTHER. unit: SHARE (a share of cases, shown as per cent), INDEX, or a word like
    "degrees". meaning: what is counted, in one sentence. better: one of BETTER. recognised: for figures that tell which
    share of people is still recognised (1 less the value where "higher" is better), in which order they are asked for
    it, from 1; 0 for all others. plain: False for one that needs an explanation where another figure tells the same.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    better: str = "none"
    recognised: int = 0
    plain: bool = True

    def named(self, name: str) -> Measure:
        """The same measure of something else, under a name of its own; it does not speak of all people."""
        return replace(self, name=name, recognised=0)

    def figure(self, value: float, low: float | None = None, high: float | None = None, count: int = 0) -> Figure:
        """A value of this measure."""
        return Figure(self.name, value, low, high, count, self.better, self.kind, self.unit, self.meaning,
                      self.recognised, self.plain)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One number. low, high: its interval. count: how many cases it is of. The rest is what its Measure says."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    count: int = 0
    better: str = "none"
    kind: str = OTHER
    unit: str = ""
    meaning: str = ""
    recognised: int = 0
    plain: bool = True

    def text(self, digits: int) -> str:
        """As text with so many decimals, and its interval where it has one; a dash where nothing could be measured."""
        if math.isnan(self.value):
            return "-"
        if self.low is None or self.high is None or math.isnan(self.low):
            return f"{self.value:.4g}"
        return f"{self.value:.{digits}f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Curve:
    """y over x, both (n,), with the interval of y where there is one: rates over thresholds, CMC, ROC."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    xlabel: str = ""
    ylabel: str = ""


@dataclass(frozen=True)
class Matrix:
    """Counts by row (what the originals are) and column (what the outputs are): a confusion matrix."""

    name: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Worst:
    """A face that is still close to its original. before, after: files on this machine; they are never shared."""

    name: str
    distance: float
    before: str
    after: str


@dataclass(frozen=True)
class Judge:
    """The recogniser, and how good it is on the originals.

    true_accepts: share of pairs of one person that it matches at `threshold`; false_accepts: of pairs of two people.
    """

    recogniser: str
    threshold: float
    true_accepts: float
    false_accepts: float


@dataclass(frozen=True)
class Run:
    """One method on one protocol, with all that is needed to repeat it.

    label: how it is called in tables. method: its name, "original" for untouched pictures, "given" for files of another
    tool. preset, checksum: of the weights, empty for a method that has none. seed: None where draws were secret.
    version, commit: of this tool; commit is empty outside a checkout. seconds: of the method alone, for all pictures.
    """

    label: str
    method: str
    options: dict[str, Any]
    preset: str
    checksum: str
    protocol: str
    data: str
    split: str
    seed: int | None
    version: str
    commit: str
    judge: Judge
    figures: tuple[Figure, ...] = ()
    curves: tuple[Curve, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    worst: tuple[Worst, ...] = ()
    seconds: float = NAN

    def figure(self, name: str) -> Figure | None:
        """The figure called `name`, None where the run has none."""
        return next((figure for figure in self.figures if figure.name == name), None)


@dataclass(frozen=True)
class Attack:
    """What an attacker gets out of one method's output.

    rank1: share of faces whose person is the first guess. verification: true accepts at a false-accept rate that its
    name says. chance: rank-1 of blind guessing. breaks: whether the interval of one of the two lies above chance by so
    much that the method does not protect against this attack. note: what was done, in one sentence. condition: what it
    needs besides the tool, or looks at besides the face; empty for an attack that anybody can try. far: the
    false-accept rate of `verification`.
    """

    name: str
    label: str
    method: str
    rank1: Figure
    verification: Figure
    chance: float
    breaks: bool
    note: str = ""
    condition: str = ""
    far: float = NAN


@dataclass(frozen=True)
class Results:
    """Everything of one evaluation. made: when, as UTC in ISO 8601. settings: a name for all that decided the figures
    beside the methods; a report goes on only under the same.
    """

    runs: tuple[Run, ...] = ()
    attacks: tuple[Attack, ...] = ()
    made: str = ""
    settings: str = ""
    schema: int = field(default=SCHEMA)

    def save(self, path: Path) -> None:
        """Write strict JSON to `path`, or to report.json in the folder `path`; whole or not at all."""
        path = _place(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(to_json(self), indent=1, allow_nan=False)
        part = path.with_name(f".{path.name}.deid-part")
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(path)

    def figures_alone(self, names: Collection[str]) -> Results:
        """The same without curves, cases and attacks, with the figures of these names: what may be passed on."""
        few = (replace(run, figures=tuple(f for f in run.figures if f.name in names)) for run in self.runs)
        return replace(self, runs=tuple(replace(run, curves=(), matrices=(), worst=()) for run in few), attacks=())

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote. Raises UsageError for a file that is none of ours."""
        path = _place(path)
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
            if read["schema"] != SCHEMA:
                raise UsageError(f"{path} has schema {read['schema']}, not {SCHEMA}", "evaluate again")
            return from_json(cls, read)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is no report: {error}", "give a report.json of `deid evaluate`") from error


def to_json(value: Any) -> Any:
    """Plain lists, dicts and numbers; what is not finite becomes None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    if hasattr(value, "item"):  # a number of NumPy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: Any, value: Any) -> Any:
    """The value of type `kind` that `to_json` wrote. Raises KeyError, TypeError or ValueError where it is none."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else from_json(next(k for k in inner if k is not type(None)), value)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{key: from_json(hints[key], entry) for key, entry in value.items()})
    if origin is tuple:
        return tuple(from_json(inner[0], entry) for entry in value)
    if kind is float:
        return NAN if value is None else float(value)
    return value


def _place(path: Path) -> Path:
    return path if path.suffix == ".json" else path / REPORT


# --- the measures

# fmt: off
MATCH_RATE = Measure("match rate", PRIVACY, SHARE,
    "Pairs of pictures of one person, one of them anonymized, that the recogniser takes for one person.",
    "lower", recognised=1)
PAIRS_UNMATCHED = Measure("pairs no longer matched", PRIVACY, SHARE,
    "Pairs of one person, one anonymized, that are not taken for one any more.", "higher", recognised=2)
RANK_1 = Measure("rank-1", PRIVACY, SHARE,
    "New faces whose person is the recogniser's first guess (first k guesses) in a gallery.", "lower", recognised=3)
DEID = Measure("DEID", PRIVACY, SHARE,
    "New faces that are not taken for the person in their own original.", "higher", recognised=4)
SELF_DEID = replace(DEID, name="self de-identification", recognised=5)
SELF_UNMATCHED = replace(DEID, name="itself no longer matched", recognised=0)
SELF_MATCH_RATE = Measure("self match rate", PRIVACY, SHARE,
    "New faces that are taken for the person in the very picture they were made from.", "lower")
STRANGER_MATCH_RATE = Measure("stranger match rate", PRIVACY, SHARE,
    "Pairs of two people that the recogniser takes for one: its own error.")
TRUE_ACCEPTS = MATCH_RATE.named("TAR at FAR")
THRESHOLD = Measure("threshold", PRIVACY, "distance",
    "The distance up to which that many pairs of two untouched people match.")
ETA = Measure("eta", PRIVACY, SHARE, "Pairs of one person that match up to this distance (CLEANIR, Table 2).", "lower")
EQUAL_ERROR = Measure("equal error rate", PRIVACY, SHARE,
    "The error where both errors are alike; 50 % is a coin.", "higher")
CHANCE = Measure("rank-1 by chance", PRIVACY, SHARE,
    "What guessing gets: the people of the gallery shuffled again and again, and the interval of what came of it.")
RETRIEVAL = Measure("mAP", PRIVACY, SHARE,
    "Retrieval: how far in front the untouched pictures of the right person stand when a new face is searched for "
    "(mean average precision).", "lower")
RETRIEVAL_CHANCE = replace(CHANCE, name="mAP by chance")
PROTECTED = Measure("PSR", PRIVACY, SHARE,
    "Pairs of one person that matched while both were untouched, and do not after one was anonymized.", "higher")
BOUND = Measure("bound", PRIVACY, SHARE, "The share that k-anonymity promises not to exceed: 1 / k.")
DEVIATION = Measure("rank-1 deviation", PRIVACY, SHARE, "How much the share differs from draw to draw.")
SWITCHING = Measure("switching de-identification", PRIVACY, SHARE,
    "New faces that are taken for nobody else in the gallery either.", "higher")
MISSED = Measure("missed", PRIVACY, SHARE, "New faces whose person is not among the nearest of the gallery.", "higher")
LINKABILITY = Measure("linkability", PRIVACY, SHARE,
    "Pairs of outputs of one person that can be put together.", "lower")
DIVERSITY = Measure("DIV", PRIVACY, SHARE, "Pairs of new faces that look like two people.", "higher")
ANONYMITY = Measure("ANON", PRIVACY, "faces", "The fewest new faces that cannot be told from one of them.", "higher")

FACENESS = Measure("FCNS", UTILITY, SHARE, "New faces that a detector takes for a face.", "higher")
FACES_FOUND = replace(FACENESS, name="faces found")
COVERED = Measure("faces covered", UTILITY, SHARE, "Faces that got a cover instead of a new face.", "lower")
MISSING = Measure("pictures missing", UTILITY, "pictures", "Pictures that have no output.")
SSIM = Measure("SSIM", UTILITY, INDEX, "How alike the pictures are, pixel by pixel; 1 is the same picture.", "higher")
FACE_SSIM = Measure("face SSIM", UTILITY, INDEX,
    "How alike the faces are, pixel by pixel; 1 is the same face.", "higher")
LANDMARK_ERROR = Measure("landmark error", UTILITY, "eye distances",
    "How far the face's points moved, as a share of the distance of the eyes.", "lower")
POSE_DIFFERENCE = Measure("pose difference", UTILITY, "degrees", "How far the head was turned, in degrees.", "lower")
EMOTION_ERROR = Measure("emotion error", UTILITY, "squared",
    "How far a classifier's view of the emotion moved, squared.", "lower")
KEPT = Measure("kept", UTILITY, SHARE, "New faces of which a classifier says what it says of the original.", "higher")
ATTRIBUTES_KEPT = replace(KEPT, name="ATTR")
F_MEASURE = Measure("F-measure", UTILITY, SHARE,
    "How well a classifier tells the label's classes as before, all classes alike.", "higher", plain=False)
ACCURACY = Measure("accuracy", UTILITY, SHARE,
    "New faces of which a classifier says what people say of the original.", "higher")
ACCURACY_BEFORE = Measure("before", OTHER, SHARE, "Originals of which a classifier says what people say.")
DIFFERENCE = Measure("difference", UTILITY, "", "How much a classifier's number moved, as of years of age.", "lower")
TOLD_APART = Measure("told from photographs", UTILITY, SHARE,
    "Crops that a classifier trained on other people rightly takes for untouched or replaced; chance is half.",
    "lower")
FRECHET = Measure("Fréchet distance", UTILITY, "squared",
    "How far the new faces, as the recogniser describes them, are from the originals as a whole.", "lower")
LEARNT = Measure("expression learnt", UTILITY, SHARE,
    "Untouched faces of other people whose expression is read rightly by what was trained on these.", "higher")
LEARNT_EVENLY = replace(LEARNT, name="expression learnt, words alike")
DETECTED = Measure("face told from beside it", UTILITY, SHARE,
    "Boxes of untouched pictures that are rightly taken for a face, or for none, by what was trained on these.",
    "higher")
STEADINESS = Measure("steadiness", UTILITY, "", "How much a new face changes from frame to frame.", "lower")
FRAMES, TRACKS = (Measure(name, OTHER, name, f"How many {name} were looked at.") for name in ("frames", "tracks"))
MILLISECONDS = Measure("milliseconds a face", COST, "milliseconds", "What it costs.", "lower")
# fmt: on
