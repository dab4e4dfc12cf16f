"""Tables: files, columns, kinds of columns, and the spelling of numbers."""
