"""Pre-flight: what is looked at before a run's first update, so that hours of training don't rest on a silent fault.

`check_table` lists the checks, a file each. They come in two stages: those that need settings and data only go before
the model is loaded, the others are made on the trainer itself.
"""
