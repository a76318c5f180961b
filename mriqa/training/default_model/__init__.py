"""How recipes/default_model.py chooses among candidates, and what the card of the chosen one says."""
