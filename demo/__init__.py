"""The demo data set, its training script and the sample media.

Everything here is drawn by the project itself, so that the demo model, the pictures in the documentation and the
accuracy figures depend on nobody else's data. Read `numeric -> shapes -> sprite -> objects -> backdrop -> scene ->
camera -> dataset`.
"""
