"""The tables of the catalogue, and how a database comes from one version of them to the next."""
