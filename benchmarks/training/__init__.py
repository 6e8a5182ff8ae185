"""Training speed of Foretaste's towers beside other libraries."""
