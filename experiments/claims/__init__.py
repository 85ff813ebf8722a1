"""What the abstracts of both papers claim, measured: one module per claim, all at once by `make claims`.

    python -m experiments.claims                    # all, at the size for a CPU; goes on where it stopped
    python -m experiments.claims b f --size tiny    # two of them, in a minute, to see that they work
    python -m experiments.claims --size large       # on a GPU

Each prints a table and leaves <letter>.json and <letter>.png in `runs/claims/<size>`. Those of size `small`
are also written into experiments/RESULTS.md, once all claims that it tells of are there. The pictures that
networks learn from are drawn (`figures`), so nothing needs to be downloaded; every training is kept
(`training`), so nothing is computed twice.
"""
