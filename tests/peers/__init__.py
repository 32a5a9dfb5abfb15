"""Other projects' released packages as peers, each in an environment of its own."""
