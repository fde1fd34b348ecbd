"""`python -m keras_attention` is the command line too."""

from keras_attention.cli import main

main()
