"""Real servers for tests: started on free ports of 127.0.0.1, killed, started again, removed.

All of it blocks: in a test that has an event loop, call what waits by `asyncio.to_thread`.
"""
