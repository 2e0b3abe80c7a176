"""Write a data set into tar shards, WebDataset's format: python scripts/make_shards.py --dataroot DATA --output SHARDS.

Reads every layout that train.py reads: pairs, two folders, classes, zip files, manifests. Files are copied as they are.
The samples of each phase are mixed by a hash of their names, so that each shard is like the whole. The dataset mode is
detected unless flags set it. All further flags, such as --dataset_mode, --pairs, --inputs or --split, are those of
train.py.
"""

import sys
from copy import copy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli.main import run_command
from cli.script import Command, positive
from util.errors import DataError, OptionError, count_text, print_line


def read_phases(o, train_flags):
    """Return the data set of each phase, by name; "" is that of a data set without phases."""
    # imported here because they load torch, which --help does not need
    from data.listing.layouts import list_phases
    from data.listing.manifest import find_manifest, read_manifest
    from data.prepare.survey import guess_mode
    from options.parse import parse
    from registry.lookup import find

    manifest = find_manifest(o.dataroot, "auto")
    found = sorted(read_manifest(manifest, o.dataroot, "train", None).splits) if manifest else list_phases(o.dataroot)
    named = [phase.strip() for phase in o.phases.split(",") if phase.strip()]
    split = any(word.partition("=")[0] == "--split" for word in train_flags)
    phases = named or found or (["train", "test"] if split else [""])
    mode_given = any(word.partition("=")[0] in ("--model", "--dataset_mode", "--config") for word in train_flags)
    mode_flags = [] if mode_given else ["--dataset_mode", guess_mode(o.dataroot, phases[0])]
    options = parse(["--dataroot", o.dataroot, *mode_flags, *train_flags], "train")
    datasets = {}
    for phase in phases:
        phase_options = copy(options)
        phase_options.phase, phase_options.isTrain = phase, phase in ("", "train")
        datasets[phase] = find("dataset", options.dataset_mode)(phase_options)
    return datasets


def main(argv, report):
    """Read the data set, and write its shards."""
    command = Command(__file__, __doc__)
    command.add_argument("--dataroot", required=True, metavar="DATA", help="the data set, as for train.py")
    command.add_folder("--output", "folder for the shards; new, empty, or written by this command before")
    command.add_argument("--phases", default="", metavar="NAMES", help="train,val,test; default: all that exist")
    command.add_value("--max_size", 256, "megabytes of a shard", type=positive, metavar="MB")
    command.add_value("--max_count", 10_000, "samples of a shard", type=positive, metavar="N")
    command.add_switch("--dry_run", "print what would be written, and write nothing")
    o, train_flags = command.parse_known_args(argv)

    # imported here because they load torch, which --help does not need
    from data.prepare.shard_samples import shard_samples
    from data.prepare.shard_writer import Limits, check_output, write_shards

    output = Path(o.output)
    check_output(output)
    if output.resolve() == Path(o.dataroot).resolve():
        raise OptionError("option", "--output", "is --dataroot", "choose another folder")
    datasets = read_phases(o, train_flags)
    classes = sorted({name for dataset in datasets.values() for name in getattr(dataset, "classes", ())})
    phases = {phase: shard_samples(dataset, classes) for phase, dataset in datasets.items()}
    for phase, dataset in datasets.items():
        for note in dataset.notes:
            print_line(f"{phase or 'all'}: {note}")
        lost = [name for name in (dataset.columns.kinds if dataset.columns else {}) if name != "label"]
        if lost:
            print_line(f"note: the columns {', '.join(lost)} of the manifest are not in the shards")
    dotted = sum("." in sample.key.rpartition("/")[2] for samples in phases.values() for sample in samples)
    if dotted:
        print_line(f"note: {count_text(dotted, 'name')} with a dot: other readers of shards end a key at the first one")
    counts = ", ".join(f"{count_text(len(samples), 'sample')} of {phase or 'all'}" for phase, samples in phases.items())
    if not any(phases.values()):
        raise DataError("folder", o.dataroot, "has no samples", "see --dataset_mode")
    if o.dry_run:
        print_line(f"would write {counts} to {output}")
        return
    number = write_shards(output, phases, classes, Limits(o.max_size * 1_000_000, o.max_count))
    print_line(f"{counts}: {count_text(number, 'shard')} in {output}; to train: --dataroot {output}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
