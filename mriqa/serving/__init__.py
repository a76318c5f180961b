"""`mriqa serve`: scores over HTTP, with batches across requests, bounded memory and no way in but the upload."""
