"""Files of npm's packages come once, complete, and only from the archive that was expected."""

import base64
import hashlib
import os
import stat
import tarfile

import pytest

from serialization.download.npm import npm_files
from util.errors import EnvironmentFault

FILES = ("dist/one.mjs", "dist/two.wasm")


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """registry(script) puts an npm that runs this shell script on the path, beside an archive; returns its SHA-512."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package, tools = tmp_path / "package", tmp_path / "tools"
    (package / "dist").mkdir(parents=True)
    tools.mkdir()
    for number, name in enumerate(FILES):
        (package / name).write_bytes(bytes([number]) * 1000)
    archive = tmp_path / "thing-1.0.0.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(package, "package")

    def use(script=f"cp {archive} ."):
        (tools / "npm").write_text(f"#!/bin/sh\necho called >> {tmp_path}/calls\n{script}\n")
        (tools / "npm").chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
        return base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()

    return use


def test_files_come_once(registry, tmp_path):
    sha512 = registry()
    for _ in range(2):
        found = npm_files("thing@1.0.0", sha512, FILES)
        assert [path.read_bytes() for path in found.values()] == [bytes(1000), b"\1" * 1000]
    assert (tmp_path / "calls").read_text() == "called\n"
    assert sorted(path.name for path in found["dist/one.mjs"].parent.iterdir()) == ["one.mjs", "two.wasm"]


def test_another_archive_is_refused(registry, tmp_path):
    registry()
    other = base64.b64encode(hashlib.sha512(b"other").digest()).decode()
    with pytest.raises(EnvironmentFault, match="its SHA-512 differs"):
        npm_files("thing@1.0.0", other, FILES)
    assert list((tmp_path / "cache/ganvas/npm/thing@1.0.0").iterdir()) == []


def test_a_missing_file_and_a_failing_npm_are_named(registry):
    sha512 = registry()
    with pytest.raises(EnvironmentFault, match="has no usable dist/none"):
        npm_files("thing@1.0.0", sha512, [*FILES, "dist/none"])
    registry("echo npm error code ENOTFOUND >&2; exit 1")
    with pytest.raises(EnvironmentFault, match=r"npm cannot fetch it .*ENOTFOUND.*check the network"):
        npm_files("other@1.0.0", sha512, FILES)


def test_without_npm_one_line_says_what_to_install(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFault, match=r"npm.*needed once, to get thing@1\.0\.0.*install Node\.js"):
        npm_files("thing@1.0.0", "", FILES)
