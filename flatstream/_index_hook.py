"""What opening a file needs of indexes, which are a layer above: their package registers it."""
