"""Values of the domain: frozen, without I/O, without a clock."""
