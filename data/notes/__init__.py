"""Tell what in a data set may not be as the user expects, and which models fit it."""
