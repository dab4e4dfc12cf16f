"""Tables: files, columns, kinds and the spelling of numbers."""
