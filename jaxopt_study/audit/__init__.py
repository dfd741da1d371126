"""Are the derivatives of a function right? `check_derivatives` looks, its `Report` says where they are not."""
