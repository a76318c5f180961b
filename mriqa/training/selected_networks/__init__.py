"""Models trained on what a selector kept: ridge regression, a vision network, classes of images, and pruning."""
