"""Tables: files, columns, their kinds, and the spelling of numbers."""
