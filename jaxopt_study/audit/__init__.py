"""Are the derivatives of a function right? `check_derivatives` looks, a `Report` says where not."""
