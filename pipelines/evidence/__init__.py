"""The evidence for the claims of `docs/papers.md`: one command a table, resumable, each with seeds and intervals.

python -m pipelines.evidence TABLE [--seeds 3] [--budget-minutes M] [--quick]
"""
