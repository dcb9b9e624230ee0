"""What f(z; θ) is, for each kind of model: the Task contract and its members."""

from trak_cli.tasks.classification import BinaryClassification, Classification
from trak_cli.tasks.contrastive import Contrastive, OpenCLIP
from trak_cli.tasks.margin import margin
from trak_cli.tasks.regression import Regression
from trak_cli.tasks.task import SampleError, Task

__all__ = ["BinaryClassification", "Classification", "Contrastive", "OpenCLIP", "Regression", "SampleError", "Task", "margin"]
