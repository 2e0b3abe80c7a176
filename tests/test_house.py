"""Check the sources against the rules of the codebase; each rule is also shown to fail."""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.loaded import our_folders
from tests.support.runs import ROOT
from tests.support.sources import MODULES, imported, nodes_of, sources

FLOORS = [  # lowest first; a file imports only lower floors and its own room (top-level package)
    ["util"],
    ["registry", "serialization"],
    ["options.fields"],
    ["networks", "data", "cli"],
    ["options", "metrics"],
    ["inference", "pages"],
    ["models", "displays"],
    ["training"],
    ["train", "test"],
    ["scripts", "benchmarks"],
    ["ganvas"],
    ["tests"],
]
ROOMS = our_folders()  # the packages in the repository
TABLES = ("registry/kinds.py", "registry/moved.py")  # the module of each kind, the new module of each old path
BUDGETS = {"train.py": 110, "test.py": 110}  # lines; FILE_LINES for other files
FILE_LINES, FUNCTION_LINES, MODEL_CODE_LINES = 400, 60, 100
FOLDER_FILES, FOLDER_LINES, TEST_FOLDER_FILES = 20, 2500, 25  # Python, JS and CSS files directly in a folder
UTIL_LINES = 1200
DEPTH, TEST_DEPTH = 2, 3  # folders above a file
TEST_NAME = 60  # characters

Checker = Callable[[str, str], list[str]]  # (source, path from the root with /) -> complaints
TreeChecker = Callable[[dict[str, str]], list[str]]  # {path: source} of a whole tree -> complaints


def in_tables(source: str) -> list[str]:
    """Return every module of this repository that a source names in a string.

    These are "module:object", "module:object.attribute", "package.module", and the argument of import_module.
    """
    names, nodes = _origin_of_names(source), nodes_of(source)
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = {
        n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docstrings
    }
    objects = [match[1] for text in texts if (match := re.fullmatch(r"([a-z_]\w*(?:\.\w+)*):[A-Za-z_][\w.]*", text))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and node.args]
    loaded = [
        getattr(call.args[0], "value", "")
        for call in calls
        if _called(call, names) in ("importlib.import_module", "__import__")
    ]
    dotted = [text for text in texts if "." in text]
    return sorted({module for module in [*objects, *loaded, *dotted] if module in MODULES})


def floor(module: str) -> tuple[int, str] | None:
    """Return the number of a module's floor, and its room; None for modules outside the repository."""
    for room in (module if module == "options.fields" else "", module.partition(".")[0]):
        for number, rooms in enumerate(FLOORS):
            if room in rooms:
                return number, room
    return None


def import_directions(source: str, path: str) -> list[str]:
    """A file imports only lower floors and its own room, in functions and in tables too."""
    own = floor(path.removesuffix(".py").replace("/", "."))
    if own is None or path in TABLES:
        return []
    others = [(module, there) for module in imported(source, path) + in_tables(source) if (there := floor(module))]
    return [f"{path} imports {module}" for module, there in others if there[1] != own[1] and there[0] >= own[0]]


def circles(tree: dict[str, str]) -> list[str]:
    """Imports have no cycles, neither between files nor between folders."""
    files: dict[str, set[str]] = {}
    folders: dict[str, set[str]] = {}
    homes = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in tree}
    for path, source in tree.items():
        named = {homes[module] for module in imported(source, path, homes) if module in homes} - {path}
        files[path] = named
        folder = path.rpartition("/")[0]
        folders.setdefault(folder, set()).update({other.rpartition("/")[0] for other in named} - {folder})
    return [f"circle: {' -> '.join(circle)}" for graph in (files, folders) if (circle := _circle(graph))]


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """Return a cycle of a graph, or [].

    Nodes without targets are removed repeatedly; each node that remains is in a cycle or leads to one.
    """
    left = {node: set(targets) for node, targets in graph.items()}
    while ends := [node for node in left if not left[node] & left.keys()]:
        for node in ends:
            del left[node]
    way: list[str] = []
    node = next(iter(left), "")
    while node and node not in way:
        way.append(node)
        node = next(target for target in sorted(left[node]) if target in left)
    return [*way[way.index(node) :], node] if node else []


def folder_budgets(tree: dict[str, str]) -> list[str]:
    """Folders are small enough to survey: the files directly in them are limited in number and in lines."""
    found = []
    for folder in {path.rpartition("/")[0] for path in tree} - {""}:
        inside = [source for path, source in tree.items() if path.rpartition("/")[0] == folder]
        test = folder.partition("/")[0] == "tests"
        most = TEST_FOLDER_FILES if test else FOLDER_FILES
        lines = sum(len(source.splitlines()) for source in inside)
        limit = lines if test else UTIL_LINES if folder == "util" else FOLDER_LINES
        found += [f"{folder}/ has {len(inside)} files, may have {most}"] if len(inside) > most else []
        found += [f"{folder}/ has {lines} lines, may have {limit}"] if lines > limit else []
    return found


def depth(source: str, path: str) -> list[str]:
    """Files are at most two folders deep, three in tests/."""
    most = TEST_DEPTH if path.startswith("tests/") else DEPTH
    return (
        [f"{path} is more than {most} folders deep"]
        if path.count("/") > most and not path.startswith("examples/")
        else []
    )


def manners_of_tests(source: str, path: str) -> list[str]:
    """Tests have short names and do not import other test modules or conftest.py."""
    if not path.startswith("tests/"):
        return []
    modules = [*imported(source, path), *in_tables(source)]
    found = [f"{path} imports {module}" for module in modules if re.match(r"tests\.(.*\.)?(test_|conftest$)", module)]
    named = [n.name for n in nodes_of(source) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [name for name in named if name.startswith("test_") and len(name) > TEST_NAME]
    return found + [f"{path}: {name} has more than {TEST_NAME} characters" for name in long]


def mirror(paths: list[str]) -> list[str]:
    """Each folder in tests/ is named after a room or a kind of test."""
    kinds = ("support", "facts", "docs", "faults", "fuzz", "parity", "soak", "browser", "distributed")
    folders = {path.split("/")[1] for path in paths if path.startswith("tests/") and path.count("/") > 1}
    return [f"tests/{folder}/ is not named after a room" for folder in folders if folder not in (*ROOMS, *kinds)]


def budgets(source: str, path: str) -> list[str]:
    length, limit = len(source.splitlines()), BUDGETS.get(path, FILE_LINES)
    if path.startswith("tests/"):  # tables of cases may be long, but functions may not
        limit = length
    found = [f"{path} has {length} lines, may have {limit}"] if length > limit else []
    for node in nodes_of(source):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > FUNCTION_LINES:
                found.append(f"{path}: {node.name} has {lines} lines, may have {FUNCTION_LINES}")
    return found


def lazy_imports(source: str, path: str) -> list[str]:
    """An import inside a function says why in a comment on its line or directly above the imports it belongs to."""
    if path.startswith(("tests/", "benchmarks/", "examples/")):  # a benchmark imports from the checkout it measures
        return []
    lines, found = source.splitlines(), []
    for function in nodes_of(source):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                top = node.lineno - 1
                while top and re.match(r"\s*(import|from|#)\b|\s*$|\s*#", lines[top]):
                    top -= 1
                if not any("#" in line for line in lines[top + 1 : node.lineno]):
                    found.append(f"{path}: {function.name} imports {ast.unparse(node)} without a reason")
    return found


def code_lines(source: str) -> int:
    """Return the number of lines of code, without blank lines, comments and docstrings."""
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in nodes_of(source):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            text = node.body[0]
            lines -= set(range(text.lineno, (text.end_lineno or 0) + 1))
    return len(lines)


def model_budget(source: str, path: str) -> list[str]:
    count = code_lines(source) if path.startswith("models/") else 0
    return [f"{path} has {count} code lines, may have {MODEL_CODE_LINES}"] if count > MODEL_CODE_LINES else []


def tour(source: str, path: str) -> list[str]:
    """The first line is one sentence, so that `head -1 */*.py` is a tour."""
    first = (ast.get_docstring(nodes_of(source)[0]) or "").partition("\n")[0]
    opens = source.startswith('"""') and bool(first)
    one = first.endswith(".") and not re.search(r"[.!?] [A-Z]", first)
    return [] if opens and one else [f"{path} does not open with a docstring of one sentence: {first!r}"]


def _origin_of_names(source: str) -> dict[str, str]:
    """Return {local name: full name} of a source's imports, for example {"t": "torch", "load": "pickle.load"}."""
    names = {}
    for node in nodes_of(source):
        if isinstance(node, ast.Import):
            names |= {
                a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0]
                for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names


def _called(call: ast.Call, names: dict[str, str]) -> str:
    """Return the full name of a called function with imports resolved: `torch.load`, `eval`, `tar.extractall`."""
    parts, node = [], call.func
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(names.get(node.id, node.id) if isinstance(node, ast.Name) else "?")
    return ".".join(reversed(parts))


FORBIDDEN_CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
                   "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "marshal.load"}  # fmt: skip


def dangers(source: str, path: str) -> list[str]:
    """Content of files is never run, and errors are never swallowed silently."""
    if path.startswith("tests/"):  # tests make the dangerous files that the other code must refuse
        return []
    names, found = _origin_of_names(source), []
    for node in nodes_of(source):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"{path}:{node.lineno} bare except")
        if not isinstance(node, ast.Call):
            continue
        name = _called(node, names)
        given = {k.arg: getattr(k.value, "value", "not a literal") for k in node.keywords}
        if name == "torch.load" and given.get("weights_only") is not True:
            found.append(f"{path}:{node.lineno} torch.load without a literal weights_only=True")
        if name in FORBIDDEN_CALLS or name.endswith((".extractall", "unpack_archive")):
            found.append(f"{path}:{node.lineno} {name}")
        if given.get("shell", False) is not False:
            found.append(f"{path}:{node.lineno} shell=True")
        if given.get("allow_pickle", False) is not False:
            found.append(f"{path}:{node.lineno} allow_pickle=True")
    return found


MACHINE_PATH = re.compile(r"(?<![\w.~$}-])(/(home|root|work|Users|mnt|scratch|opt)/\w|[A-Z]:\\+Users)")


def machine_paths(text: str, path: str) -> list[str]:
    lines = enumerate(text.splitlines(), 1)
    return [
        f"{path}:{number} contains a path of one machine: {line}" for number, line in lines if MACHINE_PATH.search(line)
    ]


NEVER_IN_A_PLUGIN = {"step", "zero_grad", "backward", "to", "cuda", "cpu", "autocast", "get_rank", "is_initialized"}


def plugin_manners(source: str, path: str) -> list[str]:
    """Models do not call step, zero_grad, backward, .to, autocast or get_rank, and do not open files (section 2)."""
    if not path.startswith("models/"):
        return []
    calls = [node for node in nodes_of(source) if isinstance(node, ast.Call)]
    names = [(call.lineno, _called(call, {}).rpartition(".")) for call in calls]
    return [
        f"{path}:{line} calls {name}"
        for line, (owner, _, name) in names
        if (owner and name in NEVER_IN_A_PLUGIN) or name == "open"
    ]


def values_not_names(source: str, path: str) -> list[str]:
    """Functions return values; they do not set attributes that others collect by name (section 1)."""
    found = []
    for node in nodes_of(source):
        if isinstance(node, ast.FunctionDef) and (node.name == "set_input" or node.name.startswith("get_current_")):
            found.append(f"{path}:{node.lineno} defines {node.name}")
        built = isinstance(node, ast.Call) and _called(node, {}) in ("getattr", "setattr") and len(node.args) > 1
        if built and isinstance(node.args[1], ast.BinOp | ast.JoinedStr):
            found.append(f"{path}:{node.lineno} builds an attribute's name")
    return found


# participles, pronouns and metaphors that were names of files
NO_NOUNS = ("ahead", "blame", "field", "figures", "hostile", "kept", "looking", "made", "meant", "misfit", "moments",
            "neighbour", "own_way", "parcel", "passes", "plan", "reading", "rehearsal", "serve", "shelf", "sides",
            "theirs", "there", "told", "tune", "ways")  # fmt: skip


def nouns(source: str, path: str) -> list[str]:
    """Each file and each folder is named with a noun that says what it contains."""
    room, *parts = Path(path.removeprefix("tests/")).with_suffix("").parts
    names = parts if room in ROOMS else [room, *parts] if "/" in path else []
    vague = re.compile(r"(misc|helpers?|utils?|common_utils|tools|stuff)\d*")
    return [
        f"{path}: '{name}' does not say what it contains" for name in names if name in NO_NOUNS or vague.fullmatch(name)
    ]


def util_without_options(source: str, path: str) -> list[str]:
    """Functions in util/ take values, not a run's options or its model."""
    functions = [n for n in nodes_of(source) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    names = [
        (function.name, arg.arg)
        for function in functions
        if path.startswith("util/")
        for arg in ast.walk(function.args)
        if isinstance(arg, ast.arg)
    ]
    return [f"{path}: {function} has a parameter {name}" for function, name in names if name in ("o", "model")]


MANY = "\n".join(["    x = 1"] * 60)
CASES: list[tuple[Checker, str, str]] = [  # rule, path, a source that breaks it
    (import_directions, "util/size.py", "import networks"),
    (import_directions, "util/size.py", "def f():\n    from options.fields import option"),
    (import_directions, "util/size.py", "from registry import lookup"),
    (import_directions, "util/size.py", "HOME = 'data.base:BaseDataset'"),
    (import_directions, "util/size.py", "from ..data import base"),
    (import_directions, "registry/lookup.py", "from serialization import safe_load"),
    (import_directions, "options/fields.py", "import networks"),
    (import_directions, "networks/norm.py", "from data.base import Spec"),
    (import_directions, "networks/norm.py", "from options import store"),
    (import_directions, "networks/norm.py", "from models.base import Phase"),
    (import_directions, "data/single.py", "import cli.script"),
    (import_directions, "data/single.py", "from options.parse import parse"),
    (import_directions, "metrics/pixelwise.py", "import options.parse"),
    (import_directions, "pages/results.py", "from inference import tiling"),
    (import_directions, "models/pix2pix.py", "from displays import base"),
    (import_directions, "models/pix2pix.py", "from train import train_step"),
    (import_directions, "training/run.py", "def f():\n    from train import train_step"),
    (import_directions, "training/run.py", "STEP = 'train:train_step'"),
    (import_directions, "util/size.py", "HOME = 'data.base:BaseDataset.spec'"),
    (import_directions, "util/size.py", "HOME = ('training.run', 'Run')"),
    (import_directions, "util/size.py", "import importlib\nimportlib.import_module('train')"),
    (import_directions, "util/size.py", "from importlib import import_module as load\nload('training')"),
    (import_directions, "train.py", "import test"),
    (import_directions, "options/parse.py", "import train"),
    (import_directions, "scripts/demo.py", "from tests.support.runs import ROOT"),
    (import_directions, "scripts/demo.py", "import ganvas"),
    (import_directions, "models/pix2pix.py", "from ganvas import Phase"),
    (depth, "data/decoding/png/deep.py", ""),
    (depth, "extras/data/decoding/deep.py", ""),
    (depth, "tests/data/decoding/png/deep.py", ""),
    (manners_of_tests, "tests/data/listing/test_zips.py", "from tests.data.listing.test_files import names"),
    (manners_of_tests, "tests/data/listing/test_zips.py", "import tests.test_train"),
    (manners_of_tests, "tests/data/listing/test_zips.py", f"def test_{'x' * 56}():\n    pass"),
    (manners_of_tests, "tests/data/listing/test_zips.py", f"async def test_{'x' * 56}():\n    pass"),
    (manners_of_tests, "tests/data/listing/test_zips.py",
     "import importlib\nimportlib.import_module('tests.data.listing.test_files')"),
    (manners_of_tests, "tests/data/listing/test_zips.py", "from tests.conftest import process"),
    (budgets, "util/html.py", "\n" * 401),
    (budgets, "train.py", "x = 1\n" * 111),
    (budgets, "test.py", "x = 1\n" * 111),
    (budgets, "util/html.py", f"class C:\n  def f(self):\n{MANY}"),
    (lazy_imports, "util/html.py", "def f():\n    import torch"),
    (lazy_imports, "util/html.py", "x = 1  # a reason for something else\ndef f():\n    from torch import nn"),
    (model_budget, "models/big.py", '"""Doc."""\n' + "x = 1\n" * 101),
    (tour, "util/html.py", ""),
    (tour, "util/html.py", "import os\n"),
    (tour, "util/html.py", '# a comment first\n"""One sentence."""'),
    (tour, "util/html.py", '"""no full stop"""'),
    (tour, "util/html.py", '"""Two sentences. They tire."""'),
    (dangers, "a.py", "import torch\ntorch.load(p)"),
    (dangers, "a.py", "import torch\ntorch.load(p, weights_only=False)"),
    (dangers, "a.py", "import torch\ntorch.load(p, weights_only=safe)"),
    (dangers, "a.py", "import torch as t\nt.load(p, None)"),
    (dangers, "a.py", "from torch import load\nload(p)"),
    (dangers, "a.py", "import pickle\npickle.load(f)"),
    (dangers, "a.py", "from pickle import loads as read\nread(b)"),
    (dangers, "a.py", "tar.extractall('.')"),
    (dangers, "a.py", "import shutil\nshutil.unpack_archive(p)"),
    (dangers, "a.py", "import subprocess\nsubprocess.run('ls', shell=True)"),
    (dangers, "a.py", "import os\nos.system('ls')"),
    (dangers, "a.py", "import numpy as np\nnp.load(p, allow_pickle=True)"),
    (dangers, "a.py", "eval('1')"),
    (dangers, "a.py", "exec('1')"),
    (dangers, "a.py", "import yaml\nyaml.load(t)"),
    (dangers, "a.py", "try:\n    f()\nexcept:\n    pass"),
    (machine_paths, "docs/a.md", "run " + "/".join(["", "home", "me", "train.py"])),
    (machine_paths, "a.py", "ROOT = '" + "/".join(["", "work", "main"]) + "'"),
    (plugin_manners, "models/bad.py", "loss.backward()"),
    (plugin_manners, "models/bad.py", "self.optimizer.step()"),
    (plugin_manners, "models/bad.py", "x = x.to('cuda')"),
    (plugin_manners, "models/bad.py", "with torch.autocast('cuda'):\n    pass"),
    (plugin_manners, "models/bad.py", "open('x')"),
    (plugin_manners, "models/bad.py", "if dist.get_rank() == 0:\n    pass"),
    (values_not_names, "models/bad.py", "class M:\n    def set_input(self, b):\n        pass"),
    (values_not_names, "models/bad.py", "def get_current_losses():\n    pass"),
    (values_not_names, "models/bad.py", "getattr(self, 'loss_' + name)"),
    (values_not_names, "models/bad.py", "setattr(self, f'loss_{name}', 1)"),
    (nouns, "util/helpers.py", ""),
    (nouns, "util/utils2.py", ""),
    (nouns, "networks/own_way.py", ""),
    (nouns, "networks/tune/table.py", ""),
    (nouns, "data/utils/table.py", ""),
    (nouns, "tests/support/hostile.py", ""),
    (util_without_options, "util/html.py", "def f(o):\n    pass"),
    (util_without_options, "util/html.py", "class C:\n    async def f(self, *, model):\n        pass"),
]  # fmt: skip
RULES = list(dict.fromkeys(rule for rule, _, _ in CASES))
TREES: list[tuple[TreeChecker, dict[str, str]]] = [  # rule, a tree that breaks it
    (circles, {"data/base.py": "from data import files", "data/files.py": "def f():\n    import data.base"}),
    (
        circles,
        {"data/a.py": "import data.b.c", "data/b/c.py": "", "data/b/d.py": "from data import e", "data/e.py": ""},
    ),
    (folder_budgets, {f"data/{number}.py": "" for number in range(21)}),
    (folder_budgets, {f"pages/{number}.js": "" for number in range(21)}),
    (folder_budgets, {f"tests/data/test_{number}.py": "" for number in range(26)}),
    (folder_budgets, {f"data/{number}.py": "x = 1\n" * 251 for number in range(10)}),
    (folder_budgets, {"util/size.py": "x = 1\n" * 1201}),
]
TREE_RULES = list(dict.fromkeys(rule for rule, _ in TREES))
INNOCENT = '''"""Loads weights, e.g. those of `torch.load`."""

import torch
from data.base import Spec
from networks import generator
from options.fields import option
from util.errors import printable


def fine(net, path):
    net.eval()
    table.load()
    return torch.load(path, weights_only=True)  # ../shared/data, ./checkpoints, https://host/home/page
'''


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_sources_keep_every_rule(rule):
    found = [line for path in sources() for line in rule((ROOT / path).read_text(encoding="utf-8"), path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("rule", TREE_RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_every_rule(rule):
    paths = [path for pattern in ("*.py", "*.js", "*.css") for path in sources(pattern)]
    tree = {path: (ROOT / path).read_text(encoding="utf-8") for path in paths if not path.startswith("examples/")}
    if rule is circles:
        tree = {path: source for path, source in tree.items() if path.endswith(".py")}
    assert rule(tree) == []


@pytest.mark.parametrize(("rule", "tree"), TREES, ids=[f"{c[0].__name__}-{i}" for i, c in enumerate(TREES)])
def test_every_rule_flags_a_tree_that_breaks_it(rule, tree):
    assert rule(tree)


def test_the_floors_hold_every_room():
    floors = [room.partition(".")[0] for rooms in FLOORS for room in rooms]
    assert set(ROOMS) == set(floors) - {"train", "test", "tests"}
    assert floor("options.fields") < floor("networks.norm") < floor("options.parse")
    assert floor("torch.nn") is None


def test_tests_mirror_the_tree():
    assert mirror(sources()) == []
    assert mirror(["tests/misc/test_x.py"])


@pytest.mark.parametrize(("rule", "path", "source"), CASES, ids=[f"{c[0].__name__}-{i}" for i, c in enumerate(CASES)])
def test_every_rule_flags_what_breaks_it(rule, path, source):
    assert rule(source, path)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_rule_flags_what_is_allowed(rule):
    assert rule(INNOCENT, "models/fine.py") == []


def test_code_lines_exclude_comments_docstrings_and_blanks():
    text = [
        '"""One.',
        "",
        'Two."""',
        "# no",
        "x = 1  # yes",
        "",
        "def f():",
        '    """No.',
        '    No."""',
        "    return (",
        "        1",
        "    )",
    ]
    assert code_lines("\n".join(text)) == 5


def test_texts_and_settings_name_no_machine():
    patterns = ("*.md", "*.txt", "*.toml", "Makefile", "run", "*.tsv", "*.json", "*.yml", "*.yaml")
    texts = [path for pattern in patterns for path in sources(pattern)]
    assert ".ci/run" in texts
    assert "docs/migration.md" in texts
    found = [line for path in texts for line in machine_paths((ROOT / path).read_text(encoding="utf-8"), path)]
    assert not found, "\n".join(found)


HOUSE = ("train.py", "test.py", "requirements.txt", "pyproject.toml", "Makefile", "README.md", "LICENSE", ".ci/run",
         *(f"{folder}/__init__.py" for folder in ROOMS), "models/base.py", "tests/conftest.py", "docs/design.md",
         "docs/migration.md")  # fmt: skip


def folders_not_in_settings(settings: dict, folders: list[str]) -> list[str]:
    """Return the folders that mypy does not check, and those whose deprecation warnings do not fail a test."""
    checked = settings["mypy"]["files"]
    warned = re.split(r"\W", " ".join(settings["pytest"]["ini_options"]["filterwarnings"]))
    return [f"{folder}/ is missing in mypy's files" for folder in folders if folder not in checked] + [
        f"{folder}/ is missing in pytest's filterwarnings" for folder in folders
        if folder not in (*warned, "benchmarks", "scripts")]  # fmt: skip


def test_the_settings_name_every_room():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert folders_not_in_settings(settings, ROOMS) == []
    assert len(folders_not_in_settings(settings, [*ROOMS, "engine"])) == 2


def layout(paths: list[str]) -> list[str]:
    """Return the missing files and folders of the layout, and Python files outside it."""
    missing = [f"{path} is missing" for path in HOUSE if path not in paths]
    missing += [
        f"{folder}/ is empty"
        for folder in ("tests", "docs", "examples")
        if not any(path.startswith(folder + "/") for path in paths)
    ]
    rooms = (*(room for rooms in FLOORS for room in rooms), "examples", "docs")
    astray = [p for p in paths if p.endswith(".py") and p.partition("/")[0] not in (*rooms, "train.py", "test.py")]
    return missing + [f"{path} is outside the layout" for path in astray]


def test_the_layout_is_the_houses():
    assert layout(sources("*")) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda paths: [p for p in paths if p != "LICENSE"],
        lambda paths: [p for p in paths if not p.startswith("docs/")],
        lambda paths: [*paths, "engine/loop.py"],
        lambda paths: [*paths, "helpers.py"],
    ],
)
def test_another_layout_is_flagged(change):
    assert len(layout(change(sources("*")))) > len(layout(sources("*")))
