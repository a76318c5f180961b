"""The shards of a scoring job on a Ray cluster."""
