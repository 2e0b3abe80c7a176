"""Look at a whole data set before training on it: python scripts/check_data.py --dataroot DATA.

Reads every file and makes every sample, as training would, and tells at once what would stop it (exit code 3) and what
is odd: equal pictures in train and test, equal names, several frames. How files become pictures is found by looking,
or said as train.py is told: further flags, such as --model, --dataset_mode, --crop_size or --plugin, are train.py's.
"""

import json
import os
import sys
import warnings
from collections import Counter
from copy import copy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.main import guarded
from cli.script import Command
from data.prepare.batch import SHOWN, some
from util.atomic_write import replace_text
from util.disk_space import fault
from util.errors import DataError, say


def survey(o, further):
    """Return what is seen of all phases, and in which way: as which data set."""
    from data.prepare.survey import Survey, guess_mode, phases_of
    from options.parse import parse
    from registry.lookup import find

    named = [phase.strip() for phase in o.phases.split(",") if phase.strip()]
    wanted = named or phases_of(o.dataroot)
    told = any(word.partition("=")[0] in ("--model", "--dataset_mode", "--config") for word in further)
    guessed = [] if told else ["--dataset_mode", guess_mode(o.dataroot, wanted[0])]
    options = parse(["--dataroot", o.dataroot, *guessed, *further], "train")
    options.serial_batches = True  # so that samples use every file
    seen = Survey(o.dataroot, o.num_threads)
    for phase in wanted:
        of_phase = copy(options)
        of_phase.phase, of_phase.isTrain = phase, phase == "train"
        seen.add(phase, find("dataset", options.dataset_mode), of_phase)
    seen.conclude()
    return seen, options.dataset_mode


def table(tables) -> list[str]:
    """Return the lines of a short table: each folder's files, sizes, kinds, least and greatest number."""
    rows = [("folder", "files", "sizes", "kinds", "numbers")]
    for name, folder in tables["folders"].items():
        sizes, kinds = (
            ", ".join(f"{word} ({count})" for word, count in Counter(folder[key]).most_common(3))
            + (f", {len(folder[key]) - 3} more" if len(folder[key]) > 3 else "")
            for key in ("sizes", "kinds")
        )
        numbers = f"{folder['least']:g} to {folder['greatest']:g}" if folder["sizes"] else ""
        rows.append((name, str(folder["files"]), sizes, kinds, numbers))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip() for row in rows]


def main(argv, report):
    """Look at everything, print the table and the problems, write the JSON file."""
    command = Command(__file__, __doc__)
    command.add_argument("--dataroot", required=True, metavar="DATA", help="the folder that train.py would be given")
    command.add_argument("--phases", default="", metavar="NAMES", help="train,val,test; default: those that are there")
    command.add_argument("--json", metavar="FILE", help="write all that was seen, with every file's name, as JSON")
    command.add_batch_threads()
    o, further = command.parse_known_args(argv)
    report.debug = o.debug
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pillow's, of odd files: without their names
        seen, mode = survey(o, further)
    tables = {"dataset_mode": mode, **seen.tables()}
    counts = ", ".join(f"{count} samples in {phase}" for phase, count in seen.samples.items())
    say(f"{o.dataroot} as {mode}: {counts or 'no samples'}")
    for line in [*table(tables), *seen.notes]:
        say(line)
    for stops, word in ((True, "stops training"), (False, "note")):
        told = [problem for problem in seen.problems if problem.stops == stops]
        for problem in told[:SHOWN]:
            say(f"{word}: {problem.said}")
        if len(told) > SHOWN:
            say(f"{word}: {len(told) - SHOWN} more{'' if o.json else ' (--json FILE lists all)'}")
    if o.json:
        try:
            replace_text(Path(o.json), json.dumps(tables, indent=1, ensure_ascii=True) + "\n")
        except OSError as problem:
            raise fault(Path(o.json), problem) from problem
    stopping = [problem for problem in seen.problems if problem.stops]
    if stopping:
        files = [os.path.relpath(file, seen.base) for problem in stopping for file in problem.files]
        why = f"{len(stopping)} problem{'s' * (len(stopping) > 1)} would stop training"
        raise DataError("folder", o.dataroot, why + (f": {some(files)}" if files else ""), "see the lines above")
    say("nothing here would stop training")


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
