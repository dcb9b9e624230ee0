"""`trak submit`: which work is missing, the tasks that do it, and following them."""
