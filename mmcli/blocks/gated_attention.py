"""Gated attention pooling: a bag's instances to one vector, each with a learned weight."""

from __future__ import annotations

from torch import Tensor, nn

from mmcli.blocks.segment import segment_softmax, segment_sum


class GatedAttention(nn.Module):
    """z = sum_k a_k h_k with a_k = softmax_k(w^T (tanh(V h_k) * sigm(U h_k))).

    Ilse, Tomczak and Welling 2018, "Attention-based deep multiple instance learning", eqs 7 and 9; V and U carry a
    bias here, as in the authors' code. A bag without instances gives zeros.
    """

    def __init__(self, width: int, hidden: int) -> None:
        """`width` of an instance, `hidden` of the attention's two branches."""
        super().__init__()
        self.V = nn.Linear(width, hidden)
        self.U = nn.Linear(width, hidden)
        self.w = nn.Linear(hidden, 1, bias=False)

    def weights(self, instances: Tensor, owner: Tensor, n: int) -> Tensor:
        """The attention (N,) of each instance; each bag's sum to 1."""
        gated = self.V(instances).tanh() * self.U(instances).sigmoid()  # (N, hidden)
        return segment_softmax(self.w(gated).squeeze(-1), owner, n)

    def forward(self, instances: Tensor, owner: Tensor, n: int) -> Tensor:
        """Instances (N, width), their bags `owner` (N,), the number of bags: (n, width)."""
        return segment_sum(self.weights(instances, owner, n).unsqueeze(-1) * instances, owner, n)
