"""The experiment of text_bert.py on a model that is trained by AdamW, with and without the scaling of gradients by Adam.

python scripts/experiments/text_bert_adamw.py
"""

from text_bert import evaluate

if __name__ == "__main__":
    evaluate("text_bert_adamw")
