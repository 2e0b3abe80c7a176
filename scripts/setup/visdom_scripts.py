"""Install the scripts that visdom's page needs, with npm, so that its server starts and plots without internet.

The command `visdom` downloads them from several hosts at its first start, and exits if it cannot. Each of them is also
in a package of npm's registry. This script has npm download those packages (npm knows its registry, mirrors and
proxies, and compares checksums), extracts the files, and writes `version.built`, so that the command downloads nothing
from then on. Run it with the Python that visdom is installed in; it needs nothing else.

Usage: python scripts/setup/visdom_scripts.py
"""

import shutil
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, TimeoutExpired, run

MAX_SCRIPT_BYTES = 16 * 2**20
NPM_TIMEOUT_S = 300
BOOTSTRAP, BIN_PACKER = "bootstrap@3.3.7", "layout-bin-packer@1.4.0"
ICONS = "glyphicons-halflings-regular"

ScriptSources = dict[str, tuple[str, str]]  # file below visdom/static: (package, file in the package)

COMMON_SCRIPTS: ScriptSources = {
    "js/jquery.min.js": ("jquery@3.1.1", "dist/jquery.min.js"),
    "js/bootstrap.min.js": (BOOTSTRAP, "dist/js/bootstrap.min.js"),
    "js/react-react.min.js": ("react@16.2.0", "umd/react.production.min.js"),
    "js/react-dom.min.js": ("react-dom@16.2.0", "umd/react-dom.production.min.js"),
    "js/react-modal.min.js": ("react-modal@3.1.10", "dist/react-modal.min.js"),
    "js/plotly-plotly.min.js": ("plotly.js-dist-min@2.11.1", "plotly.min.js"),
    "js/sjcl.js": ("sjcl@1.0.7", "sjcl.js"),
    "js/layout_bin_packer.js": (BIN_PACKER, "dist/layout-bin-packer.js"),
    "js/layout-bin-packer.js.map": (BIN_PACKER, "dist/layout-bin-packer.js.map"),
    "js/d3.v3.min.js": ("d3@3.5.17", "d3.min.js"),
    "js/d3-selection-multi.v1.js": ("d3-selection-multi@1.0.1", "build/d3-selection-multi.js"),
    "js/saveSvgAsPng.js": ("save-svg-as-png@1.4.17", "lib/saveSvgAsPng.js"),
    "css/bootstrap.min.css": (BOOTSTRAP, "dist/css/bootstrap.min.css"),
    "fonts/classnames": ("classnames@2.2.5", "index.js"),
    **{f"fonts/{ICONS}.{kind}": (BOOTSTRAP, f"dist/fonts/{ICONS}.{kind}") for kind in ("eot", "woff2", "woff", "ttf")},
    f"fonts/{ICONS}.svg#glyphicons_halflingsregular": (BOOTSTRAP, f"dist/fonts/{ICONS}.svg"),
}
MATHJAX_2 = ("MathJax.js", "config/Safe.js", "config/TeX-AMS-MML_HTMLorMML.js", "extensions/Safe.js",
             "jax/output/SVG/jax.js", "jax/output/SVG/config.js", "jax/output/SVG/fonts/TeX/fontdata.js",
             "jax/output/SVG/fonts/TeX/Size1/Regular/Main.js")  # fmt: skip
SCRIPTS_UNTIL_02: ScriptSources = {
    "css/react-resizable-styles.css": ("react-resizable@1.4.6", "css/styles.css"),
    "css/react-grid-layout-styles.css": ("react-grid-layout@0.16.3", "css/styles.css"),
    **{f"js/mathjax/2.7.5/{file}": ("mathjax@2.7.5", file) for file in MATHJAX_2},
}
SCRIPTS_SINCE_03: ScriptSources = {
    "css/react-resizable-styles.css": ("react-resizable@3.1.3", "css/styles.css"),
    "css/react-grid-layout-styles.css": ("react-grid-layout@2.2.3", "css/styles.css"),
    "js/mathjax/3.2.2/es5/tex-mml-svg.js": ("mathjax@3.2.2", "es5/tex-mml-svg.js"),
}


class ScriptsError(Exception):
    """The reason why the scripts cannot be installed."""


def find_visdom() -> tuple[Path, str]:
    """Return the folder of visdom's static files and its version, without importing it."""
    spec = find_spec("visdom")
    if spec is None or spec.origin is None:
        raise ScriptsError("visdom is not installed in this Python; python scripts/setup/install_visdom.py installs it")
    package = Path(spec.origin).parent
    try:
        return package / "static", (package / "VERSION").read_text(encoding="utf-8").strip()
    except OSError as problem:
        raise ScriptsError(f"the version of visdom in {package} is unknown ({problem.strerror})") from problem


def script_sources(version: str) -> ScriptSources:
    """Return the files that the page of this version of visdom needs."""
    return COMMON_SCRIPTS | (SCRIPTS_UNTIL_02 if version.startswith(("0.1.", "0.2.")) else SCRIPTS_SINCE_03)


def missing_scripts(static: Path, version: str) -> ScriptSources:
    """Return the files that are still missing: all, if the present ones are for another version."""
    built = static / "version.built"
    is_built = built.is_file() and built.read_text(encoding="utf-8").strip() == version
    sources = script_sources(version)
    return {file: sources[file] for file in sources if not (is_built and (static / file).is_file())}


def npm_pack(packages: list[str], folder: Path) -> None:
    """Download packages into a folder with npm, without running any of their scripts."""
    npm = shutil.which("npm")
    if npm is None:
        raise ScriptsError("npm is not installed; install Node.js, or start `visdom` once with internet access")
    command = [npm, "pack", "--silent", "--ignore-scripts", *packages]
    try:
        result = run(command, cwd=folder, stdin=DEVNULL, capture_output=True, text=True, timeout=NPM_TIMEOUT_S)
    except (OSError, TimeoutExpired) as problem:
        raise ScriptsError(f"npm does not answer ({problem})") from problem
    if result.returncode:
        lines = [line.strip() for line in (result.stderr + result.stdout).splitlines() if line.strip()]
        reasons = [line for line in lines if "code" in line or "network" in line] + lines + ["no network?"]
        raise ScriptsError(f"npm cannot fetch the packages ({reasons[0]})")


def extract_files(archive: Path, files: dict[str, Path]) -> None:
    """Copy files of a package to their targets; nothing else in it is read, and its names never become paths."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = {member.name.partition("/")[2]: member for member in tar if member.isreg()}
            for file, target in files.items():
                if file not in members or members[file].size > MAX_SCRIPT_BYTES:
                    raise ScriptsError(f"{archive.name} has no usable {file}")
                content = tar.extractfile(members[file])
                assert content is not None  # it is a regular file
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(target.name + ".new")
                temporary.write_bytes(content.read())
                temporary.replace(target)
    except (tarfile.TarError, EOFError, FileNotFoundError) as problem:
        raise ScriptsError(f"{archive.name} is not a package ({problem})") from problem


def install_scripts() -> str:
    """Install the missing files; return in a few words what was done."""
    static, version = find_visdom()
    missing = missing_scripts(static, version)
    if not missing:
        return f"those of visdom {version} are already installed"
    packages = sorted({package for package, _ in missing.values()})
    try:
        static.mkdir(exist_ok=True)
        (static / "version.built").unlink(missing_ok=True)  # also fails early if the folder is not writable
        with tempfile.TemporaryFile(dir=static), tempfile.TemporaryDirectory() as folder:
            npm_pack(packages, Path(folder))
            for package in packages:
                wanted = {file: static / place for place, (owner, file) in missing.items() if owner == package}
                extract_files(Path(folder, package.replace("@", "-") + ".tgz"), wanted)
        (static / "version.built").write_text(version, encoding="utf-8")
    except OSError as problem:
        raise ScriptsError(f"{problem.filename or static} cannot be written ({problem.strerror})") from problem
    return f"{len(missing)} files for visdom {version} are in {static}"


def main() -> int:
    """Install the scripts, print the result in one line, and return 0 if they are installed."""
    try:
        print(f"visdom's page scripts: {install_scripts()}")
    except ScriptsError as problem:
        print(f"visdom's page scripts: not installed, so its page stays empty; {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
