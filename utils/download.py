"""Fetch published files, checked by SHA-256 and never half written.

Beside each file NAME is `NAME.sha256`, one line as `sha256sum` writes it, so that a later run, or `sha256sum -c`,
detects a damaged file. huggingface_hub does the downloads: progress bar, retries, proxies, HF_ENDPOINT, HF_TOKEN.
"""

import difflib
import hashlib
import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from utils.errors import UserError
from utils.files import atomic_path, check_writable

log = logging.getLogger(__name__)

_HUB = "hf://"  # hf://OWNER/REPOSITORY/PATH, as huggingface_hub itself writes addresses
_CHUNK = 1 << 20


class NotPublished(UserError):
    """The server is there, but does not have the file."""


@dataclass(frozen=True)
class PublishedFile:
    """One line of a table of files to fetch."""

    name: str  # path below the target folder
    groups: tuple[str, ...]
    use: str
    url: str  # hf://OWNER/REPOSITORY/PATH or https://…
    sha256: str | None = None  # or its beginning; None: the hub publishes it, or nobody does


def select(files: list[PublishedFile], wanted: list[str], option: str) -> list[PublishedFile]:
    """The files that `wanted` names, or names a group of ("all" is every file); UserError for any other name."""
    known = {"all", *(name for file in files for name in (file.name, *file.groups))}
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, cutoff=0.4)
            raise UserError(f"{option} {name}: no such file or group; nearest: {', '.join(near) or 'see --list'}")
    return [file for file in files if not {"all", file.name, *file.groups}.isdisjoint(wanted)]


def fetch(url: str, path: Path, published: str | None = None) -> bool:
    """Make `path` the file that `url` names, and return whether anything was downloaded.

    A file that agrees with its `.sha256` is kept without using the network; one that does not is fetched again.
    A file without a `.sha256` is kept and gets one, unless another sum is published.

    Args:
        url: hf://OWNER/REPOSITORY/PATH for a file of the Hugging Face hub, else an ordinary address.
        published: the file's SHA-256 or its beginning, in lower-case hex. If None, the hub's own sum of a large file is
            checked; other servers publish none, and their files are not checked.

    Raises UserError for a place that cannot be written, a full disk, no network, or a file with a wrong sum. A file
    that was at `path` is then kept. The subclass NotPublished is for a file that the server does not have.
    """
    check_writable(path)
    record = path.with_name(f"{path.name}.sha256")
    try:
        if path.exists() and _keep(url, path, record, published):
            return False
        with atomic_path(path) as temporary:
            promised = None
            if url.startswith(_HUB):
                promised = _from_hub(url, temporary)
            else:
                _from_elsewhere(url, temporary)
            actual, wanted = _sha256(temporary), published or promised
            if wanted and not actual.startswith(wanted):
                raise UserError(f"{url}: came with SHA-256 {actual[:8]}…, wanted {wanted[:8]}…; run the command again")
        _write_record(record, actual)
    except OSError as error:
        text = f"{path}: cannot be read or written ({error.strerror}); free space or choose another place"
        raise UserError(text) from error
    return True


def _keep(url: str, path: Path, record: Path, published: str | None) -> bool:
    """Whether the existing file is the right one."""
    actual = _sha256(path)
    if record.exists():
        if record.read_text(encoding="utf-8", errors="replace").startswith(actual):
            return True
        log.warning("%s is not what %s says, so it is fetched again", path, record.name)
        return False
    if published is None and url.startswith(_HUB):
        published, _ = _hub_says(url)
    if published and not actual.startswith(published):
        raise UserError(f"{path}: is another file than {url}; move it away to have that one fetched")
    _write_record(record, actual)
    return True


# huggingface_hub is imported where it is used, so that --help is quick.


def _hub_says(url: str) -> tuple[str | None, str | None]:
    """SHA-256 of a file of the hub, which only large ones (in Git LFS) have, and its commit."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with _one_line_errors(url):
        metadata = get_hf_file_metadata(hf_hub_url(*_parts(url)))
    return metadata.etag if re.fullmatch("[0-9a-f]{64}", metadata.etag or "") else None, metadata.commit_hash


def _from_hub(url: str, target: Path) -> str | None:
    """Download a file of the hub to `target`, and return the SHA-256 that the hub publishes, if it does."""
    from huggingface_hub import hf_hub_download

    promised, commit = _hub_says(url)  # the library itself compares only the size
    # The library makes the repository's folders and some for its records, which must not be left beside the file.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
        with _one_line_errors(url):
            file = hf_hub_download(*_parts(url), revision=commit, local_dir=folder)
        Path(file).replace(target)
    return promised


def _from_elsewhere(url: str, target: Path) -> None:
    """Download any address to `target`; an answer that is shorter than announced is an error."""
    from huggingface_hub.file_download import http_get

    with target.open("wb") as file, _one_line_errors(url):
        http_get(url, file)


def _parts(url: str) -> tuple[str, str]:
    """The hub's name of the repository, and the file's path in it."""
    owner, repository, path = url.removeprefix(_HUB).split("/", 2)
    return f"{owner}/{repository}", path


@contextmanager
def _one_line_errors(url: str) -> Iterator[None]:
    """Turn every error of a download into a UserError, except those of the disk, such as a full one."""
    try:
        yield
    except Exception as error:  # of any type: the library passes on those of its transports (httpx, hf_xet)
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (404, 410):
            raise NotPublished(f"{url}: the server answers {status}; look for the file on its web page") from error
        if status in (401, 403):
            raise UserError(f"{url}: the server answers {status}; set HF_TOKEN if the repository is private") from error
        if status:
            raise UserError(f"{url}: the server answers {status}; try again later") from error
        if isinstance(error, OSError) and error.errno:
            raise
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(f"{url}: no connection ({reason}); check the network and run the command again") from error


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def _write_record(record: Path, total: str) -> None:
    with atomic_path(record) as temporary:
        temporary.write_text(f"{total}  {record.name.removesuffix('.sha256')}\n", encoding="utf-8")
