from __future__ import annotations

import pytest
import torch

from mmcli.errors import RequestError
from mmcli.training.memory import free_memory, latents_budget, parse_size, peak_memory
from mmcli.training.seeds import derive, generator, reproducible


def test_seeds_depend_on_everything_and_on_nothing_else() -> None:
    assert derive(0, "cv", 1) == derive(0, "cv", 1) < 2**63
    assert len({derive(0, "cv", k, s) for k in range(10) for s in range(10)}) == 100
    assert derive("a", "bc") != derive("ab", "c")
    assert (generator(1).permutation(9) == generator(1).permutation(9)).all()


def test_reproducible_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with reproducible():
        assert torch.are_deterministic_algorithms_enabled()
        torch.manual_seed(99)
    assert not torch.are_deterministic_algorithms_enabled()
    torch.testing.assert_close(torch.rand(2), expected)


def test_sizes() -> None:
    assert [parse_size(t) for t in ("8G", "500M", "1.5k", "12")] == [8 << 30, 500 << 20, 1536, 12]
    with pytest.raises(RequestError, match="write for example 8G"):
        parse_size("much")
    assert latents_budget("1G") == 1 << 30 and 0 < latents_budget("") <= free_memory()
    assert peak_memory() > 1 << 20
