"""A model as TorchScript, in a process of its own: `python -m registry.converting.torchscript SOURCE TARGET`.

torch numbers what it compiles by all that the process compiled before, and writes those numbers down; only a fresh
process writes the same bytes for the same model. It also gives back torch's memory, and a crash of it is one failure.
What is written is stripped of torch's notes on where the code came from: they name folders of this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedwire.architectures import Architecture, Conv, Dense, Flatten, MaxPool, Norm, Relu, Step
from registry.converting import ConversionFailed
from registry.converting.answers import EPSILON, Arrays, answer, compare, loaded, probe

# Less than a worker's claim lasts: nobody begins anew while this still runs.
SECONDS = 240.0
# How the process says that the conversion failed, in a sentence on standard output.
REFUSED = 3
# Records that torch writes by itself when an archive is closed.
_OWN = ("version", "byteorder", ".data/serialization_id")


def write(source: Path, architecture: Architecture, target: Path) -> None:
    """Write the model file `source` as TorchScript to `target`, and check its answers. Raises `ConversionFailed`."""
    command = [sys.executable, "-m", __name__, str(source), str(target)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    spec = json.dumps(architecture.spec())
    try:
        done = subprocess.run(  # noqa: S603  # our own module; the paths are the store's
            command, input=spec, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConversionFailed(f"it took longer than {SECONDS:.0f} seconds") from error
    if done.returncode == REFUSED:
        raise ConversionFailed(done.stdout.strip())
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ConversionFailed(f"torch ended with {done.returncode}: {said[-1] if said else 'it said nothing'}")


def make(source: Path, architecture: Architecture, target: Path) -> None:
    """Do what `write` asks for, in this process."""
    arrays = loaded(source, architecture)
    rows = probe(architecture, arrays)
    try:
        import torch  # noqa: PLC0415  # slow to load
    except ImportError as error:
        raise ConversionFailed("torch is not installed where the portal's jobs run") from error

    draft = target.with_name(f"{target.name}.draft")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # see docs/decisions/0029
            model = _module(torch, architecture, arrays)
            # Traced on fewer rows than are compared: the number of rows must not have become part of the model.
            traced = torch.jit.trace(model, torch.from_numpy(rows[:1].copy()), _store_inputs=False)
            torch.jit.save(traced, str(draft))
        _strip(torch, draft, target)
    finally:
        draft.unlink(missing_ok=True)
    compare(answer(architecture, arrays, rows), answers_of(target, rows))


def answers_of(path: Path, rows: NDArray[Any]) -> list[NDArray[Any]]:
    """What the TorchScript in the file, which the portal wrote, answers to `rows`. Needs torch."""
    import torch  # noqa: PLC0415

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = torch.jit.load(str(path), map_location="cpu")(torch.from_numpy(rows))
    return [part.numpy() for part in (found if isinstance(found, tuple) else (found,))]


def _module(torch: Any, architecture: Architecture, arrays: Arrays) -> Any:
    """The model with its numbers; the names in its `state_dict` are those of the manifest."""
    shape = architecture.input_shape

    class Standardise(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(architecture.inputs))
            self.register_buffer("std", torch.ones(architecture.inputs))

        def forward(self, rows: Any) -> Any:
            return (rows - self.mean.view(shape)) / self.std.view(shape)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if architecture.standardise:
                self.standardise = Standardise()
            self.layers = torch.nn.Sequential(*(_layer(torch, step) for step in architecture.steps))

        def forward(self, rows: Any) -> Any:
            outputs = self.layers(self.standardise(rows) if architecture.standardise else rows)
            if architecture.loss == "squared":
                return outputs
            if architecture.loss == "softmax":
                return outputs, torch.softmax(outputs, 1)
            return outputs, torch.cat([torch.sigmoid(-outputs), torch.sigmoid(outputs)], 1)

    model = Model().eval().requires_grad_(False)
    for name, place in model.state_dict().items():
        place.copy_(torch.from_numpy(np.array(arrays[name])))
    return model


def _layer(torch: Any, step: Step) -> Any:
    match step:
        case Dense(inputs=inputs, outputs=outputs):
            return torch.nn.Linear(inputs, outputs)
        case Conv(inputs=inputs, outputs=outputs):
            return torch.nn.Conv2d(inputs, outputs, 3, padding=1)
        case Norm(size=size, images=images):
            made = (torch.nn.BatchNorm2d if images else torch.nn.BatchNorm1d)(size, eps=EPSILON)
            made.num_batches_tracked = None  # a counter that the manifest does not have
            return made
        case Relu():
            return torch.nn.ReLU()
        case MaxPool():
            return torch.nn.MaxPool2d(2)
        case Flatten():
            return torch.nn.Flatten()


def _strip(torch: Any, draft: Path, target: Path) -> None:
    """Copy the archive without torch's notes for debuggers, which hold paths, and under a fixed name."""
    reader = torch._C.PyTorchFileReader(str(draft))
    with open(target, "wb") as out:
        writer = torch._C.PyTorchFileWriter(out)
        for name in reader.get_all_records():
            if name not in _OWN and not name.endswith(".debug_pkl"):
                content = reader.get_record(name)
                writer.write_record(name, content, len(content))
        writer.write_end_of_file()


def _main(source: str, target: str) -> int:
    try:
        make(Path(source), Architecture.parse(json.loads(sys.stdin.read())), Path(target))
    except ConversionFailed as error:
        sys.stdout.write(str(error))
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
