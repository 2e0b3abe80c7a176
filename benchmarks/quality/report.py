"""Write the tables and image sheets of bench_quality.py from its stored results."""

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.harness import stats
from benchmarks.quality.tasks import TASKS, Task
from util.errors import DataError

COLUMNS, CELL_PX = 10, 96  # of a sheet
REFERENCE, BEST = "reference", "best"
Runs = list[dict[str, Any]]  # the results of a task and a contestant, by seed


def write(done: Runs, wanted: set[str], pictures: Path, docs: Path) -> str:
    """Write the tables into docs/recipes.md and the sheets into docs/images; return what was written.

    done: all results; wanted: the keys of those to be compared. Others are listed as tried.
    """
    runs = {number: {name: chosen(done, wanted, number, name) for name in (REFERENCE, BEST)} for number in TASKS}
    complete = {number: both for number, both in runs.items() if both[REFERENCE] and both[BEST]}
    if not complete:
        raise DataError("results", pictures.parent, "hold no task with reference and best", "run the benchmark first")
    page = docs / "recipes.md"
    tables = [machine_text(complete), summary(complete)]
    for number, both in complete.items():
        sheet = f"images/quality_{number}.png"
        has_sheet = write_sheet(TASKS[number], both, pictures, docs / sheet)
        tables += task_tables(TASKS[number], both, sheet if has_sheet else "")
    stats.write_between(page, "quality", "\n\n".join(tables))
    stats.write_between(page, "tried", tried(done, wanted))
    return f"{len(complete)} of {len(TASKS)} tasks -> {page}"


def chosen(done: Runs, wanted: set[str], number: int, contestant: str) -> Runs:
    """Return the wanted results of a task and a contestant, by seed."""
    found = [r for r in done if (r["task"], r["contestant"]) == (number, contestant) and r["key"] in wanted]
    return sorted(found, key=lambda result: result["seed"])


def machine_text(complete: dict[int, dict[str, Runs]]) -> str:
    """Return where the runs were done, and by which commits."""
    runs = [run for both in complete.values() for some in both.values() for run in some]
    dates = sorted(run["machine"]["date"] for run in runs)
    commits = ", ".join(sorted({run["commit"][:8] + ("+" if run["commit"].endswith("+") else "") for run in runs}))
    span = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    busiest = max(point["cores_of_others"] for run in runs for point in run["points"])
    text = stats.headline(runs[0]["machine"] | {"date": span})
    return f"{text} Commits: {commits}. Other processes used at most {busiest:.2f} cores during a share of a run."


def final(run: dict[str, Any], metric: str) -> float:
    """Return the value at the end of the budget."""
    return run["points"][-1]["values"][metric]


def at_images(run: dict[str, Any], images: float, metric: str) -> float:
    """Return the value of the point whose number of images is nearest to this one."""
    return min(run["points"], key=lambda point: abs(point["images"] - images))["values"][metric]


def reached(run: dict[str, Any], value: float, metric: str, better: str) -> float:
    """Return the seconds of the first point that is at least as good as a value; inf if none is."""
    good = [point["seconds"] for point in run["points"] if not is_better(value, point["values"][metric], better)]
    return min(good, default=math.inf)


def is_better(one: float, two: float, better: str) -> bool:
    """Return whether one value is better than another."""
    return one < two if better == "lower" else one > two


def all_win(ours: Sequence[float], theirs: Sequence[float], better: str) -> bool:
    """Return whether each of our values is better than each of theirs."""
    return all(is_better(one, two, better) for one in ours for two in theirs)


def compare(both: dict[str, Runs], metric: str, better: str) -> dict[str, Any]:
    """Return the values of both sides at equal time and equal images, and the time to the reference's quality."""
    theirs = [final(run, metric) for run in both[REFERENCE]]
    images = statistics.median(run["points"][-1]["images"] for run in both[REFERENCE])
    ours = [final(run, metric) for run in both[BEST]]
    same = [at_images(run, images, metric) for run in both[BEST]]
    goal = statistics.median(theirs)
    seconds = statistics.median(reached(run, goal, metric, better) for run in both[BEST])
    return {"theirs": theirs, "ours": ours, "same": same, "share": seconds / both[BEST][0]["budget_seconds"],
            "time": all_win(ours, theirs, better), "images": all_win(same, theirs, better)}  # fmt: skip


def yes(value: bool) -> str:
    """Return yes or no."""
    return "yes" if value else "no"


def values_text(values: Sequence[float]) -> str:
    """Return the median and, if there are several values, all of them."""
    median = f"{statistics.median(values):.4g}"
    return f"{median} ({', '.join(f'{value:.4g}' for value in values)})" if len(values) > 1 else median


def share_text(share: float, minutes: float) -> str:
    """Return a time as minutes and as a share of the budget."""
    return f"{share * minutes:.2g} of {minutes:.3g} min ({share:.0%})" if math.isfinite(share) else "not reached"


def summary(complete: dict[int, dict[str, Runs]]) -> str:
    """Return a table with a row for each task and metric."""
    rows = []
    for number, both in complete.items():
        minutes = both[BEST][0]["budget_seconds"] / 60
        for metric, better in TASKS[number].decides.items():
            found = compare(both, metric, better)
            medians = [f"{statistics.median(found[side]):.4g}" for side in ("theirs", "ours")]
            share = share_text(found["share"], minutes)
            name = f"{metric} ({better} is better)"
            rows.append([str(number), name, *medians, yes(found["time"]), yes(found["images"]), share])
    heads = ["task", "metric", "reference", "recipe", "all seeds win at equal time", "at equal images",
             "the reference's quality after"]  # fmt: skip
    return stats.markdown_table(heads, rows)


def task_tables(task: Task, both: dict[str, Runs], sheet: str) -> list[str]:
    """Return the heading, the tables and the sheet of a task."""
    minutes = both[BEST][0]["budget_seconds"] / 60
    own = "the reference's own code" if both[REFERENCE][0]["own_code_of_reference"] else "`--recipe reference`"
    parts = [f"### {task.number}. {task.title}, {minutes:.3g} minutes: `--recipe {task.recipe}` against {own}"]
    metrics = [*task.decides, *task.shown]
    rows = [[metric, *(values_text([final(run, metric) for run in both[side]]) for side in (REFERENCE, BEST))]
            for metric in metrics]  # fmt: skip
    for metric, better in task.decides.items():
        found = compare(both, metric, better)
        rows.append([f"{metric} at the reference's images", values_text(found["theirs"]), values_text(found["same"])])
    figures: dict[str, Callable[[dict[str, Any]], float]] = {
        "images": lambda run: run["points"][-1]["images"],
        "steps": lambda run: run["points"][-1]["steps"],
        "parameters of generators": lambda run: sum_of(run, "G"),
        "parameters of discriminators": lambda run: sum_of(run, "D"),
    }
    for title, figure in figures.items():
        rows.append([title, *(f"{statistics.median(map(figure, both[side])):,.0f}" for side in (REFERENCE, BEST))])
    parts.append(stats.markdown_table(["median (each seed)", "reference", "recipe"], rows))
    parts += [curve(both, metric) for metric in task.decides]
    if sheet:
        order = "; ".join(f"`{label}`" + (" of the reference, then of the recipe" if is_made(label) else "")
                          for label in task.pictures)  # fmt: skip
        parts.append(f"![Images of both]({sheet})\n\nRows: {order}. Seed {both[BEST][0]['seed']}, not chosen.")
    return parts


def sum_of(run: dict[str, Any], letter: str) -> int:
    """Return the number of parameters of the networks whose names begin with a letter."""
    return sum(number for name, number in run["parameters"].items() if name.startswith(letter))


def curve(both: dict[str, Runs], metric: str) -> str:
    """Return a table of the median of a metric over time; a column for each share of the budget."""
    number = max(len(run["points"]) for some in both.values() for run in some)
    rows = []
    for side, runs in both.items():
        found: dict[int, list[float]] = {}
        for run in runs:
            for point in run["points"]:
                column = max(1, round(number * point["seconds"] / run["budget_seconds"]))
                found.setdefault(column, []).append(point["values"][metric])
        cells = [f"{statistics.median(found[k]):.4g}" if k in found else "" for k in range(1, number + 1)]
        rows.append([side, *cells])
    heads = [f"{metric} after", *(f"{k / number:.0%}" for k in range(1, number + 1))]
    return stats.markdown_table(heads, rows)


def tried(done: Runs, wanted: set[str]) -> str:
    """Return a table of all other results: recipes that were tried, on which seeds, with their final values."""
    rows: dict[tuple[int, str, float, str], Runs] = {}
    for run in done:
        if run["key"] not in wanted:
            options = " ".join(f"{name}={value}" for name, value in run["recipe"].items())
            rows.setdefault((run["task"], run["contestant"], run["budget_seconds"], options), []).append(run)
    table = []
    for (number, name, seconds, options), runs in sorted(rows.items()):
        values = [f"{m} {values_text([final(run, m) for run in runs])}" for m in TASKS[number].decides]
        seeds = ", ".join(str(run["seed"]) for run in runs)
        cells = [str(number), Path(name).stem, f"{seconds / 60:.3g}", seeds, "; ".join(values), options]
        table.append(cells)
    heads = ["task", "recipe", "minutes", "seeds", "median (each seed)", "options"]
    return stats.markdown_table(heads, table) if table else "Nothing else is stored."


def is_made(label: str) -> bool:
    """Return whether images of this label are generated."""
    return not label.startswith("real")


def write_sheet(task: Task, both: dict[str, Runs], pictures: Path, file: Path) -> bool:
    """Write the images of the first seed of both sides, a row for each label and side; return False without images."""
    folders = {side: pictures / both[side][0]["key"] for side in (REFERENCE, BEST)}
    rows = [sorted(folders[side].glob(f"*_{label}.png"))
            for label in task.pictures for side in ((REFERENCE, BEST) if is_made(label) else (BEST,))]  # fmt: skip
    if not all(rows):
        return False
    sheet = Image.new("RGB", (CELL_PX * COLUMNS, CELL_PX * len(rows)), "white")
    for y, row in enumerate(rows):
        for x, path in enumerate(row[:COLUMNS]):
            with Image.open(path) as image:
                sheet.paste(image.convert("RGB").resize((CELL_PX, CELL_PX)), (x * CELL_PX, y * CELL_PX))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256).save(file, optimize=True)
    return True
