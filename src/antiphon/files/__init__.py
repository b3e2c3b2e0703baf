"""Files, and finding things in them: parsing, chunking, embedding, ingestion, search, citations.

The endpoints, the worker that takes files in, and the ``file_search`` tool share this package. What is kept lies behind
the ports in ``store``.
"""
