"""Who may do what over HTTP, and how much of it: plain ASGI middleware around all routes."""
