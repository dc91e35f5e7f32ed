"""Notebooks executed: papermill on warm kernels, a record that is whole and true."""
