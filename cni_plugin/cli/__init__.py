"""The command line: what `podwire` is when no runtime calls it."""
