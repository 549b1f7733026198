"""The wire: message values, their schema and the one codec. docs/protocol.md is normative."""
