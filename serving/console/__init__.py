"""What the console page shows beyond the public routes, and the page itself in `page/`."""
