"""Any PyTorch model under any learning rule here: `attach` it, train it as before, `measure` what it is told.

`mdfa_core.feedback.lightning` has the callback for Lightning and is imported by those who have that package.
"""

from mdfa_core.feedback.attached import Attached, attach
from mdfa_core.feedback.measuring import Measurement, measure
from mdfa_core.feedback.tensorboard import TensorBoard

__all__ = ["Attached", "Measurement", "TensorBoard", "attach", "measure"]
