"""Make sure that the planned cells exist: client, counters and the campaign over them."""
