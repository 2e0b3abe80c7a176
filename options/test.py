"""The flags of test.py alone."""

from dataclasses import dataclass

from options.fields import option


@dataclass
class Test:
    """testing"""

    results_dir: str = option("./results/", "where results pages go")
    aspect_ratio: float = option(1.0, "width over height by which saved pictures are stretched", above=0)
    phase: str = option("test", "sub-folder of dataroot to read")
    eval: bool = option(True, "networks in evaluation mode (--no_eval: batch statistics and dropout)")
    num_samples: int = option(16, "pictures of each class, for models that generate without input", at_least=1)
    num_test: int | None = option(None, "how many images; default: all", at_least=1)
