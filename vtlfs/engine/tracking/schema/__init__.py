"""The tables of the catalogue, and the migrations from one version of the tables to the next."""
