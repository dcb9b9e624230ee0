"""Reading checkpoint files, and deriving ensemble members from them."""
