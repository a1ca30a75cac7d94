"""Images and patches: which images make up a set, how low resolution is made, how patch pairs are stored."""
