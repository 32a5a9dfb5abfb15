"""What y402 1.1.0 is imported for, kept by x402core: replace ``y402`` by ``x402bind.compat.y402`` in the imports.

The names, arguments and modules are y402's; everything behind them is ours.  Two things are asked for that y402 does not ask:
a paying client needs to be told the most it may pay (``policy=``), and prices are exact or refused, never rounded.
"""
