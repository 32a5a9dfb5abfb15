"""One module for each HTTP library."""
