"""Fetch published files: resumed after a break, checked by SHA-256, never half written.

Beside each file NAME lies `NAME.sha256`, one line as `sha256sum` writes it, so that a later run, or `sha256sum -c`,
can tell a damaged file. While NAME is fetched, what has come is `.NAME.part` in the same folder. Python's own client
does it all (it honours HTTPS_PROXY), because huggingface_hub drops what has come when a download breaks.
"""

import difflib
import fcntl
import hashlib
import http.client
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any, BinaryIO

from tqdm import tqdm

from utils.errors import UserError
from utils.files import atomic_path, check_writable

log = logging.getLogger(__name__)

_TIMEOUT = 30  # seconds without a byte
_ATTEMPTS = 3  # in a row that bring nothing
_CHUNK = 1 << 20


class NotPublished(UserError):
    """The server is there, but does not have the file."""


class _Broken(UserError):
    """The network or the server failed; to ask again may help."""


@dataclass(frozen=True)
class PublishedFile:
    """One line of a table of files to fetch."""

    name: str  # path below the target folder
    groups: tuple[str, ...]
    use: str
    url: str
    sha256: str | None = None  # or how it begins; None: the server tells, or nobody does


def select(files: list[PublishedFile], wanted: list[str], option: str) -> list[PublishedFile]:
    """The files that `wanted` names, or names a group of ("all" is every file); UserError for any other name."""
    known = {"all", *(name for file in files for name in (file.name, *file.groups))}
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, cutoff=0.4)
            raise UserError(f"{option} {name}: no such file or group; nearest: {', '.join(near) or 'see --list'}")
    return [file for file in files if not {"all", file.name, *file.groups}.isdisjoint(wanted)]


def fetch(url: str, path: Path, published: str | None = None) -> bool:
    """Make `path` the file that `url` names, and tell whether anything was downloaded.

    A file that agrees with its `.sha256` is kept without a look at the network; one that does not is fetched again.
    A file without a `.sha256` is kept and gets one, unless another sum is published.

    Args:
        published: the file's SHA-256 or how it begins, in lower-case hex. If None, what a Hugging Face server says
            of a large file is taken; other servers tell no sum, and the file is taken as it comes.

    Raises UserError for a place that cannot be written, a full disk, no network, or a file with a wrong sum. A file
    that was at `path` stays then. The subclass NotPublished is for a file that the server does not have.
    """
    check_writable(path)
    record = path.with_name(f"{path.name}.sha256")
    try:
        if path.exists() and _keep(url, path, record, published):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        with _alone_in(path.parent):
            with part.open("ab") as file:
                promised = _receive(url, file, path.name)
                os.fsync(file.fileno())
            found, wanted = _sha256(part), published or promised
            if wanted and not found.startswith(wanted):
                part.unlink()
                raise UserError(f"{url}: came with SHA-256 {found[:8]}…, wanted {wanted[:8]}…; run the command again")
            part.replace(path)
        _write_record(record, found)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); free space or choose another place") from error
    return True


def _keep(url: str, path: Path, record: Path, published: str | None) -> bool:
    """Whether the file that is there is the right one."""
    found = _sha256(path)
    if record.exists():
        if record.read_text(encoding="utf-8", errors="replace").startswith(found):
            return True
        log.warning("%s is not what %s says, so it is fetched again", path, record.name)
        return False
    if published is None:
        with _open(url) as (_, promised):
            published = promised
    if published and not found.startswith(published):
        raise UserError(f"{path}: is another file than {url}; move it away to have that one fetched")
    _write_record(record, found)
    return True


def _receive(url: str, part: BinaryIO, name: str) -> str | None:
    """Append to `part` what it lacks of the file, and return the SHA-256 that the server promises, if it does."""
    failures = 0
    while True:
        start = part.tell()
        try:
            with _open(url, start) as (response, promised):
                _copy(response, part, name)
                return promised
        except urllib.error.HTTPError as error:  # 416: what has come is longer than the file
            if not start:
                raise UserError(f"{url}: the server answers 416 to a whole file; try again later") from error
            part.truncate(0)
            part.seek(0)
        except _Broken:
            failures = 0 if part.tell() > start else failures + 1
            if failures == _ATTEMPTS:
                raise
            time.sleep(failures)


def _copy(response: http.client.HTTPResponse, part: BinaryIO, name: str) -> None:
    """Append the answer's bytes."""
    if response.status != 206:  # the server sends the whole file
        part.truncate(0)
        part.seek(0)
    start = part.tell()
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else None
    free = shutil.disk_usage(Path(part.name).parent).free
    if total is not None and total - start > free:
        wanted, there = ((total - start) / 1e9, free / 1e9)
        raise UserError(
            f"{name}: needs {wanted:.1f} GB where {there:.1f} GB are free; free some space or choose another place"
        )
    with tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True) as bar:
        while True:
            with _network(name):
                chunk = response.read(_CHUNK)
                if not chunk and part.tell() != (total or part.tell()):
                    raise ConnectionResetError("it broke off")
            if not chunk:
                break
            part.write(chunk)
            bar.update(len(chunk))


@contextmanager
def _open(url: str, start: int = 0) -> Iterator[tuple[http.client.HTTPResponse, str | None]]:
    """The server's answer from byte `start` on, and the SHA-256 that it promises for the whole file."""
    headers = {"User-Agent": "StyleFeatureEditor", **({"Range": f"bytes={start}-"} if start else {})}
    redirects = _Redirects()
    with _network(url):
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.build_opener(redirects).open(request, timeout=_TIMEOUT)
    with response:
        yield response, redirects.promised or _promised(response.headers)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows them, and remembers the sum that Hugging Face sends with the redirect to its storage."""

    promised: str | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        self.promised = self.promised or _promised(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 does not know 308


def _promised(headers: Message) -> str | None:
    """SHA-256 of a file in Git LFS, as Hugging Face names it; the tags of other servers mean something else."""
    tag = headers.get("X-Linked-Etag", "").strip('"')
    return tag if re.fullmatch("[0-9a-f]{64}", tag) else None


@contextmanager
def _network(what: str) -> Iterator[None]:
    """Turn what the network can do into a UserError; only "416 Range Not Satisfiable" passes through."""
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code == 416:
            raise
        if error.code in (404, 410):
            raise NotPublished(f"{what}: the server answers {error.code}; look for the file on its web page") from error
        kind = _Broken if error.code >= 500 or error.code == 429 else UserError
        raise kind(f"{what}: the server answers {error.code} ({error.reason}); try again later") from error
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: not an address
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise _Broken(
            f"{what}: no connection ({reason}); check the network and run the command again, it goes on from there"
        ) from error


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second run from writing the same parts."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: another run is fetching files into it; wait until that one is done") from error
        except OSError:
            log.debug("%s: no locks on this file system", folder)  # NFS locks no folders
        yield
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def _write_record(record: Path, total: str) -> None:
    with atomic_path(record) as temporary:
        temporary.write_text(f"{total}  {record.name.removesuffix('.sha256')}\n", encoding="utf-8")
