"""The shipped kinds, registered through the same entry points as a stranger's."""
