"""Dynamic batching: many requests in, few model runs out, the most urgent first.

`BatchQueue` decides, with the time as an argument and without a thread; `Batcher` owns the one worker thread that runs
the model. What is promised:

* a batch never exceeds `max_batch_size`, and never waits longer than `max_delay_s` for company; when the worker is idle
  and requests come further apart than that, it does not wait at all;
* the earliest deadline goes first; work whose deadline has passed or whose client has gone is dropped before computing;
* a full queue refuses at once (`QueueFull` with the seconds after which trying again makes sense);
* an item that breaks the model fails alone: the batch is halved until the culprit is found;
* every ticket is answered, whatever the model, a client or a cancellation does.
"""

from bowerbird.batching.queue import BatchQueue, Entry, Taken, Ticket
from bowerbird.batching.worker import Batcher

__all__ = ["BatchQueue", "Batcher", "Entry", "Taken", "Ticket"]
