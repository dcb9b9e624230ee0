"""The experiment of text_bert.py on a model that is trained by AdamW; plain gradients stand beside those in its units.

python scripts/experiments/text_bert_adamw.py
"""

from text_bert import evaluate

if __name__ == "__main__":
    evaluate("text_bert_adamw")
