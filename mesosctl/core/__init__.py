"""One pure machine per role: events in, effects out. No clock, no socket, no file, no chance."""
