"""The practice Mac: real SSH, real nginx, real plists on loopback, and what can be broken on it."""
