"""What outlives a process: directories, locks, keys, and the table/key/value store."""
