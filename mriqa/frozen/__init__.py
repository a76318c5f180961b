"""What frozen encoders give, computed once per picture: a store of features, and vision towers that answer from it.

A frozen encoder gives the same features for the same picture for ever. `mriqa.frozen.store` keeps them in memory and on
disk under keys that its callers make; `mriqa.frozen.cached_tower` puts it before the vision tower of a model, the
embedded one like any other; `mriqa.features` keeps the rows of its encoders there.
"""
