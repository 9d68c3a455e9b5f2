"""Takes podwire off a node without stranding a pod, and proves that nothing of it is left."""
