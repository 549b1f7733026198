"""Who gets which resources: policies behind a small interface. They return grants, never send."""
