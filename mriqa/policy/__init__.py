"""GRPO for scores, on TRL: the trainer, its data, its checks, validation by rank correlation, safe checkpoints.

Importing this package is light; its modules import TRL (several seconds) and are imported where they are used.
"""
