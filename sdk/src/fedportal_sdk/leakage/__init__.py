"""The leakage audit: what can be told of rows from what the portal holds of updates and models."""
