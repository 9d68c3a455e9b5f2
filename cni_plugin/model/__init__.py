"""What can exist in the kernel, as frozen values; and the difference between two sets of them."""
