"""The ``fit`` kind: nonlinear least squares of a model to a table of data."""
