"""People: what is known of every face that a gallery can be averaged from; labels, landmarks, tone, mouth."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from deidcli.engine.face_list import load_faces
from deidcli.errors import UsageError
from deidcli.faces.pose import mouth_gap, upright
from deidcli.faces.shape import LEFT_EYE, MEAN_SHAPE, RIGHT_EYE
from deidcli.faces.tone import skin, to_lab
from deidcli.networks.classifiers import load
from deidcli.training.data import Pack

TURNED = 0.17  # how far the tip of the nose may lie off the middle, as a share of the distance between the eyes
LOPSIDED = 0.14  # how far the nose may lie off the middle between the ends of the jaw, as a share of that distance
NODDED = 0.15  # how far its height between eyes and mouth may differ from the mean face's, as a share of the same
GREY = 5.0  # mean distance from grey in Lab below which a crop is taken for a grey photograph
BLURRED = 0.12  # share of the crops, the blurriest ones, that are left out
GLASSES = 0.28  # edge across the bridge of the nose past which glasses are worn, as nearly all are of whom it is so
BATCH = 256  # faces that are read at once
SHUT = 0.17  # height of an eye as a share of its width below which it counts as closed


@dataclass(frozen=True)
class People:
    """Columns of n faces; all rows belong together.

    names: file names. age: years. gender: 0 man, 1 woman. race: UTKFace's codes 0 to 4. landmarks: (n, 68, 2) pixels.
    descriptors: (n, 128) of dlib's recogniser. tone: (n, 3) mean Lab of the cheeks. gap: of the lips. expression: the
    word that the classifier reads. good: looks ahead, with colour, eyes open, not blurred, no glasses.
    """

    names: np.ndarray
    age: np.ndarray
    gender: np.ndarray
    race: np.ndarray
    landmarks: np.ndarray
    descriptors: np.ndarray
    tone: np.ndarray
    gap: np.ndarray
    expression: np.ndarray
    good: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def at(self, rows: np.ndarray) -> People:
        """Those rows alone: indices or a mask."""
        return People(*(getattr(self, item.name)[rows] for item in fields(self)))


def labels(name: str) -> tuple[int, int, int] | None:
    """Age, gender and race out of a file name AGE_GENDER_RACE_DATE; None where one is missing."""
    parts = Path(name).name.split(".")[0].split("_")
    if len(parts) != 4 or not all(part.isdigit() for part in parts[:3]):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2])


def people(pack: Pack, faces: Path, pictures: Path) -> People:
    """Everybody who is in the pack (for the descriptor) and has exactly one face with landmarks in the list `faces`.

    pictures: the folder of the files that pack and list speak of. Raises UsageError where the three do not belong
    together.
    """
    given = load_faces(faces)
    rows = []
    for row, name in enumerate(pack.names.tolist()):
        found, said = given.frames(name).get(0, []), labels(name)
        if said and len(found) == 1 and found[0].landmarks is not None:
            rows.append((row, name, said, found[0].landmarks.astype(np.float64)))
    if not rows:
        raise UsageError(f"{faces} and the pack have no face in common", "make both of the same folder")
    with ThreadPoolExecutor() as pool:
        seen = np.array(list(pool.map(lambda r: look(pictures / r[1], r[3]), rows)))
    points = np.stack([r[3] for r in rows])
    labelled = np.array([r[2] for r in rows])
    return People(
        names=np.array([r[1] for r in rows]),
        age=labelled[:, 0],
        gender=labelled[:, 1],
        race=labelled[:, 2],
        landmarks=points,
        descriptors=pack.descriptors[[r[0] for r in rows]],
        tone=seen[:, :3],
        gap=np.array([mouth_gap(p) for p in points]),
        expression=expressions(pack, [r[0] for r in rows]),
        good=_good(points, seen) & np.array([glasses_edge(pack.crops[r[0]]) <= GLASSES for r in rows]),
    )


def expressions(pack: Pack, rows: Sequence[int]) -> np.ndarray:
    """What the preset `expression` reads off faces of a pack: (n,) words."""
    reader = load("expression")
    side = (reader.config.size,) * 2
    words = []
    for start in range(0, len(rows), BATCH):
        crops = [cv2.resize(pack.crops[row], side, interpolation=cv2.INTER_AREA) for row in rows[start : start + BATCH]]
        words.append(reader.read(np.stack(crops))["expression"])
    return np.concatenate(words)


def look(path: Path, landmarks: np.ndarray) -> tuple[float, float, float, float]:
    """The mean Lab of the cheeks of a picture, and the contrast of its finest detail. Raises UsageError."""
    pixels = read(path)
    lab = to_lab(pixels)
    mean = lab[skin(landmarks, pixels.shape[:2])].mean(axis=0)
    low = np.maximum(landmarks[17:48].min(axis=0).astype(int), 0)
    high = landmarks[17:48].max(axis=0).astype(int)
    light = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[low[1] : high[1], low[0] : high[0]]
    return (*mean.tolist(), float(cv2.Laplacian(light, cv2.CV_32F).std() / (light.std() + 1)))


def glasses_edge(crop: np.ndarray) -> float:
    """How sharp an edge lies across the bridge of the nose in a crop of a pack, as a share of the face's contrast."""
    light = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (128, 128), interpolation=cv2.INTER_AREA)
    light = cv2.GaussianBlur(light.astype(np.float32), (0, 0), 1)
    edges = np.abs(np.diff(light, axis=0))[40:56, 59:69].mean(axis=1)
    return float(edges.max() / max(float(light[30:110, 20:108].std()), 1.0))


def read(path: Path) -> np.ndarray:
    """(height, width, 3) uint8 RGB. Raises UsageError."""
    stored = cv2.imread(str(path))
    if stored is None:
        raise UsageError(f"{path} cannot be read", "--pictures is the folder that was searched and packed")
    return cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)


def _good(landmarks: np.ndarray, seen: np.ndarray) -> np.ndarray:
    shapes = np.stack([upright(points) for points in landmarks])
    apart = MEAN_SHAPE[RIGHT_EYE].mean(axis=0)[0] - MEAN_SHAPE[LEFT_EYE].mean(axis=0)[0]
    off = (shapes - MEAN_SHAPE)[:, 30] / apart
    sides = shapes[:, [0, 16, 27], 0]
    # The nose between the ends of the jaw: what turns first.
    lopsided = np.abs((sides[:, 2] - sides[:, 0]) / (sides[:, 1] - sides[:, 0]) - 0.5)
    ahead = (np.abs(off[:, 0]) < TURNED) & (np.abs(off[:, 1]) < NODDED) & (lopsided < LOPSIDED)
    lids = np.linalg.norm(shapes[:, [37, 38, 43, 44]] - shapes[:, [41, 40, 47, 46]], axis=2).mean(axis=1)
    wide = np.linalg.norm(shapes[:, [36, 42]] - shapes[:, [39, 45]], axis=2).mean(axis=1)
    sharp = seen[:, 3] > np.quantile(seen[:, 3], BLURRED)
    return ahead & sharp & (lids / wide > SHUT) & (np.hypot(seen[:, 1], seen[:, 2]) > GREY)
