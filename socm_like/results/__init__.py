"""What the tasks of a run computed: tables, statistics, figures, reports."""
