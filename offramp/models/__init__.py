"""Model families, one a file: config.json and tensor names in, `Model` out."""
