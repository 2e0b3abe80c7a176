"""Check a whole data set before training on it: python scripts/check_data.py --dataroot DATA.

Reads every file and makes every sample as training would. Reports at once what would stop training (exit code 3) and
what is odd: equal images in train and test, equal names, several frames. The dataset mode is detected unless flags set
it. All further flags, such as --model, --dataset_mode, --crop_size or --plugin, are those of train.py.
"""

import json
import os
import sys
import warnings
from collections import Counter
from copy import copy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli.main import run_command
from cli.script import Command
from data.prepare.batch import MAX_LISTED_NAMES, format_names
from util.atomic_write import replace_text
from util.disk_space import write_error
from util.errors import DataError, count_text, print_line


def run_survey(o, train_flags):
    """Return the survey of all phases, the dataset mode that was used, and the command that trains on the data.

    The command is "" if flags chose the mode, or if the data may not be what it takes them for.
    """
    # imported here because they load torch, which --help does not need
    from data.notes.fitting import Fit, fitting_models
    from data.prepare.survey import Survey, detect_phases, guess_mode
    from options.parse import parse
    from registry.lookup import find

    named_phases = [phase.strip() for phase in o.phases.split(",") if phase.strip()]
    phases = named_phases or detect_phases(o.dataroot)
    mode_given = any(word.partition("=")[0] in ("--model", "--dataset_mode", "--config") for word in train_flags)
    mode_flags = [] if mode_given else ["--dataset_mode", guess_mode(o.dataroot, phases[0])]
    options = parse(["--dataroot", o.dataroot, *mode_flags, *train_flags], "train")
    if not mode_given:
        options.given.discard("dataset_mode")  # it was guessed, and commands need not repeat it
    options.serial_batches = True  # so that the samples use every file
    survey = Survey(o.dataroot, o.num_threads)
    for phase in phases:
        phase_options = copy(options)
        phase_options.phase, phase_options.isTrain = phase, phase == "train"
        survey.add(phase, find("dataset", options.dataset_mode), phase_options)
    survey.check_across_files()
    doubtful = mode_given or any(problem.kind == "layout" for problem in survey.problems) or survey.has_questions
    models = () if doubtful else fitting_models(options.dataset_mode)
    return survey, options.dataset_mode, Fit(options.dataset_mode, models).describe(options) if models else ""


def format_table(data_report) -> list[str]:
    """Return the lines of a table: the files, sizes, kinds, and least and greatest number of each folder."""
    rows = [("folder", "files", "sizes", "kinds", "numbers")]
    for name, folder in data_report["folders"].items():
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
    """Check everything, print the table and the problems, and write the JSON file."""
    command = Command(__file__, __doc__)
    command.add_argument("--dataroot", required=True, metavar="DATA", help="the data set, as for train.py")
    command.add_argument("--phases", default="", metavar="NAMES", help="train,val,test; default: all that exist")
    command.add_argument("--json", metavar="FILE", help="write the whole report, with all file names, as JSON")
    command.add_batch_threads()
    o, train_flags = command.parse_known_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pillow's warnings do not name the file
        survey, mode, advice = run_survey(o, train_flags)

    # Print the report.
    data_report = {"dataset_mode": mode, **survey.as_dict()}
    counts = ", ".join(f"{count_text(count, 'sample')} in {phase}" for phase, count in survey.samples.items())
    print_line(f"{o.dataroot} as {mode}: {counts or 'no samples'}")
    for line in [*format_table(data_report), *survey.notes, *([f"to train: {advice}"] if advice else [])]:
        print_line(line)
    for stops, word in ((True, "stops training"), (False, "note")):
        said = [problem.said for problem in survey.problems if problem.stops == stops]
        more = [f"{len(said) - MAX_LISTED_NAMES} more{'' if o.json else ' (--json FILE lists all)'}"]
        for text in said[:MAX_LISTED_NAMES] + (more if len(said) > MAX_LISTED_NAMES else []):
            print_line(f"{word}: {text}")

    # Write it, and fail if training would.
    if o.json:
        try:
            replace_text(Path(o.json), json.dumps(data_report, indent=1, ensure_ascii=True) + "\n")
        except OSError as problem:
            raise write_error(Path(o.json), problem) from problem
    stopping = [problem for problem in survey.problems if problem.stops]
    if stopping:
        files = [os.path.relpath(file, survey.base_folder) for problem in stopping for file in problem.files]
        why = f"{count_text(len(stopping), 'problem')} would stop training"
        why += f": {format_names(files)}" if files else ""
        raise DataError("folder", o.dataroot, why, "see the lines above")
    print_line("nothing here would stop training")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
