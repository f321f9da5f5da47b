"""What files hold, known by their content, and the documents in them; `lmtrain.formats.registry` lists the readers."""
