"""Persona: for whom a method draws its secrets. Faces with the same key get the same random draw (axis, donor)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deidcli.values import Face

PERSONAS = ("track", "file", "run", "identity")
ROOM = 64  # rows by which the table of people grows at the least


def track_key(name: str, face: Face) -> str:
    """The key of one person's way through the file `name`."""
    return f"{name}#{face.track}"


class Personas:
    """Keys by the setting `persona`.

    "track": every face of a file separately (a face that is followed through a video is one). "file": all faces of a
    file together. "run": all faces of the run together. "identity": every person of the run separately, in all files;
    the recogniser decides who is one person, comparing each face with the first one of each.
    """

    def __init__(self, persona: str, distance: Callable[[np.ndarray, np.ndarray], np.ndarray] | None, threshold: float):
        self.persona, self.distance, self.threshold = persona, distance, threshold
        self._people = np.zeros((0, 0), np.float32)
        self._count = 0
        self._followed: dict[tuple[str, int], str] = {}

    def key(self, name: str, face: Face, descriptor: np.ndarray | None, followed: bool = False) -> str:
        """The key of a face in the file `name`. descriptor: None for a face that cannot be described; it is alone.

        followed: its track is one face through a video, and stays the person that it was first taken for.
        """
        if self.persona == "run":
            return ""
        if self.persona == "file":
            return name
        if self.persona == "identity" and (name, face.track) in self._followed:
            return self._followed[name, face.track]
        if self.persona == "identity" and descriptor is not None:
            key = f"person {self._person(descriptor)}"
            if followed:
                # Frames come in order: other files are over.
                self._followed = {known: person for known, person in self._followed.items() if known[0] == name}
                self._followed[name, face.track] = key
            return key
        return track_key(name, face)

    def _person(self, descriptor: np.ndarray) -> int:
        known = self._people[: self._count]
        if self._count and self.distance is not None:
            apart = self.distance(known, np.broadcast_to(descriptor, known.shape))
            nearest = int(apart.argmin())
            if apart[nearest] <= self.threshold:
                return nearest
        if self._count == len(self._people):
            self._people = np.resize(self._people, (max(ROOM, 2 * self._count), len(descriptor)))
        self._people[self._count] = descriptor
        self._count += 1
        return self._count - 1
