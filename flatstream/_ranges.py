"""The bytes of a stream, read at offsets: of plain files, sealed ones and URLs."""
