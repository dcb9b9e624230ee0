"""Data sets of every kind that a report shows, over the rows of the tiny project. Their texts try to break out of the page."""

#: What a data set may hold: markup, the end of a script element, template syntax, characters that reverse the text.
HOSTILE = (
    "<script>window.injected = 1</script>",
    '"><img src=x onerror="window.injected = 2">',
    "</script><svg onload=window.injected=3>",
    "{{ 7 * 7 }} {% raw %} ${window.injected = 4} <!--",
    "\u202eright to left\u202c \u2028 & &lt;b&gt;",
)

KINDS = ("image", "text", "table", "pair", "series")

PLUGIN = (
    f"HOSTILE = {HOSTILE!r}\n"
    + '''
import numpy as np


class Described:
    """``kind``: what describe returns."""

    def __init__(self, rows, seed=0, kind="image"):
        self.rows, self.seed, self.kind = rows, seed, kind

    def __len__(self):
        return self.rows

    def __getitem__(self, row):
        raise RuntimeError("a report of described samples with labels needs no sample")

    def describe(self, row):
        generator = np.random.default_rng([self.seed, row])
        label = "<b>cat</b>" if row % 2 else "dog"
        hostile = HOSTILE[row % len(HOSTILE)]
        if self.kind == "image":
            return {"image": generator.random((12, 10, 3)), "label": label, "file": hostile}
        if self.kind == "text":
            words = ["Once", " upon", " ", hostile, " a", " time", "."] + [" more"] * (100 if row == 0 else 0)
            return {"tokens": {"tokens": words, "predicted": [3, 5]}, "label": label}
        if self.kind == "table":
            return {**{f"column <i>{i}": float(generator.normal()) for i in range(11)}, hostile: row, "label": label}
        if self.kind == "pair":
            return {"image": (generator.random((200, 300)) * 255).astype("uint8"), "caption": hostile, "label": label}
        return {"series": generator.normal(size=(500, 2)).cumsum(0), "short": generator.normal(size=9), "label": label}
'''
)
