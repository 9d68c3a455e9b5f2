"""Frees what the dead left behind, for runtimes that never call GC.

`evidence` and `life` say who is alive and why it is thought so, `decide` who may be freed: values
in, values out. `observe` is the one module that reads the evidence; `reconciler` acts.
"""
