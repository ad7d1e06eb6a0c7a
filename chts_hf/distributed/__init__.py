"""The one place that knows of ranks.

- ``ranks``: who is there, whether all agree, failing together
- ``sharing``: who does which part of a topology update, and how its result reaches the others
- ``layout``: which part of the weights this rank holds, and how it sees the rest
- ``exchange``: the gradients of the links alone, between ranks
- ``shared_weights``: models that accelerate does not shard as they are
- ``trainer``: what the Trainer must be told, or not be asked for, where weights are sharded
- ``wrappers``: models that hide their weights from a mask
"""
