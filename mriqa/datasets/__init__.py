"""Public image quality data sets: from their official folders to manifests, splits, and the audit for leaks."""
