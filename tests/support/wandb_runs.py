"""Read offline W&B runs record by record."""

import json
import struct


def records(path):
    """Yield the records of a .wandb file, which consists of 32 KiB blocks of pieces like a LevelDB log."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if place % 32768 > 32768 - 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        piece, place = data[place + 7 : place + 7 + length], place + 7 + length
        whole = piece if kind in (1, 2) else whole + piece
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(whole)
            yield record


def history(run):
    """Return [{name: value}], the history in an offline run's folder."""
    (file,) = run.glob("run-*.wandb")
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records(file)
        if record.WhichOneof("record_type") == "history"
    ]


def offline_runs(folder):
    return sorted((folder / "wandb").glob("offline-run-*"))
