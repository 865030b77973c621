"""One repository for each noun of the catalogue. `Tracking` has one of each as an attribute."""
