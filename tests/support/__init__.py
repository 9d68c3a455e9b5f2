"""What the suites stand on: nodes and pods with a real kernel, and observers."""
