"""How a fit is to be done: memory, tiers, presets, files and variables. Nothing here imports JAX."""
