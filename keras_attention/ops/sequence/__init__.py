"""Token mixing by convolution along a sequence."""
