"""What the command line does, as functions: looking at files, checking, merging and converting them."""
