"""The one place that knows of ranks.

- ``ranks``: who is there, whether all agree, failing together
- ``sharing``: who does which part of a topology update, and how its result reaches the others
- ``exchange``: the gradients of the links alone, between ranks
- ``wrappers``: models that hide their weights from a mask
"""
