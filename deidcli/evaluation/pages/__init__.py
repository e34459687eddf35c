"""Pages: results as a page that people read, with plots, tables and a summary in plain words. No scripts, one file."""
