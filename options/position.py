"""Check the words without a flag: test.py takes one, a folder or a file of images."""

import os
import shlex

from util.errors import OptionError

POSITION = "FOLDER_OR_FILE"  # its key among the values of the command line


def check_position(words: list[str], dataroot: str) -> None:
    """Raise OptionError unless these words of test.py are one folder or file, without --dataroot."""
    for path in ([dataroot] if dataroot else []), []:  # a path with spaces that was typed without quotes
        joined = " ".join([*path, *words])
        if len(path) + len(words) > 1 and os.path.exists(joined):
            quoted = ("--dataroot " if path else "") + shlex.quote(joined)
            raise OptionError(
                "argument", words[0], f"is part of a path with spaces, {joined}", f"put it in quotes: {quoted}"
            )
    if dataroot:
        why = f"is a folder or file of images, and --dataroot {dataroot} is another"
        raise OptionError("argument", words[0], why, "give one of them")
    if len(words) > 1:
        why = f"is a second folder or file beside {words[0]}"
        raise OptionError("argument", words[1], why, "give one: a folder, a zip file or an image")
