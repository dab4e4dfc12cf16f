"""What only makes training faster or smaller."""
