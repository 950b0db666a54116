"""Reads a run's event files with TensorBoard and compares them with the run's metrics.jsonl.

    pip install tensorboard
    python rwkv-train/tests/check_tensorboard.py RUN_DIR...

Every scalar of every row must be there once, under the row's step, to the precision of a 32-bit float.
"""

import json
import pathlib
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {
    "train/loss": "loss",
    "val/loss": "val_loss",
    "train/lr": "lr",
    "train/grad_norm": "grad_norm",
    "train/tokens_per_second": "tokens_per_second",
    "train/mfu": "mfu",
}


def float32(number):
    return struct.unpack("<f", struct.pack("<f", number))[0]


def check(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    read = events.Tags()["scalars"]
    compared = 0
    for tag, column in TAGS.items():
        expected = [(row["step"], float32(row[column])) for row in rows if row.get(column) is not None]
        found = [(event.step, event.value) for event in events.Scalars(tag)] if tag in read else []
        if found != expected:
            differing = [pair for pair in zip(found, expected) if pair[0] != pair[1]][:3]
            sys.exit(f"{folder}: {tag}: {len(found)} values, expected {len(expected)}; first differences {differing}")
        compared += len(expected)
    unknown = set(read) - set(TAGS)
    if unknown:
        sys.exit(f"{folder}: unexpected tags {sorted(unknown)}")
    files = len(list(folder.glob("events.out.tfevents.*")))
    print(f"{folder}: {compared} values of {len(rows)} rows are equal, from {files} event file(s)")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for argument in sys.argv[1:]:
        check(pathlib.Path(argument))
