"""The towers as served: exactly the modules that are copied beside each version in Triton."""
