"""Files of buckets and servers, by their URLs: s3://, gs://, az://, sftp://, https:// and what else fsspec knows."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from deidcli.engine.files import PART, SETTLED
from deidcli.engine.stored import IN_MEMORY, Refused, Stored, unsafe
from deidcli.errors import DeidError, MissingDependency, UsageError, one_line

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
WEB = ("http", "https")
# An object gets its name when all of it is there. Elsewhere files are written under another name, and moved.
_WHOLE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl")
_REMOTE = "pip install 'deidcli[remote]'"
_WINDOW = 8 << 20  # bytes that are read at a time of a large object


class Url(type(Path())):  # type: ignore[misc]
    """The URL of a file or a folder, to be extended like a path. No path of this machine is called like one."""

    def __str__(self) -> str:
        return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*):/(?!/)", r"\1://", super().__str__())

    def __fspath__(self) -> str:
        return str(self)

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return Url, (str(self),)


def is_url(text: object) -> bool:
    """Whether a name is a URL and not a path."""
    return isinstance(text, Url) or (isinstance(text, str) and _URL.match(text) is not None)


def place_of(text: str | Path) -> Path:
    """The path, or the URL, that a text names. Raises UsageError for a URL of this machine or with a password."""
    if not is_url(text) or isinstance(text, Url):
        return Path(text)
    parts = urlsplit(str(text))
    if parts.scheme.lower() in ("file", "local"):
        # Links would be followed that a path is kept from.
        raise UsageError(f"{text}: a file of this machine", "give its path")
    if parts.password is not None or "::" in str(text):
        said = "a URL with a password would be written into manifests" if parts.password else f"{text}: not a plain URL"
        raise UsageError(said, "keep passwords in the settings of the service, and give a plain URL")
    return Url(text)


@lru_cache(maxsize=32)
def filesystem(root: str) -> Any:
    """What speaks to the service of a URL. Raises UsageError, and MissingDependency where the extra is not there."""
    try:
        from upath import UPath

        # Listings of a million objects would be kept for nothing.
        options: dict[str, Any] = {"use_listings_cache": False} if _scheme(root) in _WHOLE else {}
        return UPath(root, **options).fs
    except ImportError as error:
        raise MissingDependency(f"{_scheme(root)}:// needs another package: {error}", _REMOTE) from error
    except Exception as error:
        raise UsageError(f"{_scheme(root)}://: {one_line(error)}", "see `deid doctor` and docs/scale.md") from error


def key_of(url: str) -> str:
    """The name by which its service knows what lies at a URL."""
    return filesystem(server_of(url))._strip_protocol(url)


def is_whole_at_once(url: str) -> bool:
    """Whether an object of this service is there whole or not at all, whatever happens while it is written."""
    return _scheme(url) in _WHOLE


@dataclass(frozen=True)
class Object(Stored):
    """An object of a bucket. url: where it is. modified: nanoseconds since 1970, None where that is unknown."""

    url: str
    size: int | None
    modified: int | None

    @property
    def name(self) -> str:  # type: ignore[override]
        """The last part of its name."""
        return unquote(urlsplit(self.url).path).rpartition("/")[2] if _scheme(self.url) in WEB else Url(self.url).name

    def open(self, mode: str = "rb") -> BinaryIO:
        fs, key = filesystem(server_of(self.url)), key_of(self.url)
        with as_os_error(self.url):
            if self.size is not None and self.size <= IN_MEMORY:
                return io.BytesIO(fs.cat_file(key))
            return fs.open(key, "rb", block_size=_WINDOW, cache_type="readahead")

    def head(self, size: int) -> BinaryIO:
        """Its first bytes."""
        with as_os_error(self.url):
            end = size if self.size is None else min(size, self.size)
            if not end:
                return io.BytesIO()
            return io.BytesIO(filesystem(server_of(self.url)).cat_file(key_of(self.url), start=0, end=end))

    def changed(self) -> float | None:
        return None if self.modified is None else self.modified / 1e9

    def stamp(self) -> tuple[int, int] | None:
        """Services tell seconds: an object that was changed a moment ago could change again within the same one."""
        if self.size is None or self.modified is None or time.time_ns() - self.modified <= SETTLED:
            return None
        return self.size, self.modified


def object_at(url: Path | str) -> Object | None:
    """What lies at a URL; None where there is no object. Raises OSError."""
    fs, key = filesystem(server_of(str(url))), key_of(str(url))
    with as_os_error(str(url)):
        try:
            info = fs.info(key)
        except FileNotFoundError:
            return None
    return _object(str(url), info) if info["type"] != "directory" else None


def objects(root: Path | str) -> Iterator[tuple[str, Stored]]:
    """Every object below a URL, sorted folder by folder, each with its name from there. Raises UsageError.

    Temporary names are left out; one whose name would lead elsewhere raises when it is opened.
    """
    fs, top = filesystem(server_of(str(root))), key_of(str(root))
    try:
        found = fs.find(top, detail=True)
        files = [(key, info) for key, info in found.items() if info["type"] != "directory"]
    except FileNotFoundError:
        return
    except DeidError:
        raise
    except Exception as error:
        raise UsageError(f"{root}: {one_line(error)}", "check the URL and who may read there") from error
    del found
    below = sorted(((key[len(top) :].removeprefix("/").split("/"), info) for key, info in files), key=itemgetter(0))
    for parts, info in below:
        name = "/".join(parts)
        if name and not name.endswith((PART, "/")):
            last, wrong = name.rpartition("/")[2], unsafe(name)
            yield name, Refused(last, f"{name}: it has {wrong}") if wrong else _object(f"{root}/{name}", info)


def _object(url: str, info: dict[str, Any]) -> Object:
    size, modified = info.get("size"), None
    for key in ("LastModified", "last_modified", "mtime", "updated", "modified", "created"):
        value: Any = info.get(key)
        if hasattr(value, "timestamp"):
            modified = int(value.timestamp() * 1e9)
        elif isinstance(value, (int, float)):
            modified = int(value * 1e9)
        if modified is not None:
            break
    return Object(url, size if isinstance(size, int) else None, modified)


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()


def server_of(url: str) -> str:
    """The part of a URL that says who is spoken to: all files of a bucket are asked of one connection."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"


@contextmanager
def as_os_error(url: str) -> Iterator[None]:
    """Makes whatever a service answers an OSError that names the URL."""
    try:
        yield
    except (OSError, DeidError):
        raise
    except Exception as error:
        raise OSError(f"{url}: {one_line(error)}") from error


PIECE = ".piece-"


def begins_with(url: str, prefix: str) -> list[str]:
    """The keys of the objects in a folder whose names begin with `prefix`, sorted. Raises OSError."""
    fs, key = filesystem(server_of(url)), key_of(url)
    with as_os_error(url):
        try:
            found = fs.find(key, prefix=prefix) if is_whole_at_once(url) else fs.ls(key, detail=False)
        except FileNotFoundError:
            return []
    return sorted(name for name in found if name.rpartition("/")[2].startswith(prefix))


def saved(url: Url) -> Iterator[bytes]:
    """The lines of a manifest in a bucket: the manifest, and the pieces that a killed run has left. Raises OSError."""
    fs = filesystem(server_of(str(url)))
    whole = [key_of(str(url))] if object_at(url) else []
    for key in [*whole, *begins_with(str(url.parent), url.name + PIECE)]:
        with as_os_error(str(url)):
            yield fs.cat_file(key)
