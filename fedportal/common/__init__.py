"""The ground floor of the portal: ids, clock, transactions, jobs, blobs, bells. It knows no app."""
