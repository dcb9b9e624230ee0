"""Planted facts traced in a small GPT-2: recall@10 and MRR against BM25, and retraining without the sentences found.

python scripts/experiments/facts_gpt2.py
"""

from __future__ import annotations

from tracing import trace

if __name__ == "__main__":
    trace("facts_gpt2")
