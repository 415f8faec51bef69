"""The ``optimize`` kind: adaptive search over the parameters of another workflow."""
