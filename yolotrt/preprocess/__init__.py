"""From pictures to the model's input, and the geometry to get back."""
