"""promote: an act, not a cached stage. Gate, package, registry, ledger, approvals, the champion."""
