"""What stands behind a prompt: a forest of tokens, each the child of another one or of the prompt's last token.

G sampled completions are G chains; all the scores a model could write are one trie. A token sees the prompt, its
ancestors and itself, as in the tree attention of SpecInfer (Miao et al., ASPLOS 2024), so that one sequence carries
them all. Legend: N prompts, G completions per prompt, C tokens of a completion, K suffix tokens, S sequences of a trie,
L tokens of the longest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Suffix:
    """Suffix tokens of N prompts; a parent comes before its children.

    Attributes:
        ids_NK: token ids.
        parents_NK: column of each token's parent, -1 where that is the prompt's last token.
        real_NK: False for padding, which is nobody's parent but padding's and is never scored.

    Raises ValueError for shapes that differ and for a token that precedes its parent.
    """

    ids_NK: torch.Tensor
    parents_NK: torch.Tensor
    real_NK: torch.Tensor

    def __post_init__(self) -> None:
        if not self.ids_NK.shape == self.parents_NK.shape == self.real_NK.shape:
            shapes = tuple(self.ids_NK.shape), tuple(self.parents_NK.shape), tuple(self.real_NK.shape)
            raise ValueError(f"ids, parents and real of a suffix must have one shape (prompts, tokens), not {shapes}.")
        columns_K = torch.arange(self.ids_NK.shape[1], device=self.parents_NK.device)
        if ((self.parents_NK >= columns_K) | (self.parents_NK < -1)).any():
            raise ValueError("The parent of a suffix token must stand before it, or be -1 for the prompt's last token.")

    @classmethod
    def chains(cls, completions_NGC: torch.Tensor, mask_NGC: torch.Tensor) -> Suffix:
        """G right-padded completions behind each prompt, K = G·C; completion g's token c is column g·C + c."""
        n_prompts, _, length = completions_NGC.shape
        columns_GC = torch.arange(completions_NGC[0].numel(), device=completions_NGC.device).view(-1, length)
        parents_GC = columns_GC - 1
        parents_GC[:, :1] = -1
        parents_NK = parents_GC.flatten().expand(n_prompts, -1)
        return cls(completions_NGC.flatten(1), parents_NK, mask_NGC.flatten(1).bool())

    @classmethod
    def trie(cls, sequences: Sequence[Sequence[int]]) -> tuple[Suffix, torch.Tensor]:
        """The trie of S token sequences behind one prompt (N = 1; see `expand`), and each sequence's way through it.

        Returns the suffix and paths_SL: the columns of a sequence's tokens in order, -1 behind its end. The
        log-probability of a sequence is the sum of its tokens' over its path.
        """
        column_of: dict[tuple[int, ...], int] = {}
        parents: list[int] = []
        paths: list[list[int]] = []
        for sequence in sequences:
            path: list[int] = []
            for end in range(1, len(sequence) + 1):
                beginning = tuple(sequence[:end])
                if beginning not in column_of:
                    column_of[beginning] = len(parents)
                    parents.append(path[-1] if path else -1)
                path.append(column_of[beginning])
            paths.append(path)
        longest = max(map(len, paths), default=0)
        paths_SL = torch.tensor([path + [-1] * (longest - len(path)) for path in paths], dtype=torch.long)
        ids_1K = torch.tensor([[beginning[-1] for beginning in column_of]], dtype=torch.long)
        parents_1K = torch.tensor([parents], dtype=torch.long)
        return cls(ids_1K, parents_1K, torch.ones_like(ids_1K, dtype=torch.bool)), paths_SL

    def expand(self, n_prompts: int) -> Suffix:
        """The same suffix behind each of `n_prompts` prompts (from a suffix of one prompt); no copy is made."""
        return Suffix(*(each.expand(n_prompts, -1) for each in (self.ids_NK, self.parents_NK, self.real_NK)))

    def to(self, device: torch.device) -> Suffix:
        return Suffix(self.ids_NK.to(device), self.parents_NK.to(device), self.real_NK.to(device))

    def depths(self) -> torch.Tensor:
        """Number of ancestors of each token in the suffix, (N, K): its position behind the prompt."""
        return self.visible().sum(-1) - 1

    def visible(self) -> torch.Tensor:
        """Whether suffix token i sees suffix token j, (N, K, K): its ancestors and itself."""
        n_prompts, n_tokens = self.ids_NK.shape
        device = self.ids_NK.device
        # One column more, K, which is its own parent, stands for the prompt.
        prompt_N1 = torch.full((n_prompts, 1), n_tokens, device=device)
        parents_NK = torch.where(self.parents_NK < 0, n_tokens, self.parents_NK)
        parents_NX = torch.cat([parents_NK, prompt_N1], dim=1)
        ancestor_NK = torch.arange(n_tokens, device=device).expand(n_prompts, -1)
        visible_NKX = torch.zeros(n_prompts, n_tokens, n_tokens + 1, dtype=torch.bool, device=device)
        while (ancestor_NK < n_tokens).any():
            visible_NKX.scatter_(2, ancestor_NK[..., None], True)
            ancestor_NK = parents_NX.gather(1, ancestor_NK)
        return visible_NKX[..., :-1]
