"""A small shop: its meeting room, its product texts, its stock."""
