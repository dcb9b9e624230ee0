"""One module for each format: ``read``, and ``write`` where scores can be exported."""
