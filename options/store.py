"""Store a run's options (options.json, train_opt.txt), read them and --config files, and choose the run's name."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.spec import common_fields, own_fields, with_own_fields
from options.fields import Options
from serialization.safetensors_file import read_architecture
from serialization.weight_names import SAFETENSORS, WEIGHT_PATTERNS, list_weights, weight_path
from util.atomic_write import replace_text
from util.errors import CheckpointError, DataError, EnvironmentFault, OptionError, print_line
from util.size import Size
from util.spelling import path_hint

OPTIONS_FILE = "options.json"
MAX_OPTIONS_BYTES = 1_000_000
FORMER_VALUES: dict[str, Any] = {  # of runs that were saved before there was such an option
    "fast_convolutions": None, "keep_epochs": 0, "beta2": 0.999, "optimizer": "adam", "ema": 0.0, "ema_rampup": 0.0,
    "spectral_norm": "none", "diffaugment": [], "ada": False, "lambda_lecam": 0.0, "lr_D": None, "clip_grad": 0.0,
    "warmup": 0, "n_critic": 1, "lambda_feat": 0.0, "lambda_perceptual": 0.0, "lambda_lpips": 0.0, "lambda_tv": 0.0,
    "terms": [], "minibatch_std": False, "noise_nc": 0, "attention": "none", "no_sync_batch": False,
}  # fmt: skip
NOT_CONFIGURED = {"isTrain", "suffix", "recipe", "run_classes", "run_columns"}  # the data give classes and columns
NOT_FROM_WEIGHTS = {"plugin", "config", "dataroot", "name", "checkpoints_dir", "results_dir"}  # a file of others
BASE_OWNERS = ("all runs", "data", "training", "testing")  # of flags
SPEC_FIELDS = ("input_nc", "output_nc", "height", "width", "classes", "range_A", "range_B")
DEFAULT_NAME = "experiment_name"
FORBIDDEN_NAME_CHARS = r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"  # separators, control characters, surrogates


def save(options: Options, folder: Path, phase: str, spec: Any = None, weights: dict[str, str] | None = None) -> None:
    """Write PHASE_opt.txt in the reference's layout and, for training, options.json; both are replaced atomically.

    spec: the data set's description of its images, stored for models that are tested without a data set.
    weights: {name: SHA-256} of the files of pretrained weights, and of the Frozen networks, that the run uses.
    """
    saved = {k: v for k, v in vars(options).items() if k not in options.flags or not options.flags[k].meta["momentary"]}
    values = {k: (str(v) if isinstance(v, Size) or v in (math.inf, -math.inf) else v) for k, v in saved.items()}
    try:
        if phase == "train":
            tables = {"format": 1, "options": values, "spec": common_fields(spec) if spec else {}}
            tables |= {"own_spec": own} if spec and (own := own_fields(spec)) else {}
            tables |= {"pretrained": weights} if weights else {}
            replace_text(folder / OPTIONS_FILE, json.dumps(tables, indent=1) + "\n")
        # a --dataroot may not be valid UTF-8
        replace_text(folder / f"{phase}_opt.txt", format_options(options), errors="backslashreplace")
    except OSError as problem:
        if phase == "train":
            raise EnvironmentFault("folder", folder, problem.strerror or str(problem), "make it writable") from problem
        print_line(f"note: {phase}_opt.txt not written to {folder} ({problem.strerror})")


def format_options(options: Options) -> str:
    """Return the options in the reference's format: sorted, aligned, changed ones with their default."""
    lines = ["----------------- Options ---------------"]
    for name, value in sorted(vars(options).items()):
        default = options.flags[name].default if name in options.flags else None
        value, default = (",".join(v) if type(v) is tuple else v for v in (value, default))
        note = f"\t[default: {default}]" if value != default else ""
        lines.append(f"{name:>25}: {value!s:<30}{note}")
    return "\n".join([*lines, "----------------- End -------------------"]) + "\n"


def architecture(o: Options, folder: Path) -> dict[str, Any]:
    """Return the table that a .safetensors file holds of a run: the options and the Spec that its networks need.

    It names no path, plug-in or folder of this machine. folder: the run's, with its options.json.
    """
    tables = _read(folder)
    shaping = {name for name, flag in o.flags.items() if not flag.meta["momentary"] and not flag.meta["aside"]}
    base = {name for name, flag in o.flags.items() if flag.owner in BASE_OWNERS and not flag.meta["of_run"]}
    kept = (shaping - base) | {"load_size", "fast_convolutions"}
    options = {name: value for name, value in tables.get("options", {}).items() if name in kept}
    spec = {name: value for name, value in tables.get("spec", {}).items() if name in SPEC_FIELDS}
    own = {"own_spec": tables["own_spec"]} if "own_spec" in tables else {}
    return {"format": 1, "options": options, "spec": spec, **own}


def load(folder: Path) -> dict[str, Any]:
    """Return the options a run was trained with; {} if the folder has no options.json (a run of the reference).

    Without it they are those that a .safetensors file of weights in the folder holds.

    Raises CheckpointError for a file that is too large, is not JSON or is not a table of options.
    """
    values = _read(folder).get("options", {})
    values.pop("isTrain", None)
    return values and FORMER_VALUES | values


def load_spec(folder: Path) -> dict[str, Any]:
    """Return the stored description of the run's images: {input_nc, output_nc, height, width, classes}, or {}."""
    spec = _read(folder).get("spec", {})
    numbers, classes = [spec.get(k) for k in ("input_nc", "output_nc", "height", "width")], spec.get("classes")
    ranges = [spec.pop(k, "") for k in ("range_A", "range_B")]  # they are options too
    for name in ("pair_proportions", "inputs", "columns"):  # see load_pair_proportions; the others are options too
        spec.pop(name, None)
    named = isinstance(classes, list) and all(isinstance(name, str) for name in [*classes, *ranges])
    if spec and not (named and len(spec) == 5 and all(type(n) is int and n > 0 for n in numbers)):
        raise CheckpointError("file", folder / OPTIONS_FILE, "its 'spec' does not describe images", "restore the file")
    return spec


def load_own_fields(folder: Path) -> dict[str, Any]:
    """Return the table of the fields that the run's data set added to its Spec; {} if there are none."""
    return _read(folder).get("own_spec", {})


def with_run_fields(folder: Path, spec: Any, table: dict[str, Any]) -> tuple[Any, dict[str, tuple[Any, Any]]]:
    """Return a Spec with the class and the own fields of the run's, and {name: (run's, other)} of those that differ.

    table: see load_own_fields. Raises CheckpointError if it is damaged.
    """
    try:
        made = with_own_fields(spec, table)
    except OptionError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError) as problem:
        why = f"its 'own_spec' is damaged ({problem})"
        raise CheckpointError("file", folder / OPTIONS_FILE, why, "restore the file") from problem
    found = vars(spec)
    return made, {n: (value, found[n]) for n, value in vars(made).items() if n in found and found[n] != value}


def load_pretrained(folder: Path) -> dict[str, str]:
    """Return {name: SHA-256} of the files of pretrained weights, and of the Frozen networks, that the run uses."""
    found = _read(folder).get("pretrained", {})
    if not all(isinstance(digest, str) for digest in found.values()):
        why = "its 'pretrained' does not list checksums"
        raise CheckpointError("file", folder / OPTIONS_FILE, why, "restore the file")
    return found


def load_pair_proportions(folder: Path) -> tuple[float, float] | None:
    """Return the least and the greatest width / height of an image of the pairs that the run was trained on, or None.

    None: an older run, a run of the reference, or one that was not trained on pairs.
    """
    found = _read(folder).get("spec", {}).get("pair_proportions")
    if not found:
        return None
    if not (isinstance(found, list) and len(found) == 2 and all(type(n) in (int, float) and n > 0 for n in found)):
        why = "its 'pair_proportions' are not two numbers"
        raise CheckpointError("file", folder / OPTIONS_FILE, why, "restore the file")
    return found[0], found[1]


def fill_from_dataset(o: Options, spec: Any) -> Any:
    """Return the Spec; store what the data set found as options, which test.py reads from the run.

    These are ranges, channels, inputs, classes. Raises DataError if a test's data set numbers other classes than the
    run's, which its labels would not fit.
    """
    own_fields(spec)  # before a folder is made: raises the error of what cannot be stored
    o.range_A, o.range_B = spec.range_A or o.range_A, spec.range_B or o.range_B
    o.input_nc, o.output_nc, o.inputs, o.run_columns = spec.input_nc, spec.output_nc, spec.inputs, spec.columns
    trained = tuple(o.run_classes)
    if trained and not o.isTrain and trained != tuple(spec.classes):
        why = f"has the classes {', '.join(spec.classes)}, but the run was trained with {', '.join(trained)}"
        raise DataError("dataset", o.dataset_mode, why, "number classes in a test by o.run_classes, these names")
    o.run_classes = list(spec.classes)
    return spec


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / OPTIONS_FILE
    if not path.is_file():
        return _read_weights(folder)
    try:
        tables = json.loads(read_small_text(path))
        if not isinstance(tables, dict) or not isinstance(tables.get("options"), dict):
            raise ValueError("it does not hold a table of options")
        return {name: table for name, table in tables.items() if isinstance(table, dict)}
    except (OSError, ValueError, RecursionError) as problem:
        raise CheckpointError("file", path, f"cannot be read ({problem})", "restore the file or delete it") from problem


def options_source(folder: Path) -> Path:
    """Return the file that `load` reads the options of a run from."""
    return next((path for path, _ in _in_weights(folder)), folder / OPTIONS_FILE)


def _read_weights(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the tables in the metadata of the folder's .safetensors files, the latest first; {} without any."""
    return next((tables for _, tables in _in_weights(folder)), {})


def _in_weights(folder: Path) -> Iterator[tuple[Path, dict[str, dict[str, Any]]]]:
    """Yield the .safetensors files that hold options, and these tables, in a folder without options.json."""
    if (folder / OPTIONS_FILE).is_file():
        return
    files = [path for path in list_weights(folder, "*_net_*") if path.suffix == SAFETENSORS]
    for path in sorted(files, key=lambda path: not path.name.startswith("latest_")):
        found = read_architecture(path)
        tables = {name: found[name] for name in ("options", "spec", "own_spec") if isinstance(found.get(name), dict)}
        if tables.get("options"):
            tables["options"] = {k: v for k, v in tables["options"].items() if k not in NOT_FROM_WEIGHTS}
            yield path, tables


def read_config(path: str, phase: str) -> dict[str, Any]:
    """Return the options in a YAML or JSON file; OptionError if it is missing, malformed or not a table.

    From a run's options.json, train.py takes all options except the suffix, which is already part of the name; test.py
    takes only name and checkpoints_dir, and reads the other options from that run.
    """
    import yaml  # only --config needs it

    try:
        text = read_small_text(Path(path))
        values = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
    except OSError as problem:
        remedy = path_hint(path) or "give a YAML or JSON file"
        raise OptionError("option", "--config", f"{path}: {problem.strerror}", remedy) from problem
    except (ValueError, RecursionError, yaml.YAMLError) as problem:
        why = str(problem).replace("\n", " ")
        raise OptionError("option", "--config", f"{path}: {why}", "fix the file") from problem
    if values is None:
        return {}
    if isinstance(values, dict) and isinstance(values.get("options"), dict) and "format" in values:
        names = set(values["options"]) - NOT_CONFIGURED if phase == "train" else {"name", "checkpoints_dir"}
        values = {name: value for name, value in values["options"].items() if name in names}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise OptionError("option", "--config", f"{path} is not a table of options", "write `name: value` lines")
    return {name.lstrip("-"): value for name, value in values.items()}


def read_small_text(path: Path) -> str:
    """Return the text of a file of options; ValueError if it is too large or not UTF-8."""
    if path.stat().st_size > MAX_OPTIONS_BYTES:
        raise ValueError("it is too large")
    return path.read_text(encoding="utf-8")


def run_name(location: dict[str, Any], values: dict[str, Any], named: bool, phase: str) -> str:
    """Return the run's folder name: --name plus --suffix, checked; the default name gets the next free number.

    values: all options, for the suffix's fields. named: whether the user gave --name.
    With --continue_train, --overwrite and in test, the default name means the newest run of that name.
    """
    name = location["name"]
    if location["suffix"]:
        name += "_" + _fill_suffix(location["suffix"], values)
    bad = name in ("", ".", "..") or re.search(FORBIDDEN_NAME_CHARS, name) or name.startswith("-")
    if bad or len(name.encode()) > 200:
        raise OptionError("option", "--name", f"'{name}' is not a valid folder name", "use letters, digits, _ and -")
    if named or location["suffix"]:
        return name
    numbered = {1: name} | {
        int(match[1]): path.name
        for path in Path(location["checkpoints_dir"]).glob(f"{DEFAULT_NAME}_*")
        if (match := re.fullmatch(DEFAULT_NAME + r"_(\d+)", path.name))
    }
    folders = {n: Path(location["checkpoints_dir"]) / folder for n, folder in numbered.items()}
    used = [n for n, path in folders.items() if holds_run(path) or (path / OPTIONS_FILE).is_file()]
    newest = max(used, default=1)
    if phase == "test" or location["continue_train"] or location["overwrite"] or not used:
        return numbered[newest]
    return f"{DEFAULT_NAME}_{newest + 1}"


def numbering_note(o: Options) -> list[str]:
    """Return a note if a new run has the default name with a number, because there are earlier ones."""
    match = re.fullmatch(DEFAULT_NAME + r"_(\d+)", o.name)
    if not match or {"name", "suffix"} & o.given or o.continue_train or o.overwrite:
        return []
    earlier = f"{DEFAULT_NAME}_{int(match[1]) - 1}".removesuffix("_1")
    return [f"note: {earlier} is an earlier run; this one is {o.name} (choose with --name)"]


def _fill_suffix(suffix: str, values: dict[str, Any]) -> str:
    """Return the suffix with its {flag} fields replaced by values; a field is a plain flag name."""

    def value(match: re.Match) -> str:
        if match[1] not in values:
            raise OptionError(
                "option", "--suffix", f"{{{match[1]}}} is not a flag", "use fields such as {model} or {netG}"
            )
        return str(values[match[1]])

    text = re.sub(r"\{([^{}]*)\}", value, suffix)
    if "{" in text or "}" in text:
        raise OptionError("option", "--suffix", f"'{suffix}' has an unmatched brace", "write {flag}")
    return text


def holds_run(folder: Path) -> bool:
    """Whether a folder has state or weights that a new run would mix with its own."""
    return any(any(folder.glob(pattern)) for pattern in ("state_*.pt", *WEIGHT_PATTERNS))


def default_test_model(location: dict[str, Any]) -> str:
    """Return test.py's model for a folder without options.json: cycle_gan if it holds only G_A and G_B, else test."""
    if not location:
        return "test"
    folder = Path(location["checkpoints_dir"]) / location["name"]
    prefix = f"iter_{location['load_iter']}" if location["load_iter"] else location["epoch"]
    two_sided = all(weight_path(folder, prefix, f"G_{side}").is_file() for side in "AB")
    return "cycle_gan" if two_sided and not weight_path(folder, prefix, "G").is_file() else "test"
