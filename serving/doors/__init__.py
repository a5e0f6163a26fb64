"""Front doors: what users meet, before a Triton that listens for its own machine alone.

A door is a process of its own, `python -m serving.doors`, which asks the server by `serving.client`; `process` starts
one and keeps it alive. It refuses by itself what a server cannot: a body that is too large while it is read, a
connection that says nothing, a key that is unknown, a request that costs more than it may.
"""
