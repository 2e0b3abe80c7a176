"""Check the words without a flag: test.py takes one, a folder or a file of images."""

import os
import shlex
from typing import Any

from util.errors import OptionError
from util.spelling import path_hint

POSITION = "FOLDER_OR_FILE"  # its key among the values of the command line


def take_folder(given: dict[str, Any], config: dict[str, Any], phase: str) -> str:
    """Make a folder or file given by position, or that of --watch, the dataroot; return the one given by position.

    given, config: values of the command line and of --config. A video keeps its size, unless a flag says another one.
    Raise OptionError if --watch is given beside another folder, and for a video in training.
    """
    # imported here because --help needs no NumPy
    from data.decoding.videos import is_video

    position, watch = given.pop(POSITION, ""), given.get("watch", config.get("watch", ""))
    if watch and (other := position or given.get("dataroot", "")):
        why = f"is {watch}, and {other} is another folder or file of images"
        raise OptionError("option", "--watch", why, "give one of them")
    if position or watch:
        given["dataroot"] = position or watch
    if is_video(video := given.get("dataroot", config.get("dataroot", ""))):
        if phase == "train":
            why = f"is a video, {video}, and train.py reads images"
            raise OptionError("option", "--dataroot", why, f"write its frames to a folder: ffmpeg -i {video} %06d.png")
        if not {"native", "preprocess", "load_size", "crop_size"} & (given.keys() | config.keys()):
            given["native"] = True
    return position


def check_position(words: list[str], dataroot: str) -> None:
    """Raise OptionError unless these words of test.py are one folder or file, without --dataroot."""
    for path in ([dataroot] if dataroot else []), []:  # a path with spaces that was typed without quotes
        joined = " ".join([*path, *words])
        if len(path) + len(words) > 1 and os.path.exists(joined):
            quoted = ("--dataroot " if path else "") + shlex.quote(joined)
            raise OptionError(
                "argument", words[0], f"is part of a path with spaces, {joined}", f"put it in quotes: {quoted}"
            )
    joined = " ".join([dataroot, *words] if dataroot else words)
    if not os.path.exists(dataroot or words[0]) and (" " in joined) and (hint := path_hint(joined)):
        raise OptionError("argument", words[0], "is no folder or file", hint)
    if dataroot:
        why = f"is a folder or file of images, and --dataroot {dataroot} is another"
        raise OptionError("argument", words[0], why, one_path_remedy([dataroot, *words], "test"))
    if len(words) > 1:
        why = f"is a second folder or file beside {words[0]}, but one is tested"
        raise OptionError("argument", words[1], why, one_path_remedy(words, "test"))


def one_path_remedy(paths: list[str], phase: str) -> str:
    """Return the advice on several paths of images, where a command takes one; phase: of the command."""
    folders = {os.path.dirname(path.rstrip("/")) for path in paths}
    names = {os.path.basename(os.path.abspath(path)) for path in paths}
    phases = (phase, "train", "val") if phase == "test" else (phase,)
    if len(folders) == 1 and any(names == {f"{each}A", f"{each}B"} for each in phases):
        return f"give the folder that holds both: --dataroot {shlex.quote(folders.pop() or '.')}"
    if all(map(os.path.isdir, paths)):
        both = f"put two folders of unpaired images into one, as {phase}A and {phase}B, and give that one"
        return f"give one of them; or {both}"
    return f"give one: a folder{', a zip file or an image' if phase == 'test' else ' or a zip file'}"
