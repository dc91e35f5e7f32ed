"""What a run leaves: the ledger, the run folder, manifests and signatures."""
