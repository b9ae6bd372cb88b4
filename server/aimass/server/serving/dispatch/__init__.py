"""From a request to a worker and back: queues, batches, versions, shares."""
