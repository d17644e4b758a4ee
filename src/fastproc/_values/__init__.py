"""Pure values: commands, plans, results and state tables. No file, clock, descriptor or thread is touched here."""
