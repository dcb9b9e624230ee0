"""What is done to gradients or to the function they are taken of: Adam scales, token signs, autocast."""
