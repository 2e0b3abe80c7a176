"""Print --help and --list, and say which flags do not fit a run's weights."""

import textwrap

from cli.script import command_name
from options.fields import Flag, Options
from options.recipe import describe
from registry.kinds import PART_TABLES
from registry.lookup import entries, table
from util.errors import print_line, printable
from util.size import Size

_LEGEND = """\
[ ] is the default, ( ) at the end the choices; N is a whole number, X a decimal number, SIZE is N or WIDTHxHEIGHT.
A flag without a value is a switch: off, unless [on] is its default."""


def print_usage() -> int:
    """Print how train.py is called, with three examples; return exit code 2."""
    train = command_name("python train.py")
    print_line(
        f"usage: {train} --model NAME --dataroot FOLDER --name RUN [--flag value ...]",
        f"  {train} --model cycle_gan --dataroot ./horse2zebra --name h2z   two kinds of images, in trainA and trainB",
        f"  {train} --model pix2pix --dataroot ./facades --name fac         pairs, A and B side by side in one file",
        f"  {train} --model cgan --dataroot ./hands --name hands            classes of images, one folder each",
        "--dataroot demo trains on generated images. --help lists every flag, --list every model.",
    )
    return 2


def print_help(phase: str, flags: list[Flag], model: str = "") -> int:
    """Print every flag with its default and meaning, grouped by owner; return exit code 0.

    model: whose defaults they are; "" for those that a model may change.
    """
    position = "--name NAME [FOLDER_OR_FILE] " if phase == "test" else ""  # see options/names/position.py
    print_line(f"usage: {command_name(f'python {phase}.py')} {position}[--flag value ...]")
    others = "A model may have other defaults: --model NAME --help."
    whose = f"Defaults are those of {printable(model)}." if model else others
    print(f"{_LEGEND} {whose}\n")
    owner = None
    for flag in flags:
        if flag.owner != owner:
            owner = flag.owner
            print(("" if flag is flags[0] else "\n") + printable(f"{owner}:"))
        print(_format_flag(flag))
    names = ", ".join(e.name for e in entries("model"))
    print("\n" + printable(f"models (--model NAME --help shows the flags of one): {names}"))
    print("--list shows every name of every kind and its origin")
    return 0


_DEFAULTS = {float("inf"): "no limit", None: "", "": "", (): ""}


def _format_flag(flag: Flag) -> str:
    default = "on" if flag.default is True else _DEFAULTS.get(flag.default, flag.default)
    if type(default) is tuple:
        default = ",".join(default)
    head = f"  --{flag.name}" + ("" if flag.is_switch else f" {_metavar(flag)}")
    text = flag.meta["help"] + ("" if default is False or default == "" else f" [{default}]")
    choices = flag.meta["choices"]
    words = choices if isinstance(choices, tuple) else [e.name for e in entries(choices)] if choices else ()
    text += f" ({', '.join(words)})" if words else ""
    body = textwrap.wrap(text, 82, break_on_hyphens=False) or [""]
    gap = " " * 32
    first = f"{head:<31} {body[0]}" if len(head) < 32 else f"{head}\n{gap}{body[0]}"
    return "\n".join([first, *(gap + line for line in body[1:])])


_METAVARS = {int: "N", int | None: "N", float: "X", float | None: "X", int | Size: "SIZE"}


def _metavar(flag: Flag) -> str:
    return _METAVARS.get(flag.type, "TEXT")


def print_list() -> int:
    """Print every kind, name and origin without importing a plug-in; return exit code 0."""
    for kind in PART_TABLES:
        print(f"{kind}:")
        for entry in sorted(entries(kind), key=lambda e: e.name):
            about = describe(entry) if kind == "recipe" else table(kind).describe(entry.name)
            print(printable(f"  {entry.name:<24} {entry.origin}" + (about and f": {about}")))
    return 0


def mismatch_hint(o: Options) -> str:
    """Return the remedy for weights that do not fit: omit the flags given now, or give the right network."""
    known = ("netG", "ngf", "norm", "no_dropout", "resize_conv", "input_nc", "output_nc", "padding")
    flags = [f for f in known if f in o.given]
    if flags:
        return "omit " + ", ".join(f"--{flag}" for flag in flags)
    if o.remembered:
        return "so the file holds another network than the run's options.json describes: put the run's own file back"
    return f"it is not this version's {o.netG}; give its own network with --plugin and --netG"
