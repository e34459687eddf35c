"""Videos: whether new faces are steady over the frames of a track, and whether tracks can be recognised or linked.

One frame after the other; of each only numbers are kept, and the frame before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from deidcli.engine.frames import FileFailure
from deidcli.engine.jobs import Job
from deidcli.engine.local import find
from deidcli.engine.replace import Replacer, Request
from deidcli.engine.settings import Settings
from deidcli.errors import MediaError, UsageError
from deidcli.evaluation import measures, metrics, results
from deidcli.evaluation.attacks import outcome
from deidcli.evaluation.bench import Bench, Subject
from deidcli.evaluation.metrics import all_distances
from deidcli.evaluation.originals import describe
from deidcli.evaluation.results import Attack, Figure, Judge, Run
from deidcli.faces.landmarks import locate
from deidcli.values import Face, Frame

MIN_TRACK = 4  # faces of a track that are needed before its halves are compared
SPELL, FEWEST = 40, 20  # frames of a track whose motion is compared with that of others, and seen of them at least


@dataclass
class _Track:
    """What is known of a track, a row for each frame in which its face was described."""

    before: list[np.ndarray] = field(default_factory=list)
    after: list[np.ndarray] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    new_points: list[np.ndarray] = field(default_factory=list)


@dataclass
class _VideoStats:
    """What is known of a video so far."""

    tracks: dict[str, _Track] = field(default_factory=dict)
    flickers: list[float] = field(default_factory=list)
    frames: int = 0
    faces: int = 0


def video(bench: Bench, paths: Sequence[Path], subject: Subject, limit: int | None = None) -> tuple[Run, list[Attack]]:
    """The steadiness of a method over videos, and the attacks over their frames. Raises MediaError, or UsageError.

    limit: frames of each. Every track counts as a person. With `verify` in the study the method escalates, as in
    `deid anonymize`.
    """
    if subject.folder:
        raise UsageError("a folder of outputs is no video", "use `deid evaluate pair` for single pictures")
    stats = _VideoStats()
    frames = (number for path in paths for number in islice(_measure_frames(bench, path, subject, stats), limit))
    for _ in bench.progress(frames, 0, "frame"):
        pass
    figures = tuple(_figures(bench, stats))
    judge = Judge(bench.study.recogniser, bench.threshold, np.nan, np.nan)
    return bench.run(subject, "video", judge, np.nan, figures=figures), list(_attacks(bench, subject, stats))


def _measure_frames(bench: Bench, path: Path, subject: Subject, stats: _VideoStats) -> Iterator[int]:
    """Every frame's number, once it is measured."""
    judge = bench.verifier if bench.study.verify else None
    settings = Settings(verify=bench.study.verify, distance=bench.study.distance)
    replacer = Replacer(subject.method, settings, judge) if subject.method else None
    last: tuple[Frame, Frame, np.ndarray] | None = None
    for item in find([Job(path, None, path.name)], bench.study.detect):
        if isinstance(item, FileFailure):
            raise MediaError(item.error, "give a video that can be read")
        new, changed = _replaced(replacer, item.frame, item.faces, path.name)
        _record(bench, stats, path.name, item.frame, new, item.faces)
        if last is not None and last[0].pixels.shape == item.frame.pixels.shape:
            before, after = (np.stack([old.pixels, now.pixels]) for old, now in ((last[0], item.frame), (last[1], new)))
            stats.flickers.append(float(measures.flicker(before, after, changed & last[2])[0]))
        last = item.frame, new, changed
        stats.frames += 1
        yield item.frame.index


def _replaced(replacer: Replacer | None, frame: Frame, faces: Sequence[Face], name: str) -> tuple[Frame, np.ndarray]:
    """The new frame, and where it may differ; for originals where the boxes of the faces are."""
    if replacer is not None:
        done = replacer([Request(frame, tuple(faces), name)])[0]
        nothing = np.zeros((frame.height, frame.width), bool)
        return done.frame, nothing if done.changed is None else done.changed
    mask = np.zeros((frame.height, frame.width), bool)
    for face in faces:
        left, top, right, bottom = (max(0, round(v)) for v in face.box.as_list())
        mask[top:bottom, left:right] = True
    return frame, mask


def _record(bench: Bench, stats: _VideoStats, name: str, old: Frame, new: Frame, faces: Sequence[Face]) -> None:
    known = [face for face in faces if face.landmarks is not None]
    before = describe(bench.judge, [(old.pixels, face) for face in known])
    after = describe(bench.judge, [(new.pixels, face) for face in known])
    again = locate(new.pixels, [replace(face, landmarks=None) for face in known])
    stats.faces += len(faces)
    for face, found, a, b in zip(known, again, before, after, strict=True):
        track = stats.tracks.setdefault(f"{name} track {face.track}", _Track())
        track.before.append(a)
        track.after.append(b)
        track.points.append(np.asarray(face.landmarks, float))
        lost = np.full((68, 2), np.nan)
        track.new_points.append(lost if found.landmarks is None else np.asarray(found.landmarks, float))


def _figures(bench: Bench, stats: _VideoStats) -> Iterator[Figure]:
    tracks = {name: track for name, track in stats.tracks.items() if len(track.before) > 1}

    def steps(name: str, values: dict[str, np.ndarray]) -> Figure:
        whose = [who for who, rows in values.items() for _ in rows]
        measure = results.STEADINESS.named(name)
        return metrics.average(measure, np.concatenate([*values.values(), np.zeros(0)]), whose)

    yield results.FRAMES.figure(stats.frames, count=stats.frames)
    yield results.TRACKS.figure(len(stats.tracks), count=stats.faces)
    own = [(who, bench.judge.distance(np.array(t.before), np.array(t.after))) for who, t in stats.tracks.items()]
    whose = [who for who, rows in own for _ in rows]
    apart = np.concatenate([*(rows for _, rows in own), np.zeros(0)])
    yield metrics.share(results.SELF_MATCH_RATE, apart <= bench.threshold, whose)
    for name, key in (("descriptor steps", "after"), ("descriptor steps of the original", "before")):
        rows = {who: measures.descriptor_steps(bench.judge, np.array(getattr(t, key))) for who, t in tracks.items()}
        yield steps(name, rows)
    shakes = {who: measures.landmark_shake(np.array(t.points), np.array(t.new_points)) for who, t in tracks.items()}
    yield steps("landmark shake", shakes)
    yield metrics.average(results.STEADINESS.named("flicker"), np.array(stats.flickers, float))


def _attacks(bench: Bench, subject: Subject, stats: _VideoStats) -> Iterator[Attack]:
    """Recognition over frames: who is known by the first half of a track is looked for in the second."""
    long = {name: track for name, track in stats.tracks.items() if len(track.before) >= MIN_TRACK}
    if len(long) < 2:
        return
    names = list(long)
    halves = {key: [_halves(np.array(getattr(t, key))) for t in long.values()] for key in ("before", "after")}
    known, seen = (np.array([half[0] for half in halves[key]]) for key in ("before", "after"))
    later = np.array([half[1] for half in halves["after"]])
    notes = (
        ("averaging (frames)", known, "The outputs of half a track were averaged and compared with untouched frames."),
        ("linkage (frames)", seen, "The outputs of one half of each track were compared with those of the other half."),
    )
    for name, gallery, note in notes:
        attack = outcome(subject, all_distances(bench.judge, later, gallery), names, names, 0.01)
        yield replace(attack, name=name, note=note)
    yield from _motions(subject, stats)


def _motions(subject: Subject, stats: _VideoStats) -> Iterator[Attack]:
    """Recognition by how faces move: spells of the first half of each track are known, those of the second are seen.

    Whoever keeps expressions keeps this.
    """
    by_track: dict[str, list[list[np.ndarray]]] = {}
    for name, track in stats.tracks.items():
        middle = len(track.points) // 2
        sides = (track.points[:middle], track.new_points[:middle], track.new_points[middle:])
        spells = [_spells(np.array(side)) for side in sides]
        if spells[0] and len(track.points) - middle >= SPELL:
            by_track[name] = spells
    if len(by_track) < 2:
        return
    probes, later = _listed(by_track, 2)
    notes = (
        ("motion (frames)", 0, "How the outputs of half a track move was compared with how untouched faces move."),
        ("motion linkage (frames)", 1, "How the outputs of half a track move was compared with the other half."),
    )
    for name, side, note in notes:
        gallery, known = _listed(by_track, side)
        apart = np.linalg.norm(later[:, None] - known[None], axis=2)
        attack = outcome(subject, apart, probes, gallery, 0.01, 1 / len(by_track))
        yield replace(attack, name=name, note=f"{note} {len(by_track)} tracks, spells of {SPELL} frames.")


def _listed(by_track: dict[str, list[list[np.ndarray]]], side: int) -> tuple[list[str], np.ndarray]:
    """Whose each spell of a side is, and the spells (n, 272)."""
    whose = [name for name, spells in by_track.items() for _ in spells[side]]
    rows = [row for spells in by_track.values() for row in spells[side]]
    return whose, np.array(rows).reshape(len(rows), -1) if rows else np.zeros((0, 272))


def _spells(points: np.ndarray) -> list[np.ndarray]:
    """The motion of each spell of a half track (n, 68, 2) of which enough frames show a face."""
    spells = (points[start : start + SPELL] for start in range(0, len(points) - SPELL + 1, SPELL))
    seen = (spell[np.isfinite(spell).all(axis=(1, 2))] for spell in spells)
    return [measures.motion(spell) for spell in seen if len(spell) >= FEWEST]


def _halves(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = len(rows) // 2
    return rows[:middle].mean(axis=0), rows[middle:].mean(axis=0)
