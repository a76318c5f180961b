"""What recipes/conord.py is made of: its options, its runs over splits and tests, and their tables."""
