"""Each module measures one thing on this machine, prints its tables and writes its figures to docs/figures/; the tables
of the documentation are made from those files by `python -m benchmarks.report`.
"""
