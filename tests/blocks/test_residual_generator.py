"""MDFN's generator by hand."""

from __future__ import annotations

import torch

from mmcli.blocks.residual_generator import generator_widths, residual_generator


def test_forward_by_hand():
    widths = generator_widths(1, 1, 1)
    assert widths == [1, 1, 1, 1, 1] and generator_widths(7, 5, 2) == [7, 5, 5, 5, 2]
    # weight, bias a layer: h = 2x + 1 = 7; h = 7 + (3*7 - 1) = 27; h = 27 + ReLU(-27 + 2) = 27; 0.5*27 - 3 = 10.5
    one = [2.0, 1, 3, -1, -1, 2, 0.5, -3]
    # The first layer's ReLU: x = 3 gives ReLU(-3) = 0; 0 + ReLU(4) = 4; 4 + ReLU(8 + 0) = 12; 12 + 1 = 13.
    two = [-1.0, 0, 5, 4, 2, 0, 1, 1]
    made = residual_generator(torch.tensor([one, two]), widths, torch.full((2, 1, 1), 3.0))
    assert made.flatten().tolist() == [10.5, 13]
