"""Backends that make training faster or smaller without changing its results."""
