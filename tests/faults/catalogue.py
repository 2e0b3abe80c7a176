"""Number the 103 faults, and give the reason for each one without a test in this folder."""

PROCESSES = "training in several processes is not built yet"

TITLES = {
    1: "killed during a save", 2: "killed at any moment", 3: "SIGTERM in a step", 4: "SIGTERM during a save",
    5: "Ctrl-C, once and twice", 6: "a signal while loading hangs", 7: "closed terminal, closed pipe",
    8: "suspended and resumed", 9: "out of memory", 10: "left-over temporary files", 11: "power cut",
    12: "disk too small from the start", 13: "disk full during a save", 14: "full disk that frees again",
    15: "folder that cannot be written", 16: "run folder removed during a run", 17: "disk that returns errors",
    18: "runs on another disk behind a link", 19: "rotation of states", 20: "old state that cannot be removed",
    21: "two runs of one name", 22: "test.py beside a training run", 23: "a name that is taken",
    24: "names that are not folders", 25: "other paths as options", 26: "misspelt options", 27: "values out of range",
    28: "options that contradict", 29: "missing devices", 30: "remembered options damaged",
    31: "hostile environment variables", 32: "files that are not images", 33: "truncated images",
    34: "images that lack a few bytes", 35: "decompression bombs", 36: "documents named as images",
    37: "animations", 38: "colour modes", 39: "orientation in EXIF", 40: "sizes that do not fit",
    41: "folders without images", 42: "unequal numbers of A and B", 43: "unreadable files, FIFOs",
    44: "loops of links", 45: "a million files", 46: "strange file names", 47: "equal stems",
    48: "images changed before a resume", 49: "huge images", 50: "metadata of images", 51: "missing weights",
    52: "truncated weights", 53: "flipped bits", 54: "another architecture", 55: "published and old weights",
    56: "versions of states", 57: "malicious weights", 58: "weights that exhaust memory or time",
    59: "weights that are NaN or Inf", 60: "safetensors", 61: "weights by URL", 62: "resumed under other conditions",
    63: "exact resume", 64: "every part of the state matters", 65: "every image once an epoch", 66: "resumed twice",
    67: "exact resume on GPUs", 68: "learning rate after a resume", 69: "clocks that jump",
    70: "losses and weights that are NaN or Inf", 71: "overflow in half precision", 72: "images of one colour",
    73: "NaN in one process only", 74: "workers that die", 75: "small shared memory", 76: "too few open files",
    77: "a rank killed", 78: "ranks restarted", 79: "a rank that hangs", 80: "SIGTERM to all ranks",
    81: "saving fails on one rank", 82: "only one rank writes", 83: "ports taken", 84: "objects over the network",
    85: "no visdom", 86: "visdom dies", 87: "visdom that never answers", 88: "malicious visdom", 89: "names on pages",
    90: "remote visdom", 91: "Weights & Biases", 92: "hostile names in HTML", 93: "control characters in logs",
    94: "plug-ins that fail at import", 95: "two plug-ins of one name", 96: "plug-ins that break their contract",
    97: "paths as names", 98: "state that cannot be read again", 99: "hostile archives", 100: "wrong checksums",
    101: "interrupted downloads", 102: "no network", 103: "data sets that already exist",
}  # fmt: skip

ELSEWHERE = {
    71: "tested in tests/training/test_step.py: --amp fp16 scales losses and saves the scale",
    73: PROCESSES,
    **{n: PROCESSES for n in range(77, 85)},
}
