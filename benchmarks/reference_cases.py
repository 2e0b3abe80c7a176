"""The benchmark cases of the reference, whose classes are imported from the user's checkout.

Of GANvas, only benchmarks/our_cases.py is imported here, because packages of the same name would hide each other.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.our_cases import COMPARED_STEPS, START_FILE, Command, Translate, synchronize


def reference_options(home: str, argv: list[str], shared: str, device: int = -1) -> Any:
    """Return the reference's options, read by its own parser."""
    flags = f"--num_threads 0 --gpu_ids {device} --name bench".split()
    sys.argv = ["train.py", *argv, *flags, "--checkpoints_dir", str(Path(shared, "theirs"))]
    from options.train_options import TrainOptions  # type: ignore[attr-defined]

    import models

    if not Path(str(models.__file__)).resolve().is_relative_to(Path(home).resolve()):
        raise SystemExit(f"models was found in {models.__file__}")
    opt = TrainOptions().parse()
    opt.device = torch.device("cpu" if device < 0 else f"cuda:{device}")  # newer versions of the reference read it
    return opt


class TrainingStep:
    """A training step with the weights and the batch that GANvas's side saved."""

    dtype = torch.float32

    def __init__(self, home: str, argv: list[str], shared: str, device: int = -1):
        opt = reference_options(home, argv, shared, device)
        from models import create_model  # type: ignore[attr-defined]

        start = torch.load(Path(shared, START_FILE), map_location="cpu", weights_only=True)
        self.model = create_model(opt)
        for name, weights in start["weights"].items():
            net = vars(self.model)[f"net{name}"]
            getattr(net, "module", net).load_state_dict(weights)  # DataParallel on a GPU
        for part in vars(self.model).values():
            if isinstance(part, torch.nn.Module):
                part.to(self.dtype)
        A, B = start["A"].to(self.dtype), start["B"].to(self.dtype)
        self.batch = {"A": A, "B": B, "A_paths": ["A"], "B_paths": ["B"]}
        self.facts: dict[str, Any] = {"items": len(A)}

    def once(self) -> None:
        """Run a training step."""
        self.model.set_input(self.batch)
        self.model.optimize_parameters()
        synchronize(self.model.device)


class StepLosses(TrainingStep):
    """The float64 losses of the first steps."""

    dtype = torch.float64

    def __init__(self, home: str, argv: list[str], shared: str, device: int = -1):
        super().__init__(home, argv, shared, device)
        self.facts = {"numbers": [self.losses(seed) for seed in range(COMPARED_STEPS)]}

    def losses(self, seed: int) -> dict[str, float]:
        """Return the losses of a step with a seeded random number generator."""
        torch.manual_seed(seed)
        self.once()
        return dict(self.model.get_current_losses())


class LoadPairs:
    """An epoch of pairs, from the JPEG files that GANvas's side wrote, through the reference's loader."""

    def __init__(self, home: str, shared: str, pairs: int, workers: int = 0):
        opt = reference_options(home, ["--model", "pix2pix", "--dataroot", str(Path(shared, "pairs"))], shared)
        opt.num_threads = workers
        from data import create_dataset  # type: ignore[attr-defined]

        self.loader = create_dataset(opt)
        self.facts = {"items": pairs}
        self.once()

    def once(self) -> None:
        """Read all pairs once."""
        for _ in self.loader:
            pass


__all__ = ["Command", "LoadPairs", "StepLosses", "TrainingStep", "Translate"]
