"""docs/scale.md is what measured tables and counted operations give."""

import pytest

from benchmarks.estimates import paper_scale
from benchmarks.estimates.paper_scale import Task


def test_the_page_is_the_scripts():
    """Write it with: python benchmarks/estimates/paper_scale.py --write."""
    assert paper_scale.PAGE.read_text(encoding="utf-8") == paper_scale.page()


def test_stored_counts_are_those_of_the_models():
    """Count them again with: python benchmarks/estimates/paper_scale.py --count."""
    stored = paper_scale.counts()
    for key, counted in paper_scale.count_steps({"pix2pix": (256,)}).items():
        assert counted == stored[key]


def test_numbers_follow_from_the_tables(monkeypatch):
    """Steps times seconds at the measured size; elsewhere by operations, on a GPU no less than a measured step."""
    e = paper_scale.Estimates()
    e.cpu_step = {"pix2pix": 2.0}
    e.counts = {("pix2pix", side): {"parameters": 10, "flops": side, "activation_bytes": 7} for side in (256, 1024)}
    monkeypatch.setattr(e, "gpu_step", lambda model, batch: {1: 0.3, 16: 0.1}[batch])
    small, large = Task("x", "pix2pix", 3), Task("x", "pix2pix", 3, 1024)
    assert small.steps == 600 and e.cpu(small) == 1200 and e.cpu(large) == 4800
    assert e.gpu(small) == pytest.approx(180) and e.gpu(large) == pytest.approx(240)
    assert e.memory(small) == 167 and paper_scale.energy(3.6e6, 45) == "45"
    assert paper_scale.seconds("7.5 s") == 7.5 and paper_scale.seconds("250 ms") == 0.25
