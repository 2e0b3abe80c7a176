"""Plot the losses or metrics of runs: python scripts/plot_losses.py RUN [RUN ...] --out losses.png.

A RUN is the name of a run in --checkpoints_dir, its folder, or a log: a losses.jsonl of GANvas, or a loss_log.txt of
pytorch-CycleGAN-and-pix2pix and its relatives. Each loss has a colour, each run a line style.
"""

import argparse
import math
import os
import sys
import warnings
from itertools import cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli.main import run_command
from cli.script import Command
from displays.loss_log import EPOCH_AXIS, Losses, Points, read_losses
from serialization.run_names import suggest_run
from util.disk_space import ERRNO_REMEDIES
from util.errors import DataError, EnvironmentFault, OptionError, printable
from util.spelling import name_hint

LOG_NAMES = ("losses.jsonl", "loss_log.txt")
LINE_STYLES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (10, 3)), (0, (4, 1.2, 1, 1.2, 1, 1.2)))
OUT_SUFFIXES = (".png", ".svg", ".pdf")


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Return the options of a command line; raise OptionError."""
    parser = Command(__file__, __doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's name or folder, or a log")
    parser.add_argument("--checkpoints_dir", default="./checkpoints", help="folder of the runs")
    parser.add_argument("--out", default="losses.png", help="the image: .png, .svg or .pdf; default: losses.png")
    parser.add_argument("--losses", default="", help="only these, comma-separated; default: all")
    text = "draw these values of train.py --metrics instead, comma-separated, or all: a panel for each, over epochs"
    parser.add_argument("--metrics", default="", help=text)
    parser.add_argument("--smooth", type=float, default=0.0, help="0 to 0.99: weight of the past in each point")
    parser.add_switch("--log", "use a logarithmic axis")
    parser.add_switch("--mean_only", "draw only the means of whole epochs")
    parser.add_switch("--split", "draw a panel for each loss")
    o = parser.parse_argv(argv)
    if not 0 <= o.smooth < 1:
        raise OptionError("option", "--smooth", f"{o.smooth:g} is out of range", "give 0 (none) to 0.99")
    if Path(o.out).suffix.lower() not in OUT_SUFFIXES:
        why, remedy = f"'{o.out}' is not an image format", f"end it with {', '.join(OUT_SUFFIXES)}"
        raise OptionError("option", "--out", why, remedy)
    if o.metrics and o.losses:
        raise OptionError("options", "--losses and --metrics", "exclude each other", "make two images")
    o.kind, o.wanted = ("metric", o.metrics) if o.metrics else ("loss", o.losses)
    o.split, o.mean_only = o.split or bool(o.metrics), o.mean_only or bool(o.metrics)
    return o


def find_log(run: str, checkpoints_dir: str) -> Path:
    """Return the log of a RUN; raise DataError if it has none."""
    run_folder = Path(checkpoints_dir) / run
    for path in (Path(run), run_folder):
        if path.is_file():
            return path
        for log in LOG_NAMES:
            if (path / log).is_file() and (path / log).stat().st_size:
                return path / log
        if path.is_dir():
            raise DataError("run", run, f"{path} holds no {' or '.join(LOG_NAMES)}", "give a run that has trained")
    known = sorted({path.parent.name for log in LOG_NAMES for path in Path(checkpoints_dir).glob(f"*/{log}")})
    remedy = suggest_run(run, known) or "train one first"
    raise DataError("run", run, f"there is no such run in {checkpoints_dir}, and no such file or folder", remedy)


def run_labels(runs: list[str], logs: list[Path]) -> list[str]:
    """Return a short label for each run; its path where two labels would be equal."""
    labels = [log.parent.name if log.name in LOG_NAMES and log.parent.name else log.name for log in logs]
    return [run if labels.count(name) > 1 else name for run, name in zip(runs, labels, strict=True)]


def select_names(names: list[str], o: argparse.Namespace) -> list[str]:
    """Return the losses or metrics to draw, by default all; raise OptionError for one that no run has."""
    flag = "--metrics" if o.metrics else "--losses"
    if not names:
        raise OptionError("option", flag, "no run has metrics", "train with --metrics, or omit it")
    names_wanted = [word.strip() for word in o.wanted.split(",") if word.strip()]
    found = []
    for wanted in [] if o.metrics and names_wanted == ["all"] else names_wanted:
        same = [name for name in names if name == wanted or (o.metrics and name.lower() == wanted.lower())]
        if not same:
            remedy = f"{name_hint(wanted, names)}there are: {', '.join(names)}"
            raise OptionError("option", flag, f"no run has a {o.kind} '{wanted}'", remedy)
        found += same[:1]
    return found or names


def smooth(points: Points, decay: float) -> Points:
    """Return the running mean of points with weight `decay` for the past; NaN stays a gap and does not spread."""
    total = weight = 0.0
    ys = []
    for y in points[1]:
        if math.isfinite(y):
            total, weight = decay * total + y, decay * weight + 1
        ys.append(total / weight if math.isfinite(y) else math.nan)
    return points[0], ys


def draw_losses(losses_by_run: dict[str, Losses], names: list[str], o: argparse.Namespace):
    """Return a figure of the losses `names` of the runs {label: losses}."""
    import matplotlib  # takes a third of a second, which --help does not need

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "losses"  # so that equal runs give equal files
    from matplotlib import pyplot as plt  # after the backend is chosen

    # Lay out the panels.
    panels = names if o.split else [""]
    columns = min(len(panels), 2 if len(panels) < 7 else 3)
    rows = -(-len(panels) // columns)
    size = (9, 5) if len(panels) == 1 else (6 * columns, 3 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, layout="constrained")
    palette = [matplotlib.colormaps[kind](i) for kind, count in (("tab10", 10), ("Dark2", 8)) for i in range(count)]

    # Draw the losses of each panel.
    for panel, axis in zip(panels, axes.flat, strict=False):
        for curves, style in zip(losses_by_run.values(), cycle(LINE_STYLES)):
            for name in [panel] if panel else names:
                colour = palette[names.index(name) % len(palette)]
                _draw_loss(axis, curves, name, o, color=colour, linestyle=style)
        axis.set_title(_label_text(panel), parse_math=False)
        axis.grid(alpha=0.25)
        _set_scale(axis, o.log)

    # Hide unused panels, and label the rest.
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    steps = not o.mean_only and any(curves.steps for curves in losses_by_run.values())
    for axis in axes[-1]:
        axis.set_xlabel(EPOCH_AXIS if steps else "epoch")  # a mean of epoch 1 is at 1
    _add_legends(figure, losses_by_run, [] if o.split else names, palette, plt.Line2D)
    return figure


def _draw_loss(axis, curves: Losses, name: str, o: argparse.Namespace, **style) -> None:
    """Draw one loss of one run: its steps, or its epoch means with --mean_only or if it has no steps.

    With --smooth the points themselves are drawn thinner and fainter below the running mean.
    """
    points = curves.means.get(name) if o.mean_only or name not in curves.steps else curves.steps[name]
    if points is None:
        return
    marker = "o" if len(points[0]) == 1 else None  # a line of one point is invisible
    if o.smooth:
        axis.plot(*points, linewidth=0.8, alpha=0.25, **style)
        points = smooth(points, o.smooth)
    axis.plot(*points, linewidth=1.4, marker=marker, markersize=4, **style)


def _set_scale(axis, logarithmic: bool) -> None:
    """Make an axis logarithmic if asked; if it has negative values, it is linear around 0."""
    lowest = min((y for line in axis.lines for y in line.get_ydata() if math.isfinite(y)), default=1.0)
    if logarithmic and lowest < 0:
        axis.set_yscale("symlog", linthresh=0.1)
    elif logarithmic:
        axis.set_yscale("log", nonpositive="mask")


def _add_legends(figure, losses_by_run: dict[str, Losses], names: list[str], palette, line) -> None:
    """Add a legend of losses by colour and, for several runs, one of runs by line style."""
    colours = [line([], [], color=palette[i % len(palette)], label=_label_text(name)) for i, name in enumerate(names)]
    legends = [figure.legend(handles=colours, loc="outside right upper", frameon=False)] if colours else []
    if len(losses_by_run) == 1:
        figure.suptitle(_label_text(next(iter(losses_by_run))), fontsize="medium", parse_math=False)
    else:
        styles = [
            line([], [], color="0.2", linestyle=style, label=_label_text(label))
            for label, style in zip(losses_by_run, cycle(LINE_STYLES))
        ]
        legends += [figure.legend(handles=styles, loc="outside lower left", ncols=3, frameon=False, handlelength=4)]
    for text in (text for legend in legends for text in legend.get_texts()):
        text.set_parse_math(False)  # show a $ as a $


def _label_text(name: str) -> str:
    """Return a label without control characters, and with a space before a leading _, which would hide it."""
    name = printable(name)[:60]
    return " " + name if name.startswith("_") else name


def save_figure(figure, out: Path) -> None:
    """Write the image atomically; raise EnvironmentFault on a disk error."""
    temporary = out.with_name(out.name + ".tmp")
    metadata = {"Date": None} if out.suffix.lower() == ".svg" else None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # an emoji in a name is drawn as a box
            figure.savefig(temporary, format=out.suffix[1:].lower(), dpi=144, metadata=metadata)
        os.replace(temporary, out)
    except OSError as problem:
        remedy = ERRNO_REMEDIES.get(problem.errno or 0, "give another --out")
        raise EnvironmentFault("file", out, problem.strerror or str(problem), remedy) from problem


def main(argv: list[str], report) -> None:
    """Read the runs, draw their losses, and print where the image is."""
    o = parse_args(argv)
    logs = [find_log(run, o.checkpoints_dir) for run in o.runs]
    losses_by_run = dict(zip(run_labels(o.runs, logs), map(read_losses, logs), strict=True))
    if o.metrics:  # drawn as the means of losses are
        losses_by_run = {label: Losses(means=each.metrics, notes=each.notes) for label, each in losses_by_run.items()}
    all_names = {name: None for curves in losses_by_run.values() for name in (*curves.steps, *curves.means)}
    names = select_names(list(all_names), o)
    for label, curves in losses_by_run.items():
        for note in curves.notes:
            print(f"note: {printable(label)}: {note}")
    save_figure(draw_losses(losses_by_run, names, o), Path(o.out))
    print(f"{'metrics' if o.metrics else 'losses'} {printable(', '.join(names))} -> {printable(o.out)}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
