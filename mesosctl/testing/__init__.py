"""Suites that plug-ins are held to; import them into a test of your own."""
