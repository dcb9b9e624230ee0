"""Reading a part of a file whose digest covers all of it."""
