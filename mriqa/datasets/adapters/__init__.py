"""One file for each public data set: where its files lie, what its columns mean, and what is odd about them.

Every file holds a `DATA_SET` (`mriqa.datasets.data_set`); `mriqa.datasets.catalogue` has them all by name.
"""
