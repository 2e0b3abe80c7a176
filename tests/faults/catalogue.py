"""What may go wrong, by number: 103 cases, and why some have no test in this folder."""

PROCESSES = "training in several processes is not built yet"

TITLES = {
    1: "killed while it saves", 2: "killed at any moment", 3: "SIGTERM in a step", 4: "SIGTERM while it saves",
    5: "Ctrl-C, once and twice", 6: "a signal while loading hangs", 7: "closed terminal, closed pipe",
    8: "halted and let go on", 9: "out of memory", 10: "left-over temporary files", 11: "power cut",
    12: "disk too small from the start", 13: "disk full while it saves", 14: "full disk that frees again",
    15: "folder that cannot be written", 16: "run folder gone in mid-run", 17: "disk that answers with errors",
    18: "runs on another disk by a link", 19: "rotation of states", 20: "old state that cannot be removed",
    21: "two runs of one name", 22: "test beside a training", 23: "a name that is taken",
    24: "names that are no folder", 25: "other paths as options", 26: "misspelt options", 27: "values out of range",
    28: "options that contradict", 29: "devices that are not there", 30: "remembered options spoilt",
    31: "hostile environment variables", 32: "files that are no pictures", 33: "truncated pictures",
    34: "pictures that lack a few bytes", 35: "decompression bombs", 36: "documents called pictures",
    37: "animations", 38: "colour modes", 39: "orientation in EXIF", 40: "sizes that do not fit",
    41: "folders without pictures", 42: "sides of unequal number", 43: "unreadable files, FIFOs",
    44: "loops of links", 45: "a million files", 46: "strange file names", 47: "equal stems",
    48: "pictures changed before a resume", 49: "huge pictures", 50: "metadata of pictures", 51: "missing weights",
    52: "truncated weights", 53: "flipped bits", 54: "another architecture", 55: "other people's and old weights",
    56: "versions of states", 57: "malicious weights", 58: "weights that exhaust memory or time",
    59: "weights that are no numbers", 60: "safetensors", 61: "weights by URL", 62: "resumed under other conditions",
    63: "exact resume", 64: "every piece of state counts", 65: "every picture once an epoch", 66: "resumed twice",
    67: "exact resume on GPUs", 68: "learning rate after a resume", 69: "clocks that jump",
    70: "losses and weights that are no numbers", 71: "overflow in half precision", 72: "pictures of one colour",
    73: "NaN in one process only", 74: "workers that die", 75: "small shared memory", 76: "too few open files",
    77: "a rank killed", 78: "ranks restarted", 79: "a rank that hangs", 80: "SIGTERM to all ranks",
    81: "saving fails on one rank", 82: "only one rank writes", 83: "ports taken", 84: "objects over the network",
    85: "no visdom", 86: "visdom dies", 87: "visdom that never answers", 88: "malicious visdom", 89: "names on pages",
    90: "remote visdom", 91: "Weights & Biases", 92: "hostile names in HTML", 93: "control characters in logs",
    94: "plug-ins that fail at import", 95: "two of one name", 96: "plug-ins that break their contract",
    97: "paths as names", 98: "state that cannot be read again", 99: "hostile archives", 100: "wrong checksums",
    101: "downloads that are cut", 102: "no network", 103: "data sets that are there already",
}  # fmt: skip

ELSEWHERE = {
    71: "tested in tests/training/test_step.py: --amp fp16 scales losses and saves the scale",
    73: PROCESSES,
    **{n: PROCESSES for n in range(77, 85)},
}
