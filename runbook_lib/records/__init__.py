"""What a run leaves: the ledger, the run folder, the seal."""
