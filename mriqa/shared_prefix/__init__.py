"""Many continuations of one prompt at the cost of reading the prompt once; of ours it imports `answers` only."""

from mriqa.shared_prefix.families import Family, as_attention_mask, core_of, family_of, why_not_shared
from mriqa.shared_prefix.features import POOLINGS, PromptFeatures, prompt_features
from mriqa.shared_prefix.forward import suffix_log_probs
from mriqa.shared_prefix.suffix import Suffix

__all__ = [
    "POOLINGS",
    "Family",
    "PromptFeatures",
    "Suffix",
    "as_attention_mask",
    "core_of",
    "family_of",
    "prompt_features",
    "suffix_log_probs",
    "why_not_shared",
]
