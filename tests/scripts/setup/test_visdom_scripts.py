"""The scripts of visdom's page are fetched once through npm and unpacked safely; a fake npm is used."""

import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.runs import ROOT

spec = importlib.util.spec_from_file_location("visdom_scripts", ROOT / "scripts" / "setup" / "visdom_scripts.py")
scripts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scripts)

# copies the packages asked for from a folder, as npm writes them, and notes what it was asked
NPM = """#!{python}
import json, pathlib, shutil, sys
kept = pathlib.Path({kept!r})
with open(kept / "asked.jsonl", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if (kept / "broken").exists():
    print("npm error code ENOTFOUND\\nnpm error network request failed", file=sys.stderr)
    sys.exit(1)
for word in sys.argv[2:]:
    if not word.startswith("-"):
        shutil.copy(kept / (word.replace("@", "-") + ".tgz"), ".")
"""


def package(path, files, *others):
    """Write a package as npm does, with more members if given: (TarInfo, content)."""
    with tarfile.open(path, "w:gz") as tar:
        for info, content in others:
            tar.addfile(info, io.BytesIO(content))
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


class Place:
    """A visdom without scripts, an npm that knows all packages, and a way to run the script with both."""

    def __init__(self, folder, version):
        self.version, self.static = version, folder / "site" / "visdom" / "static"
        self.static.mkdir(parents=True)
        (self.static.parent / "__init__.py").write_text("raise ImportError('nobody needs to import it')")
        (self.static.parent / "VERSION").write_text(version + "\n")
        self.kept = folder / "registry"
        self.kept.mkdir()
        owners = {}
        for place, (owner, file) in scripts.script_sources(version).items():
            owners.setdefault(owner, {})[file] = f"{owner} {file} for {place}".encode()
        for owner, files in owners.items():
            package(self.kept / f"{owner.replace('@', '-')}.tgz", files | {"unwanted.js": b"no"})
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "npm").write_text(NPM.format(python=sys.executable, kept=str(self.kept)))
        (self.bin / "npm").chmod(0o755)

    def run(self, path=None):
        env = {**os.environ, "PYTHONPATH": str(self.static.parent.parent), "PATH": str(path or self.bin)}
        command = [sys.executable, str(ROOT / "scripts" / "setup" / "visdom_scripts.py")]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert len((done.stdout + done.stderr).splitlines()) == 1, done.stderr  # always one line
        return done

    def asked(self):
        file = self.kept / "asked.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def there(self):
        return {p.relative_to(self.static).as_posix() for p in self.static.rglob("*") if p.is_file()}


@pytest.fixture(params=["0.2.4", "0.3.0"])
def place(request, tmp_path):
    return Place(tmp_path, request.param)


def test_every_file_comes_to_its_place_once(place):
    """A second run asks npm for nothing; a file that got lost is brought again; another version is another set."""
    done = place.run()
    assert done.returncode == 0, done.stderr
    wanted = scripts.script_sources(place.version)
    assert place.there() == {*wanted, "version.built"}
    for file, (owner, name) in wanted.items():
        assert (place.static / file).read_bytes().startswith(f"{owner} {name} for ".encode())
    assert (place.static / "version.built").read_text() == place.version  # what visdom compares with its own
    assert sum(words[0] == "pack" and "--ignore-scripts" in words for words in place.asked()) == 1
    assert not any(":" in word for words in place.asked() for word in words)  # npm knows where
    assert "already installed" in place.run().stdout and len(place.asked()) == 1
    (place.static / "js" / "plotly-plotly.min.js").unlink()
    assert place.run().returncode == 0
    assert [word for word in place.asked()[1] if "@" in word] == ["plotly.js-dist-min@2.11.1"]
    (place.static / "version.built").write_text("0.1.0")
    assert place.run().returncode == 0 and len(place.asked()[2]) == len(place.asked()[0])


def test_the_installed_visdom_asks_for_no_other_files():
    """Its own list of downloads, read from its source, has the names that are brought."""
    try:
        static, version = scripts.find_visdom()
    except scripts.ScriptsError as why:
        pytest.skip(str(why))
    source = (static.parent / "server" / "build.py").read_text()
    names = {Path(file).name for file in scripts.script_sources(version)}
    unknown = [name for name in names if name not in source and "glyphicons" not in name]
    assert unknown == []
    listed = source.partition("ext_files = {")[2].partition("\n    }\n")[0]
    entries = [line.split('"')[-2] for line in listed.splitlines() if line.strip().endswith('",')]
    assert len(entries) >= 12 and {e for e in entries if e not in names} == set()


def test_a_failed_installation_is_one_line_and_not_exit_0(place, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    done = place.run(path=empty)
    assert done.returncode == 1 and "npm is not installed" in done.stderr
    (place.kept / "broken").touch()
    done = place.run()
    assert done.returncode == 1 and "npm cannot fetch the packages (npm error code ENOTFOUND)" in done.stderr
    assert place.there() == set()
    (place.kept / "broken").unlink()
    place.static.rmdir()
    place.static.write_text("no folder")  # rights stop no root; this stops everybody
    done = place.run()
    assert done.returncode == 1 and f"{place.static} cannot be written (File exists)" in done.stderr
    (place.static.parent / "__init__.py").unlink()
    (place.static.parent / "VERSION").unlink()
    place.static.unlink()
    place.static.parent.rmdir()
    command = [sys.executable, "-S", str(ROOT / "scripts" / "setup" / "visdom_scripts.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "python scripts/setup/install_visdom.py" in done.stderr


def linked(kind, name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def plain(name, content=b"bad"):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


OUTSIDE = [
    plain("../../../outside"),
    plain("/tmp/outside-of-all"),
    plain("package/../../outside"),
    linked(tarfile.SYMTYPE, "package/js", "/"),
    linked(tarfile.LNKTYPE, "package/hard", "../../outside"),
]


def test_members_that_nobody_asked_for_reach_nothing(place, tmp_path):
    """Paths that climb, absolute ones, links: wanted files are found by name, and no name of the package is a path."""
    before = {p for p in tmp_path.rglob("*")}
    package(place.kept / "sjcl-1.0.7.tgz", {"sjcl.js": b"good"}, *OUTSIDE)
    done = place.run()
    assert done.returncode == 0, done.stderr
    assert (place.static / "js" / "sjcl.js").read_bytes() == b"good"
    new = {p for p in tmp_path.rglob("*") if p not in before and p.is_file()}
    assert all(p.is_relative_to(place.static) or p == place.kept / "asked.jsonl" for p in new)
    assert not Path("/tmp/outside-of-all").exists()


@pytest.mark.parametrize("spoilt", ["a link", "too large", "not there", "no archive", "cut short"])
def test_a_package_that_is_not_what_it_should_be_is_refused(tmp_path, spoilt):
    place = Place(tmp_path, "0.3.0")
    archive = place.kept / "sjcl-1.0.7.tgz"
    if spoilt == "a link":
        package(archive, {}, linked(tarfile.SYMTYPE, "package/sjcl.js", "/etc/passwd"))
    elif spoilt == "too large":
        package(archive, {"sjcl.js": bytes(scripts.MAX_SCRIPT_BYTES + 1)})
    elif spoilt == "not there":
        package(archive, {"other.js": b"x"})
    elif spoilt == "no archive":
        archive.write_bytes(b"<html>please sign in</html>")
    else:
        whole = archive.read_bytes()
        archive.write_bytes(whole[: len(whole) // 2])
    done = place.run()
    assert done.returncode == 1 and "sjcl-1.0.7.tgz" in done.stderr and "Traceback" not in done.stderr
    assert not (place.static / "js" / "sjcl.js").exists() and not (place.static / "version.built").exists()
