"""One file a verb: the order of effects, nothing else. What is wanted is decided in attach and
filter; what is there, and how to change it, is the kernel's business behind `ports`."""
