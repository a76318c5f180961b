"""Many continuations of one prompt at the cost of reading the prompt once; imports nothing of ours."""

from mriqa.shared_prefix.families import Family, core_of, family_of, why_not_shared
from mriqa.shared_prefix.forward import suffix_log_probs
from mriqa.shared_prefix.suffix import Suffix

__all__ = ["Family", "Suffix", "core_of", "family_of", "suffix_log_probs", "why_not_shared"]
