"""What the program writes while a stage runs."""
