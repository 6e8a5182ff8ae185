"""Self-attention pooling, eqs. 1 and 2."""

from torch import Tensor, nn


class AttentionPooling(nn.Module):
    """h = Σ αᵢ xᵢ with α = softmax( zᵀ tanh(W xᵢ + b) ) over the valid positions (eqs. 1 and 2)."""

    def __init__(self, dimension: int, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(dimension, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Pool `x` (B, S, D) over S where `valid` (B, S) is true: (B, D). A row with nothing valid gives zeros."""
        scores = self.score(self.project(x).tanh()).squeeze(-1)
        if valid is None:
            weights = scores.softmax(dim=1)
        else:
            # a finite fill keeps a row of padding out of 0/0; multiplying afterwards makes its weights zero
            lowest = scores.new_tensor(-1e30)
            weights = scores.where(valid, lowest).softmax(dim=1) * valid.to(scores.dtype)
        pooled: Tensor = (weights.unsqueeze(1) @ x).squeeze(1)
        return pooled
