"""Read what the names of folders and files say: classes, phases, sides, inputs, masks."""
