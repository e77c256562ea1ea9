"""Pictures: bringing them in, looking at each of them once, saying what is wrong, setting aside, buckets."""
