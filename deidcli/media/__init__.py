"""Files in, files out: every format behind one reader and one writer."""
