"""The CNI specification as code: bytes and environment in, values out. Nothing here does I/O."""
