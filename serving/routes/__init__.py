"""The routes of the HTTP service: one file a resource, each a function of the parts that it works on."""
