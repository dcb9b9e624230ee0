"""Per-layer gradient rules: per-sample parameter gradients in closed form. ``register_gradient_rule`` adds one of your own."""

# Importing these modules registers the rules of the package, before any of the user's, which take precedence.
from trak_cli.gradients.rules import convolution, embedding, linear, norms
from trak_cli.gradients.rules.registry import register_gradient_rule

__all__ = ["convolution", "embedding", "linear", "norms", "register_gradient_rule"]
