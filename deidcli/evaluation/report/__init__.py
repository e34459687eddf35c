"""Reports: results as a page that people read, with plots, tables and a summary in plain words; and as tables of text.

Pages are Jinja2 templates (`templates/`), each one self-contained file without scripts; plots are matplotlib's.
"""
