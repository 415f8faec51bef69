"""Many starts instead of one: where they lie, and which are worth going on with."""
