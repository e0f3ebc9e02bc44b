"""ucxnb: see UCX move, from a notebook."""
