"""HTML pages of results, from plain values and Jinja2 templates. Nothing here reads a store or a data set."""
