"""One script per claim: Tandem beside a baseline or its peers, on the same machine.

`uv run python -m benchmarks.NAME [--quick] [--json]`; docs/benchmarks.md says what each
measures.
"""
