"""CSV tables of a shop, checked and read into an `InteractionDataset`."""
