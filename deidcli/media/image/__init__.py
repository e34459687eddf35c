"""Still pictures and animations: one file a format, and a reader and a writer over all of them."""
