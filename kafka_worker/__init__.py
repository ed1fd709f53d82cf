"""Both ends of the queue: the consumer of commands and its client."""
