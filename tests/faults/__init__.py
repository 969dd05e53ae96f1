"""The fault list: what can be wrong, by name, and the promise that is kept all the same."""
