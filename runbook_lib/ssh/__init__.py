"""The SSH connection to the Mac: the way there, the connection, HTTP through it."""
