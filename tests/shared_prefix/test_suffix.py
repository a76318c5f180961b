"""The forest of tokens behind a prompt, against a walk from parent to parent."""

from __future__ import annotations

import pytest
import torch

from mriqa.shared_prefix import Suffix


def walked(parents: list[int]) -> torch.Tensor:
    """Which tokens each one sees, (K, K)."""
    sees = torch.zeros(len(parents), len(parents), dtype=torch.bool)
    for token in range(len(parents)):
        place = token
        while place >= 0:
            sees[token, place] = True
            place = parents[place]
    return sees


def test_a_token_sees_its_ancestors_and_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    parents_NK = torch.stack(
        [torch.cat([torch.randint(-1, k, (1,), generator=generator) for k in range(12)]) for _ in range(3)]
    )
    suffix = Suffix(torch.zeros_like(parents_NK), parents_NK, torch.ones_like(parents_NK, dtype=torch.bool))
    expected = torch.stack([walked(parents) for parents in parents_NK.tolist()])
    assert torch.equal(suffix.visible(), expected)
    assert torch.equal(suffix.depths(), expected.sum(-1) - 1)


def test_chains_stand_side_by_side() -> None:
    mask_NGC = torch.tensor([[[1, 1, 1], [1, 0, 0]]])
    suffix = Suffix.chains(torch.arange(6).view(1, 2, 3), mask_NGC)
    assert suffix.ids_NK.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert suffix.parents_NK.tolist() == [[-1, 0, 1, -1, 3, 4]]
    assert suffix.real_NK.tolist() == [[True, True, True, True, False, False]]


def test_a_trie_holds_each_beginning_once() -> None:
    sequences = [[7, 1, 2], [7, 1, 3], [8, 1], [7, 1, 2], [7]]
    suffix, paths_SL = Suffix.trie(sequences)
    assert suffix.ids_NK.shape == (1, 6)  # 7, 71, 712, 713, 8, 81
    for sequence, path in zip(sequences, paths_SL.tolist()):
        columns = [column for column in path if column >= 0]
        assert path == columns + [-1] * (3 - len(columns))
        assert suffix.ids_NK[0, columns].tolist() == sequence
        assert suffix.parents_NK[0, columns].tolist() == [-1, *columns[:-1]]
    assert suffix.expand(4).parents_NK.shape == (4, 6)


def test_what_is_no_forest_is_refused() -> None:
    ids = torch.zeros(1, 2, dtype=torch.long)
    real = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="must stand before it"):
        Suffix(ids, torch.tensor([[-1, 1]]), real)
    with pytest.raises(ValueError, match="one shape"):
        Suffix(ids, torch.tensor([[-1]]), real)
