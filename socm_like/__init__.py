"""Programs written in TOML become results: a campaign manager for computational science."""
