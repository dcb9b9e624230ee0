"""What ``trak report`` collects from a store and its data sets, as plain values for the page."""
