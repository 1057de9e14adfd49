"""An arm on the air: rendering its launch, starting and stopping it, reading its log."""
