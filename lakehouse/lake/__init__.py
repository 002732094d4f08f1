"""Tables of the lake: Delta, MERGE, the ledger, change sets, quarantine."""
