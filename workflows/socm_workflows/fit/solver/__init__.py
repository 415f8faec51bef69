"""The numerics of least squares: data and a model -> sums -> steps -> parameters; one for all strategies."""
