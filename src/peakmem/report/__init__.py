"""What an analysis answers, as plain data with a versioned schema, and its JSON form."""
