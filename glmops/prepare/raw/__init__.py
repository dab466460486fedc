"""Raw files of any format → raw frames: fields by name, with file and line; light to import."""
