"""The same measures on many small models: how much of what the ledger says is the seed, the shape, the data?

`plan` reads which models there are to be, `run` makes and measures them, `results` has what was found.
"""
