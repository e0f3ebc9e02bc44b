"""One benchmark suite: ucxnb beside its peers, in turns, on one machine."""
