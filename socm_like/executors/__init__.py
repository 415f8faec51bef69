"""How tasks get to a machine: one contract (:mod:`socm_like.executors.base`), one adapter per engine."""
