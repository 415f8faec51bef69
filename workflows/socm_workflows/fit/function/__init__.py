"""``fit()`` and ``curve_fit()``: what Python users call, and the one result they get."""
