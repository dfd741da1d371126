"""Problems to optimize whose solution is known: one file each, functions that return a `Problem`."""
