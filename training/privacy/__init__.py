"""What protects the people behind the numbers. Pure: numbers in, numbers out; no database, no clock, no framework."""
