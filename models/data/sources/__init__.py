"""Public data sets as dataset folders."""
