"""Channel attention: one weight a channel, from what all channels hold on average."""

from __future__ import annotations

from torch import Tensor, nn

from mmcli.blocks.segment import segment_sum


class ChannelAttention(nn.Module):
    """x_c -> C a_c x_c with a = softmax(W_2 ReLU(W_1 GAP(x))): MDFN's channel attention module (sec. 3.2).

    The paper's module stands before the encoder, on the C = 3 colours of a Doppler image, with 10 hidden units; GAP is
    the mean over all positions. Here the channels are those of a latent, and the positions are the instances of a
    patient's bag, so that a bag of one instance is weighted by itself. Departure: the factor C, with which equal
    attention leaves the latent as it is; over hundreds of channels the softmax alone would shrink it to nothing.
    """

    def __init__(self, channels: int, hidden: int = 10) -> None:
        """`channels` of a latent, `hidden` units between (paper: 10)."""
        super().__init__()
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def weights(self, mean: Tensor) -> Tensor:
        """a (n, C) from the means over the positions (n, C); each row sums to 1."""
        scores: Tensor = self.excite(self.squeeze(mean).relu())
        return scores.softmax(-1)

    def forward(self, instances: Tensor, owner: Tensor, n: int) -> Tensor:
        """Instances (N, C), their bags `owner` (N,), the number of bags: the same instances reweighted (N, C)."""
        counts = segment_sum(instances.new_ones(len(instances)), owner, n).clamp(min=1)
        mean = segment_sum(instances, owner, n) / counts.unsqueeze(-1)
        return instances * (self.weights(mean) * instances.shape[-1])[owner]
