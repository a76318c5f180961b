"""Mixtures of manifests: what each part is, what is chosen from it, and the file that says so."""
