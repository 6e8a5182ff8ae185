"""The embedded stack: real servers from wheels as child processes, on loopback, that never outlive their parent.

Import from the modules; this package imports nothing, so that `environment` runs before anything is installed.
"""
