"""What files hold, known by their content, and the documents in them; `registry` lists the readers."""
