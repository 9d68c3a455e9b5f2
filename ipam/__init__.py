"""File-backed address management: pure allocation plus a store that loses nothing."""
