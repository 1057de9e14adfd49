"""Which engines a study may name as ``server.flavour``, and the file in `analysis.servers.engines` that knows each."""

ENGINES = {"vllm": "vllm", "llama.cpp": "llamacpp"}
