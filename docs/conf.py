"""Sphinx configuration."""

project = "socm-like"
copyright = "the socm-like authors"
extensions = ["sphinx.ext.autodoc"]
html_theme = "alabaster"
html_theme_options = {"description": "campaign.toml in, results out", "page_width": "1040px"}
nitpicky = True
nitpick_ignore_regex = [("py:.*", r".*")]
autodoc_member_order = "bysource"
exclude_patterns = ["_build"]
