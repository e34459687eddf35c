"""Who gets the same draw: a face, a file, a run, or a person."""

import numpy as np
import pytest

from deidcli.engine.persona import Personas
from deidcli.values import Box, Face

FACES = [Face(Box(0, 0, 9, 9), track=track) for track in range(2)]


def distance(a, b):
    return np.linalg.norm(a - b, axis=-1)


@pytest.mark.parametrize(("persona", "count"), [("track", 4), ("file", 2), ("run", 1)])
def test_keys(persona, count):
    personas = Personas(persona, None, 0.0)
    assert len({personas.key(name, face, None) for name in ("a.jpg", "b.jpg") for face in FACES}) == count


def test_a_person_is_known_again_in_any_file():
    """200 people, each seen three times: as many keys as people, and a face without a descriptor stays alone."""
    random = np.random.default_rng(0)
    people = 3 * random.standard_normal((200, 16)).astype(np.float32)
    personas = Personas("identity", distance, 1.0)
    near = lambda row: row + random.uniform(-0.1, 0.1, 16).astype(np.float32)  # noqa: E731
    keys = [[personas.key(f"{visit}.jpg", FACES[0], near(row)) for row in people] for visit in range(3)]
    assert keys[0] == keys[1] == keys[2] and len(set(keys[0])) == 200
    assert personas.key("x.jpg", FACES[1], None) == "x.jpg#1"
