"""Value types, codes, errors, parameters, clock and the compiling decorator: what every room may know."""
